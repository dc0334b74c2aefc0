"""What the configuration may say: sections, keys, units, defaults, and what contradicts what.

Every key is explained in config.example.toml, with the reason for its default; a test keeps the two equal.
"""

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from alerts.errors import AlertError
from alerts.identity import LABELS, AlertKind, Severity
from alerts.routing import Matcher, parse_matcher
from detectors.paging import Preset
from monitor.config_rules import PagingPreset, PagingRule, PagingSeverity, SeverityRule
from monitor.config_secrets import (
    AlertmanagerReceiver,
    AppriseReceiver,
    DatabaseUrl,
    DiscordReceiver,
    FilePath,
    HeartbeatTarget,
    PagerDutyReceiver,
    Section,
    SlackReceiver,
    TeamsReceiver,
    Token,
    WebhookReceiver,
    listed,
)
from monitor.quantities import Duration, OptionalDuration, Size, format_duration, parse_duration, parse_size

AnyReceiver = (
    SlackReceiver
    | WebhookReceiver
    | PagerDutyReceiver
    | AlertmanagerReceiver
    | TeamsReceiver
    | DiscordReceiver
    | AppriseReceiver
)

CheckedDuration = Annotated[Duration, Field(validate_default=True)]
"""Checked against other keys, so also where it is not set but they are."""
Share = Annotated[float, Field(gt=0, le=1)]


def pane_fits(seconds: float) -> bool:
    """Whether panes of that length can be stored by whole seconds and rolled up to hours and days."""
    whole = seconds >= 1 and seconds % 1 == 0
    return whole and 86_400 % seconds == 0 and (3_600 % seconds == 0 or seconds % 3_600 == 0)


def panes_kept(pane_seconds: int) -> timedelta:
    """How long panes of that length are kept, in event time behind the newest."""
    if pane_seconds < 3_600:
        return parse_duration("48h")
    return parse_duration("90d") if pane_seconds < 86_400 else parse_duration("730d")


