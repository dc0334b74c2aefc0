"""Secrets and the receivers that need them. A secret never stands in a repr, an error or a log.

A secret `url` is given in exactly one of four ways: `url` (in the file itself), `url_file` (a path),
`url_credential` (a file name below $CREDENTIALS_DIRECTORY, systemd's LoadCredential=) or `url_env` (a variable,
the last resort: other processes of the same user can read it). Files are read when the secret is needed, not
when the configuration is, so that `driftd check-config` works for a user who may not see them.
"""

import hashlib
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from monitor.quantities import Duration, parse_duration

Severity = Literal["warning", "critical"]


class SecretError(Exception):
    """A secret that cannot be had; names the key and the place, never the value."""


class Section(BaseModel):
    """A table of the configuration: unknown keys refused, nothing coerced, nothing changed later."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )


def path_beside(value: object, info: ValidationInfo) -> Path:
    """A path; `~` is the home directory, and a relative path stands beside the configuration file."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("not a path; write it in quotes")
    path = Path(value).expanduser()
    base = (info.context or {}).get("directory")
    return Path(base) / path if base is not None else path


def listed(value: object) -> object:
    """TOML has arrays, frozen sections have tuples."""
    return tuple(value) if isinstance(value, list) else value


FilePath = Annotated[Path, BeforeValidator(path_beside)]


def read_secret(
    name: str, inline: SecretStr | None, file: Path | None, credential: str | None, variable: str | None
) -> SecretStr | None:
    """The secret called `name`, from whichever of its four places is given; None where none is.

    One trailing line end is not part of a secret. Raises SecretError when the place is missing, unreadable or empty.
    """
    if inline is not None:
        return inline
    if variable is not None:
        text = os.environ.get(variable)
        if not text:
            raise SecretError(f"{name}_env: the environment has no variable {variable}")
        return SecretStr(text)
    if credential is not None:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise SecretError(
                f"{name}_credential: $CREDENTIALS_DIRECTORY is not set; start driftd as a systemd unit with LoadCredential={credential}:…"
            )
        return _secret_in(f"{name}_credential", Path(directory) / credential)
    return None if file is None else _secret_in(f"{name}_file", file)


