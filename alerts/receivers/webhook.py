"""Generic webhook: Alertmanager's body, version "4", with our own field `driftd`, signed by Standard Webhooks.

Sources: Alertmanager's webhook configuration reference; the Standard Webhooks specification.
"""

from collections.abc import Sequence
from datetime import datetime

from alerts.errors import AlertError
from alerts.identity import fingerprint
from alerts.message import (
    PAGE,
    AlertDetail,
    IncidentMessage,
    Json,
    MessageStatus,
    as_json,
    json_bytes,
)
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request, excerpt
from alerts.prometheus import annotations_of, labels_of
from alerts.retry import classify
from alerts.signing import sign, signing_key
from alerts.times import rfc3339

SHOWN_ALERTS = 30
_ZERO_TIME = "0001-01-01T00:00:00Z"  # Go's zero time: Alertmanager's way to say "not over"


class WebhookReceiver:
    """Any HTTP endpoint that speaks Alertmanager's webhook format or ours."""

    kind = "webhook"
    spacing_seconds = 0.0

    def __init__(self, settings: ReceiverSettings) -> None:
        if len(settings.secrets) > 2:
            raise AlertError("secrets: at most two, the new one and the old one while rotating")
        for secret in settings.secrets:
            signing_key(secret)
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """One body for all attempts; alerts beyond the first 30 in rank are left out and counted."""
        shown = message.alerts[:SHOWN_ALERTS]
        alerts = [_alert(message, detail) for detail in shown]
        group = {"class": message.kind_class.value, "model": message.model, "segment": message.segment}
        body: dict[str, Json] = {
            "version": "4",
            "groupKey": message.group_key,
            "truncatedAlerts": len(message.alerts) - len(shown),
            "status": _status(message.status),
            "receiver": self.settings.name,
            "groupLabels": {name: value for name, value in group.items() if value},
            "commonLabels": _common([labels_of(detail) for detail in shown]),
            "commonAnnotations": _common([annotations_of(message, detail) for detail in shown]),
            "externalURL": message.link(PAGE),
            "notification_reason": message.reason,
            "alerts": list(alerts),
            "driftd": as_json(message, SHOWN_ALERTS),
        }
        return Rendered(body=json_bytes(body))

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes, with a signature over exactly those bytes and the time of this attempt."""
        secrets = self.settings.secrets
        signed = sign(secrets, message_id, now, rendered.body) if secrets else {"webhook-id": message_id}
        return self.settings.post(rendered, more=signed)

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply; a refusal is quoted, cut and without secrets, for whoever has to repair it."""
        return excerpt(classify(reply), reply, self.settings, quoted=(OutcomeKind.POISON, OutcomeKind.BROKEN))


def _status(status: MessageStatus) -> str:
    # Version 4 knows two words; a test has to look like the real thing to whoever reads it.
    return "resolved" if status is MessageStatus.RESOLVED else "firing"


def _alert(message: IncidentMessage, detail: AlertDetail) -> Json:
    labels = labels_of(detail)
    resolved = detail.status is MessageStatus.RESOLVED and detail.ends_at is not None
    return {
        "status": _status(detail.status),
        "labels": dict(labels),
        "annotations": dict(annotations_of(message, detail)),
        "startsAt": rfc3339(detail.starts_at),
        "endsAt": rfc3339(detail.ends_at) if resolved and detail.ends_at is not None else _ZERO_TIME,
        "generatorURL": detail.page,
        "fingerprint": fingerprint(labels),
    }


def _common(sets: Sequence[dict[str, str]]) -> dict[str, Json]:
    """The pairs that all of them share."""
    if not sets:
        return {}
    return {n: v for n, v in sets[0].items() if all(other.get(n) == v for other in sets[1:])}