class Server(Section):
    """The HTTP server: ingest, API, web page, metrics."""

    bind: str = "127.0.0.1:8787"
    public_url: Annotated[str, Field(validate_default=True)] = ""
    max_body: Size = parse_size("8MiB")
    max_inflated_body: Size = parse_size("64MiB")
    max_connections: Annotated[int, Field(ge=8, le=65_536)] = 512
    head_timeout: Duration = parse_duration("10s")
    body_timeout: Duration = parse_duration("60s")
    shutdown_timeout: Duration = parse_duration("20s")

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError(
                'not an address; write "HOST:PORT", such as "127.0.0.1:8787", "[::1]:8787" or "0.0.0.0:8787"'
            )
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f'an IPv6 address stands in brackets: "[{host}]:{port}"')
        return value

    @field_validator("public_url")
    @classmethod
    def _link(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return f"http://{info.data['bind']}" if "bind" in info.data else ""
        if not value.startswith(("http://", "https://")):
            raise ValueError("a link begins with https:// or http://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _inflates(self) -> "Server":
        if self.max_inflated_body < self.max_body:
            raise PydanticCustomError(
                "inflated_below_body",
                "smaller than max_body, but an uncompressed body counts against both; raise it too",
                {"at": ("server", "max_inflated_body")},
            )
        return self

    @property
    def host(self) -> str:
        """The host to listen on, without brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return int(self.bind.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect; a host name other than localhost is taken for one that others reach."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def default_state_dir() -> Path:
    """systemd's $STATE_DIRECTORY (the first, where it names several), else the user's own state directory."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    state_home = os.environ.get("XDG_STATE_HOME")
    return (Path(state_home) if state_home else Path.home() / ".local" / "state") / "driftd"


class Storage(DatabaseUrl):
    """Where state is kept, and how much of it."""

    state_dir: FilePath = Field(default_factory=default_state_dir)
    payload_retention: Duration = parse_duration("7d")
    payload_bytes: Size = parse_size("5GiB")
    queue_bytes: Size = parse_size("64MiB")
    event_wait: Duration = parse_duration("10m")
    event_bytes: Size = parse_size("256MiB")
    max_labels: Annotated[int, Field(ge=1_000)] = 20_000_000


class Auth(Section):
    """Who may call. No tokens: anyone on this machine, and nobody else."""

    tokens: Annotated[tuple[Token, ...], BeforeValidator(listed)] = ()

    @field_validator("tokens")
    @classmethod
    def _told_apart(cls, value: tuple[Token, ...]) -> tuple[Token, ...]:
        names = [token.name for token in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two tokens are called {', '.join(twice)}; the audit log tells callers apart by name"
            )
        return value


class EffectThresholds(Section):
    """The smallest shift of one column that may page, for all windows, in place of the built-in table."""

    ks: Share | None = None
    psi: Annotated[float, Field(gt=0)] | None = None
    shift: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_distance(self) -> "EffectThresholds":
        if self.ks is not None and self.shift is not None:
            raise ValueError("ks and shift both say how large a distance must be; keep one")
        return self


class PerformanceLimits(Section):
    """How right the predictions of one column must turn out to be."""

    accuracy: Share | None = None
    mean_absolute_error: Annotated[float, Field(gt=0)] | None = None


class ModelSettings(Section):
    """How a model is watched. The order of the fields matters: later ones are checked against earlier ones."""

    pane: Duration = parse_duration("1m")
    windows: Annotated[tuple[Duration, ...], BeforeValidator(listed), Field(validate_default=True)] = tuple(
        map(parse_duration, ("15m", "1h", "6h", "24h"))
    )
    evidence_block: CheckedDuration = parse_duration("1m")
    learning: bool = True
    lateness: Duration = parse_duration("60s")
    max_past: CheckedDuration = parse_duration("24h")
    first_batch_max_past: CheckedDuration = parse_duration("730d")
    max_future: Duration = parse_duration("5m")
    false_pages_per_year: Annotated[float, Field(gt=0, le=1_000)] = 0.1
    keep_rows: bool = True
    labels_mature_after: OptionalDuration = None
    performance: Mapping[str, PerformanceLimits] = Field(default_factory=dict)
    segments: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    ignore: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    weights: Mapping[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    effect: Mapping[str, EffectThresholds] = Field(default_factory=dict)
    preset: PagingPreset = Preset.AUTO
    rule: PagingRule = None
    severity: PagingSeverity = SeverityRule()
    no_traffic_after: OptionalDuration = parse_duration("15m")
    for_duration: Annotated[Duration, Field(alias="for")] = parse_duration("0s")
    keep_firing_for: Duration = parse_duration("60m")
    page_max_age: OptionalDuration = parse_duration("6h")
    runbook_url: str = ""

    @field_validator("pane")
    @classmethod
    def _divides_a_day(cls, value: timedelta) -> timedelta:
        if not pane_fits(value.total_seconds()):
            raise ValueError(
                "a pane is a whole number of seconds that divides an hour, or of hours that divides a day, "
                'such as "10s", "1m", "1h" or "1d"'
            )
        return value

    @field_validator("windows")
    @classmethod
    def _made_of_panes(cls, value: tuple[timedelta, ...], info: ValidationInfo) -> tuple[timedelta, ...]:
        if not 1 <= len(value) <= 8 or sorted(set(value)) != list(value):
            raise ValueError("give one to eight windows, shortest first, each once")
        pane = info.data.get("pane")
        if not pane:
            return value
        for window in value:
            if window < pane or window % pane:
                raise ValueError(
                    f"{format_duration(window)} is not a multiple of the pane, {format_duration(pane)}"
                )
        kept = panes_kept(int(pane.total_seconds()))
        if value[-1] > kept:
            raise ValueError(
                f"a window is at most {format_duration(kept)} here: panes of {format_duration(pane)} are kept no longer"
            )
        return value

    @field_validator("evidence_block")
    @classmethod
    def _whole_panes(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        pane = info.data.get("pane")
        if pane and (value < pane or value % pane):
            raise ValueError(f"not a multiple of the pane, {format_duration(pane)}")
        return value

    @field_validator("max_past", "first_batch_max_past")
    @classmethod
    def _reaches_back(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("lateness", timedelta(0)):
            raise ValueError("shorter than lateness: rows that are waited for would be refused")
        return value

    @field_validator("no_traffic_after")
    @classmethod
    def _patient(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < timedelta(minutes=1):
            raise ValueError('at least "1m", or "off"')
        return value

    @field_validator("labels_mature_after")
    @classmethod
    def _later(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if value is None:
            return value
        if value < timedelta(minutes=1):
            raise ValueError('at least "1m", or "off"')
        if not info.data.get("keep_rows", True):
            raise ValueError(
                "labels meet the rows of their predictions, which keep_rows = false does not keep"
            )
        return value

    @field_validator("performance")
    @classmethod
    def _known_one_day(
        cls, value: Mapping[str, PerformanceLimits], info: ValidationInfo
    ) -> Mapping[str, PerformanceLimits]:
        if value and info.data.get("labels_mature_after", timedelta(0)) is None:
            raise ValueError("how right predictions are is known from labels; set labels_mature_after")
        return value

    @field_validator("runbook_url")
    @classmethod
    def _link(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("a link begins with https:// or http://")
        return value


class Alerts(Section):
    """How alerts become messages; wall time."""

    group_wait: Duration = parse_duration("30s")
    group_interval: Duration = parse_duration("5m")
    repeat_interval: CheckedDuration = parse_duration("4h")
    digest_at: Annotated[str, Field(pattern=r"^(?:off|(?:[01]\d|2[0-3]):[0-5]\d)$")] = "08:00"

    @property
    def digest_minute(self) -> int | None:
        """Minutes after midnight UTC at which the daily digest goes out; None for never."""
        if self.digest_at == "off":
            return None
        hours, minutes = self.digest_at.split(":")
        return 60 * int(hours) + int(minutes)

    @field_validator("repeat_interval")
    @classmethod
    def _not_more_often(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        interval = info.data.get("group_interval")
        if interval and value < interval:
            raise ValueError(
                f"shorter than group_interval, {format_duration(interval)}, which bounds how often a group speaks"
            )
        return value


class RouteTable(Section):
    """One of [[routes]]: which alerts go to whom, in place of everything to everybody."""

    matchers: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    receivers: Annotated[tuple[str, ...], BeforeValidator(listed)]
    goes_on: Annotated[bool, Field(alias="continue")] = False
    group_wait: Duration | None = None
    group_interval: Duration | None = None
    repeat_interval: Duration | None = None

    @field_validator("matchers")
    @classmethod
    def _meant(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                matcher = parse_matcher(text)
            except AlertError as error:
                raise ValueError(str(error).removeprefix("matchers: ")) from None
            _check_matcher(matcher)
        return value


_WORDS_OF = {"kind": [kind.value for kind in AlertKind], "severity": [word.value for word in Severity]}


def _check_matcher(matcher: Matcher) -> None:
    """Refuse what can match no alert: an unknown label, or a word that its label never has."""
    names = (*LABELS, "severity")
    if matcher.name not in names:
        raise ValueError(f"no alert has a label {matcher.name!r}; they are {', '.join(names)}")
    words = _WORDS_OF.get(matcher.name)
    if words is not None and not any(map(matcher.accepts, words)):
        raise ValueError(f"{matcher} never matches; {matcher.name} is one of {', '.join(words)}")


class Log(Section):
    """The daemon's own log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


def _check_labels(settings: ModelSettings, info: ValidationInfo, place: tuple[str, ...]) -> None:
    """Refuse labels that would come when the rows they are of are gone."""
    storage, after = info.data.get("storage"), settings.labels_mature_after
    if storage is not None and after is not None and after >= storage.payload_retention:
        raise PydanticCustomError(
            "labels_after_rows",
            "labels would meet no rows: those are kept for {kept}; raise storage.payload_retention beyond it",
            {
                "kept": format_duration(storage.payload_retention),
                "at": (*place, "labels_mature_after"),
            },
        )


ReceiverName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class Config(Section):
    """The whole file. `auth` comes after `server`, because it is checked against it."""

    server: Server = Field(default_factory=Server)
    storage: Storage = Field(default_factory=Storage)
    auth: Annotated[Auth, Field(validate_default=True)] = Field(default_factory=Auth)
    defaults: ModelSettings = Field(default_factory=ModelSettings)
    models: Mapping[ModelName, ModelSettings] = Field(default_factory=dict)
    receivers: Mapping[ReceiverName, Annotated[AnyReceiver, Field(discriminator="type")]] = Field(
        default_factory=dict
    )
    alerts: Alerts = Field(default_factory=Alerts)
    routes: Annotated[tuple[RouteTable, ...], BeforeValidator(listed)] = ()
    heartbeat: HeartbeatTarget | None = None
    log: Log = Field(default_factory=Log)

    @model_validator(mode="before")
    @classmethod
    def _overlay(cls, data: Any) -> Any:
        # A model's table is checked as it will be used: over the defaults, key by key.
        if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
            return data
        defaults = data.get("defaults")
        defaults = defaults if isinstance(defaults, dict) else {}
        models = {
            name: {**defaults, **table} if isinstance(table, dict) else table
            for name, table in data["models"].items()
        }
        return {**data, "models": models}

    @field_validator("defaults")
    @classmethod
    def _labels_in_time(cls, value: ModelSettings, info: ValidationInfo) -> ModelSettings:
        _check_labels(value, info, ("defaults",))
        return value

    @field_validator("models")
    @classmethod
    def _labels_of_each_in_time(
        cls, value: Mapping[str, ModelSettings], info: ValidationInfo
    ) -> Mapping[str, ModelSettings]:
        for name, settings in value.items():
            _check_labels(settings, info, ("models", name))
        return value

    @field_validator("auth")
    @classmethod
    def _closed_to_strangers(cls, value: Auth, info: ValidationInfo) -> Auth:
        server = info.data.get("server")
        if server is not None and not server.is_loopback and not value.tokens:
            raise PydanticCustomError(
                "open_bind",
                "other machines could reach this address, and nothing would ask who they are; "
                'add [[auth.tokens]], or bind "127.0.0.1:{port}"',
                {"port": server.port, "at": ("server", "bind")},
            )
        return value

    @field_validator("routes")
    @classmethod
    def _lead_somewhere(cls, value: tuple[RouteTable, ...], info: ValidationInfo) -> tuple[RouteTable, ...]:
        receivers, general = info.data.get("receivers"), info.data.get("alerts")
        if receivers is None or general is None:
            return value  # their own mistakes are reported
        for position, table in enumerate(value):
            unknown = [name for name in table.receivers if name not in receivers]
            if unknown:
                known = ", ".join(receivers) or "none"
                raise PydanticCustomError(
                    "unknown_receiver",
                    "no such receiver: {unknown}; configured are {known}",
                    {
                        "unknown": ", ".join(unknown),
                        "known": known,
                        "at": ("routes", position, "receivers"),
                    },
                )
            interval = general.group_interval if table.group_interval is None else table.group_interval
            repeat = general.repeat_interval if table.repeat_interval is None else table.repeat_interval
            if repeat < interval:
                key = "group_interval" if table.repeat_interval is None else "repeat_interval"
                raise PydanticCustomError(
                    "repeats_too_often",
                    "this route would repeat every {repeat}, more often than its group_interval of {interval} allows",
                    {
                        "repeat": format_duration(repeat),
                        "interval": format_duration(interval),
                        "at": ("routes", position, key),
                    },
                )
        return value

    def settings(self, model: str) -> ModelSettings:
        """How `model` is watched: its own table over [defaults], or [defaults] alone."""
        return self.models.get(model, self.defaults)