def _secret_in(key: str, path: Path) -> SecretStr:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{key}: {path} is not UTF-8 text") from None
    except OSError as error:
        raise SecretError(f"{key}: {path}: {error.strerror}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip() or "\n" in text:
        raise SecretError(f"{key}: {path} should hold the secret on one line and nothing else")
    return SecretStr(text)


def _one_of(section: Section, name: str, required: bool, kinds: tuple[str, ...]) -> None:
    given = [key for key in kinds if getattr(section, key) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both say where {name} is; keep one")
    if required and not given:
        raise ValueError(f"{name} is missing; give one of {', '.join(kinds)}")


_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _credential(value: str | None) -> str | None:
    # Not a path: "../" would leave the directory that systemd made for this unit alone.
    if value is not None and not _PLAIN_NAME.fullmatch(value):
        raise ValueError("a credential is the name of a file in $CREDENTIALS_DIRECTORY, not a path")
    return value


def _bounded_timeout(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= timedelta(seconds=60):
        raise ValueError("a timeout lies between 1s and 60s; a slow receiver is retried, not waited for")
    return value


class Receiver(Section):
    """What Slack and the generic webhook share: an address that is, or may hold, a secret."""

    url: SecretStr | None = None
    url_file: FilePath | None = None
    url_credential: str | None = None
    url_env: str | None = None
    min_severity: Severity = "warning"
    send_resolved: bool = True
    allow_private: bool = False
    timeout: Duration = parse_duration("15s")

    _name_of_credential = field_validator("url_credential")(_credential)

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _http(value)
        return value

    _bounded = field_validator("timeout")(_bounded_timeout)

    @model_validator(mode="after")
    def _one_url(self) -> "Receiver":
        _one_of(self, "url", True, ("url", "url_file", "url_credential", "url_env"))
        return self

    def read_url(self) -> SecretStr:
        """Where to post; raises SecretError."""
        found = read_secret("url", self.url, self.url_file, self.url_credential, self.url_env)
        assert found is not None, "validated: one is given"
        try:
            _http(found)
        except ValueError as error:
            raise SecretError(f"url: {error}") from None
        return found


class DatabaseUrl(Section):
    """Where a database is that several daemons share; empty keys are as good as none."""

    url: SecretStr | None = None
    url_file: FilePath | None = None
    url_credential: str | None = None
    url_env: str | None = None

    _name_of_credential = field_validator("url_credential")(_credential)

    @field_validator("url", "url_file", "url_credential", "url_env", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql(\+psycopg)?)?://", value.get_secret_value()):
            raise ValueError("not an address of PostgreSQL; it begins with postgresql:// (or postgres://)")
        return value

    @model_validator(mode="after")
    def _one_database(self) -> "DatabaseUrl":
        _one_of(self, "the database", False, ("url", "url_file", "url_credential", "url_env"))
        return self

    def read_url(self) -> SecretStr | None:
        """The address of the database, None for SQLite in the state directory; raises SecretError."""
        try:
            return read_secret("url", self.url, self.url_file, self.url_credential, self.url_env)
        except SecretError as error:
            raise SecretError(f"storage.{error}") from None


class SlackReceiver(Receiver):
    """A Slack incoming webhook."""

    type: Literal["slack"]


class WebhookReceiver(Receiver):
    """A generic webhook; signed by Standard Webhooks where it has a secret."""

    type: Literal["webhook"]
    secret: SecretStr | None = None
    secret_file: FilePath | None = None
    secret_credential: str | None = None
    secret_env: str | None = None
    previous_secret: SecretStr | None = None
    previous_secret_file: FilePath | None = None
    previous_secret_credential: str | None = None
    previous_secret_env: str | None = None

    _name_of_secret_credential = field_validator("secret_credential", "previous_secret_credential")(
        _credential
    )

    @model_validator(mode="after")
    def _one_secret(self) -> "WebhookReceiver":
        for name in ("secret", "previous_secret"):
            _one_of(self, name, False, (name, f"{name}_file", f"{name}_credential", f"{name}_env"))
        if self._has("previous_secret") and not self._has("secret"):
            raise ValueError("previous_secret without secret; the one that is valid from now on is missing")
        return self

    def _has(self, name: str) -> bool:
        return any(getattr(self, f"{name}{way}") is not None for way in ("", "_file", "_credential", "_env"))

    def read_secret(self) -> SecretStr | None:
        """The signing secret (`whsec_…`), None for an unsigned webhook; raises SecretError."""
        return read_secret("secret", self.secret, self.secret_file, self.secret_credential, self.secret_env)

    def read_previous_secret(self) -> SecretStr | None:
        """The secret that signs as well while the other side changes over; raises SecretError."""
        return read_secret(
            "previous_secret",
            self.previous_secret,
            self.previous_secret_file,
            self.previous_secret_credential,
            self.previous_secret_env,
        )


class PagerDutyReceiver(Section):
    """A PagerDuty service, by its integration key for the Events API v2."""

    type: Literal["pagerduty"]
    routing_key: SecretStr | None = None
    routing_key_file: FilePath | None = None
    routing_key_credential: str | None = None
    routing_key_env: str | None = None
    endpoint: str = "https://events.pagerduty.com/v2/enqueue"
    min_severity: Severity = "critical"
    send_resolved: bool = True
    allow_private: bool = False
    timeout: Duration = parse_duration("15s")

    _name_of_credential = field_validator("routing_key_credential")(_credential)
    _bounded = field_validator("timeout")(_bounded_timeout)

    @field_validator("endpoint")
    @classmethod
    def _reachable(cls, value: str) -> str:
        _http(SecretStr(value))
        return value

    @model_validator(mode="after")
    def _one_key(self) -> "PagerDutyReceiver":
        kinds = ("routing_key", "routing_key_file", "routing_key_credential", "routing_key_env")
        _one_of(self, "routing_key", True, kinds)
        return self

    def read_routing_key(self) -> SecretStr:
        """The integration key, 32 characters; raises SecretError."""
        found = read_secret(
            "routing_key",
            self.routing_key,
            self.routing_key_file,
            self.routing_key_credential,
            self.routing_key_env,
        )
        assert found is not None, "validated: one is given"
        return found


class HeartbeatTarget(Section):
    """Whom to ping while all is well; the URL is a secret, given as a receiver's is."""

    url: SecretStr | None = None
    url_file: FilePath | None = None
    url_credential: str | None = None
    url_env: str | None = None
    interval: Duration = parse_duration("1m")
    allow_private: bool = False
    timeout: Duration = parse_duration("10s")

    _name_of_credential = field_validator("url_credential")(_credential)
    _bounded = field_validator("timeout")(_bounded_timeout)

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _http(value)
        return value

    @field_validator("interval")
    @classmethod
    def _regular(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=10) <= value <= timedelta(hours=1):
            raise ValueError("an interval lies between 10s and 1h; the watching service waits for several")
        return value

    @model_validator(mode="after")
    def _one_url(self) -> "HeartbeatTarget":
        _one_of(self, "url", True, ("url", "url_file", "url_credential", "url_env"))
        return self

    def read_url(self) -> SecretStr:
        """What to ping; raises SecretError."""
        try:
            found = read_secret("url", self.url, self.url_file, self.url_credential, self.url_env)
            assert found is not None, "validated: one is given"
            _http(found)
        except SecretError as error:
            raise SecretError(f"heartbeat.{error}") from None
        except ValueError as error:
            raise SecretError(f"heartbeat.url: {error}") from None
        return found


class AlertmanagerReceiver(Receiver):
    """One Alertmanager, by its own address; with a header if it stands behind one that asks who we are."""

    type: Literal["alertmanager"]
    watchdog: bool = False
    authorization: SecretStr | None = None
    authorization_file: FilePath | None = None
    authorization_credential: str | None = None
    authorization_env: str | None = None

    _name_of_authorization_credential = field_validator("authorization_credential")(_credential)

    @model_validator(mode="after")
    def _one_authorization(self) -> "AlertmanagerReceiver":
        kinds = ("authorization", "authorization_file", "authorization_credential", "authorization_env")
        _one_of(self, "authorization", False, kinds)
        return self

    def read_authorization(self) -> SecretStr | None:
        """The value of the Authorization header, such as `Bearer …`; None without one; raises SecretError."""
        return read_secret(
            "authorization",
            self.authorization,
            self.authorization_file,
            self.authorization_credential,
            self.authorization_env,
        )


class TeamsReceiver(Receiver):
    """A Teams channel or chat, behind a workflow that posts what a webhook receives."""

    type: Literal["teams"]


class DiscordReceiver(Receiver):
    """A Discord channel's webhook."""

    type: Literal["discord"]


class AppriseReceiver(Receiver):
    """An Apprise API server and one of its keys: `https://…/notify/KEY`."""

    type: Literal["apprise"]


class Token(Section):
    """One caller of the API. Only the digest of a token is ever compared or kept."""

    name: Annotated[str, Field(min_length=1)]
    token_file: FilePath | None = None
    token_credential: str | None = None
    sha256: str | None = None
    scopes: Annotated[tuple[str, ...], BeforeValidator(listed)]

    _name_of_credential = field_validator("token_credential")(_credential)

    @field_validator("sha256")
    @classmethod
    def _digest(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("not a sha256: 64 lower-case hex digits; printf %s TOKEN | sha256sum prints it")
        return value

    @field_validator("scopes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scope in value:
            if scope not in ("read", "operate") and not re.fullmatch(r"ingest:.+", scope):
                raise ValueError(
                    f'"{scope}" is no scope; they are "read", "operate", "ingest:MODEL" and "ingest:*"'
                )
        if not value:
            raise ValueError('a token without scopes opens nothing; give "read", "operate" or "ingest:MODEL"')
        return value

    @model_validator(mode="after")
    def _one_token(self) -> "Token":
        _one_of(self, "the token", True, ("token_file", "token_credential", "sha256"))
        return self

    def read_digest(self) -> str:
        """sha256 of the token, hex; raises SecretError."""
        if self.sha256 is not None:
            return self.sha256
        found = read_secret("token", None, self.token_file, self.token_credential, None)
        assert found is not None, "validated: one is given"
        return hashlib.sha256(found.get_secret_value().encode()).hexdigest()


def _http(url: SecretStr) -> None:
    # The address itself is not repeated: whoever knows a Slack webhook's may post to it.
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", url.get_secret_value()):
        raise ValueError("not an address; it begins with https:// (or http://) and has no spaces")
