"""The configured receivers, built from the configuration with their secrets read."""

from collections.abc import Mapping

from pydantic import SecretStr

from alerts.identity import Severity
from alerts.ports import Receiver, ReceiverSettings, Secret
from alerts.receivers.registry import build
from monitor.config import Config
from monitor.config_secrets import PagerDutyReceiver, SlackReceiver, WebhookReceiver


def build_receivers(config: Config) -> Mapping[str, Receiver]:
    """Every receiver by name. Raises SecretError or AlertError, naming the receiver's key, never a secret."""
    return {name: build(_settings(name, entry)) for name, entry in config.receivers.items()}


def _settings(name: str, entry: SlackReceiver | WebhookReceiver | PagerDutyReceiver) -> ReceiverSettings:
    secret: SecretStr | None = None
    if isinstance(entry, PagerDutyReceiver):
        url, secret = entry.endpoint, entry.read_routing_key()
    else:
        url = entry.read_url().get_secret_value()
        if isinstance(entry, WebhookReceiver):
            secret = entry.read_secret()
    return ReceiverSettings(
        name=name,
        kind=entry.type,
        url=Secret(url),
        secrets=() if secret is None else (Secret(secret.get_secret_value()),),
        min_severity=Severity(entry.min_severity),
        send_resolved=entry.send_resolved,
        timeout_seconds=entry.timeout.total_seconds(),
        allow_private=entry.allow_private,
    )
