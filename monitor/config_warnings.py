"""What a configuration may say but had better not."""

import stat
from collections.abc import Iterator
from pathlib import Path

from detectors.paging import Preset
from monitor.config_schema import Config, ModelSettings
from monitor.config_secrets import (
    AlertmanagerReceiver,
    PagerDutyReceiver,
    Receiver,
    SecretError,
    Token,
    WebhookReceiver,
)
from monitor.quantities import format_duration
from monitor.routes import check_routes
from monitor.rule_rates import rates_of


def check(config: Config) -> list[str]:
    """Warnings, each `key.path: what, and what to do`. Reads the secrets' files, to say which cannot be read."""
    return [
        *_server(config),
        *_storage(config),
        *_tokens(config),
        *_receivers(config),
        *check_routes(config),
        *_heartbeat(config),
        *_models(config),
    ]


def _server(config: Config) -> Iterator[str]:
    server = config.server
    if server.is_loopback:
        return
    if not server.public_url.startswith("https://"):
        yield (
            "server.bind: tokens and predictions travel unencrypted beyond this machine; put a TLS proxy in front, "
            "and set server.public_url to its https:// address"
        )
    if server.host in ("0.0.0.0", "::") and server.host in server.public_url:  # noqa: S104 - compared, not bound
        yield f"server.public_url: links in messages would lead to {server.public_url}; give the address people reach"


def _storage(config: Config) -> Iterator[str]:
    storage = config.storage
    if storage.url is not None:
        yield "storage.url: a secret in a file that people share; move it to a file of its own, named by url_file"
    try:
        storage.read_url()
    except SecretError as error:
        yield str(error)
    if storage.url_file is not None:
        yield from _private("storage.url_file", storage.url_file)


def _tokens(config: Config) -> Iterator[str]:
    for index, token in enumerate(config.auth.tokens):
        yield from _readable(f"auth.tokens[{index}]", token)
    scopes = {scope for token in config.auth.tokens for scope in token.scopes}
    if scopes and not any(scope.startswith("ingest:") for scope in scopes):
        yield "auth.tokens: none may ingest, so no prediction will arrive"


def _receivers(config: Config) -> Iterator[str]:
    if not config.receivers:
        yield "receivers: there are none, so nobody is told of an alert; add [receivers.NAME]"
    for name, receiver in config.receivers.items():
        place = f"receivers.{name}"
        yield from _readable(place, receiver)
        if isinstance(receiver, PagerDutyReceiver):
            if receiver.routing_key is not None:
                yield f"{place}.routing_key: a secret in a file that people share; move it to a file of its own, named by routing_key_file"
            continue
        if isinstance(receiver, AlertmanagerReceiver):
            if receiver.authorization is not None:
                yield f"{place}.authorization: a secret in a file that people share; move it to a file of its own, named by authorization_file"
            continue  # its address is no secret
        if receiver.url is not None:
            yield f"{place}.url: a secret in a file that people share; move it to a file of its own, named by url_file"
        if isinstance(receiver, WebhookReceiver):
            for key in ("secret", "previous_secret"):
                if getattr(receiver, key) is not None:
                    yield f"{place}.{key}: a secret in a file that people share; move it to a file of its own, named by {key}_file"
            if not any(
                (receiver.secret, receiver.secret_file, receiver.secret_credential, receiver.secret_env)
            ):
                yield f"{place}: no secret, so the other side cannot tell our messages from anyone's"


def _heartbeat(config: Config) -> Iterator[str]:
    target = config.heartbeat
    if target is None:
        return
    if target.url is not None:
        yield "heartbeat.url: a secret in a file that people share; move it to a file of its own, named by url_file"
    try:
        if target.read_url().get_secret_value().startswith("http://") and not target.allow_private:
            yield "heartbeat: pings to an http:// address travel unencrypted"
    except SecretError as error:
        yield str(error)


_FILES = (
    "url_file",
    "secret_file",
    "previous_secret_file",
    "routing_key_file",
    "authorization_file",
    "token_file",
)


def _readable(place: str, holder: Receiver | PagerDutyReceiver | Token) -> Iterator[str]:
    try:
        if isinstance(holder, Token):
            holder.read_digest()
        elif isinstance(holder, PagerDutyReceiver):
            holder.read_routing_key()
        else:
            url = holder.read_url().get_secret_value()
            if url.startswith("http://") and not holder.allow_private:
                yield f"{place}: messages to an http:// address travel unencrypted"
            if isinstance(holder, AlertmanagerReceiver):
                holder.read_authorization()
            if isinstance(holder, WebhookReceiver):
                holder.read_secret()
                holder.read_previous_secret()
    except SecretError as error:
        yield f"{place}.{error}"
    for key in _FILES:
        path = getattr(holder, key, None)
        if path is not None:
            yield from _private(f"{place}.{key}", path)


def _private(place: str, path: Path) -> Iterator[str]:
    try:
        if path.stat().st_mode & stat.S_IROTH:
            yield f"{place}: every user of this machine can read {path}; chmod 600 it"
    except OSError:
        return  # said elsewhere, with its reason


def _models(config: Config) -> Iterator[str]:
    for place, settings in [
        ("defaults", config.defaults),
        *((f"models.{n}", s) for n, s in config.models.items()),
    ]:
        if place == "defaults" or settings.rule != config.defaults.rule:
            yield from _classic(place, settings)
        if (
            settings.preset is Preset.C
            and not settings.learning
            and (place == "defaults" or settings != config.defaults)
        ):
            yield (
                f"{place}.preset: C allows for what a column was seen to do by nature, but with learning = false nothing "
                'is ever learned; keep "auto", or set learning = true'
            )
        if place == "defaults" or settings.false_pages_per_year != config.defaults.false_pages_per_year:
            yield from _budget(place, settings)
        both = sorted(set(settings.ignore) & (set(settings.weights) | set(settings.effect)))
        if both and (place == "defaults" or settings != config.defaults):
            yield f"{place}.ignore: {', '.join(both)} is ignored, so its weight and thresholds have no effect"
        if not settings.keep_rows and (place == "defaults" or config.defaults.keep_rows):
            yield (
                f"{place}.keep_rows: false keeps counts alone: a new baseline begins without the rows before it, and neither "
                "`driftd baseline accept` nor `build --from-traffic` finds any; a backtest goes by what was counted"
            )
        longest = settings.windows[-1]
        if settings.keep_rows and config.storage.payload_retention < longest:
            yield (
                f"{place}.windows: rows are kept {format_duration(config.storage.payload_retention)}, less than the "
                f"window of {format_duration(longest)}; `driftd baseline accept` would not find them all"
            )


def _classic(place: str, settings: ModelSettings) -> Iterator[str]:
    if settings.rule is None:
        return
    simulated, rates = rates_of(settings.rule)
    yield (
        f"{place}.rule: false_pages_per_year does not cover {settings.rule}; simulated over 24 h on 36 columns in which "
        f"nothing changed, {simulated} {', and '.join(map(str, rates))} (docs/statistics-tables.md)"
    )
    if settings.effect:
        yield f"{place}.effect: thresholds of driftd's own rule; those of columns that {settings.rule} judges have no effect"


def _budget(place: str, settings: ModelSettings) -> Iterator[str]:
    if settings.false_pages_per_year > 12:
        yield f"{place}.false_pages_per_year: {settings.false_pages_per_year:g} is more than a false page a month, for each model"
    if settings.weights and not any(settings.weights.values()):
        yield f"{place}.weights: all are 0, so no drift of these columns will ever page"
