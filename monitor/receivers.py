"""The configured receivers, built from the configuration with their secrets read."""

from collections.abc import Mapping

from pydantic import SecretStr

from alerts.identity import Severity
from alerts.ports import Receiver, ReceiverSettings, Secret
from alerts.receivers.alertmanager import PUSH_PATH
from alerts.receivers.registry import build
from monitor.config import Config
from monitor.config_schema import AnyReceiver
from monitor.config_secrets import AlertmanagerReceiver, PagerDutyReceiver, WebhookReceiver


def build_receivers(config: Config) -> Mapping[str, Receiver]:
    """Every receiver by name. Raises SecretError or AlertError, naming the receiver's key, never a secret."""
    return {name: build(_settings(name, entry)) for name, entry in config.receivers.items()}


def _settings(name: str, entry: AnyReceiver) -> ReceiverSettings:
    secrets: list[SecretStr | None] = []
    authorization: SecretStr | None = None
    if isinstance(entry, PagerDutyReceiver):
        url, secrets = entry.endpoint, [entry.read_routing_key()]
    else:
        url = entry.read_url().get_secret_value()
        if isinstance(entry, WebhookReceiver):
            secrets = [entry.read_secret(), entry.read_previous_secret()]
        elif isinstance(entry, AlertmanagerReceiver):
            url = url.rstrip("/").removesuffix(PUSH_PATH) + PUSH_PATH
            authorization = entry.read_authorization()
    headers = {} if authorization is None else {"Authorization": authorization.get_secret_value()}
    return ReceiverSettings(
        name=name,
        kind=entry.type,
        url=Secret(url),
        secrets=tuple(Secret(secret.get_secret_value()) for secret in secrets if secret is not None),
        headers=tuple((name, Secret(value)) for name, value in headers.items()),
        min_severity=Severity(entry.min_severity),
        send_resolved=entry.send_resolved,
        timeout_seconds=entry.timeout.total_seconds(),
        allow_private=entry.allow_private,
    )
