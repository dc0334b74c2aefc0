"""PagerDuty Events API v2: one PagerDuty incident per group: trigger, acknowledge, resolve, all under one dedup_key.

Source: PagerDuty's Events API v2 reference. The routing key belongs in the body, so the outbox stores the body
without it and each attempt puts it in; severities are already PagerDuty's four words.
"""

import json
from datetime import datetime

from alerts.errors import AlertError
from alerts.identity import dedup_key
from alerts.message import PAGE, IncidentMessage, Json, MessageStatus, as_json, json_bytes, plain_text
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request, excerpt
from alerts.retry import classify
from alerts.text import clean, cut
from alerts.times import rfc3339

ENDPOINT = "https://events.pagerduty.com/v2/enqueue"
BODY_LIMIT = 512_000
SUMMARY_LIMIT = 1024
_SHOWN_ALERTS = 30
_FIELD_LIMIT = 255
_ACTIONS = {MessageStatus.RESOLVED: "resolve", MessageStatus.ACKNOWLEDGED: "acknowledge"}


class PagerDutyReceiver:
    """A PagerDuty service behind its integration (routing) key."""

    kind = "pagerduty"
    spacing_seconds = 0.5  # PagerDuty: about 120 events a minute and key

    def __init__(self, settings: ReceiverSettings) -> None:
        if len(settings.secrets) != 1 or len(settings.secrets[0].reveal()) != 32:
            raise AlertError("secrets: PagerDuty needs exactly one, the routing key of 32 characters")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """A trigger, an acknowledge or a resolve, without the routing key."""
        action = _ACTIONS.get(message.status)
        if action is not None:
            event: dict[str, Json] = {"event_action": action, "dedup_key": dedup_key(message.group_key)}
            return Rendered(body=json_bytes(event))
        body = json_bytes(_trigger(message, as_json(message, _SHOWN_ALERTS)))
        if len(body) > BODY_LIMIT - 64:  # the routing key and its name come on top
            note = f"left out: the details are {len(body)} bytes and PagerDuty takes {BODY_LIMIT}"
            body = json_bytes(_trigger(message, {"error": note}))
        return Rendered(body=body)

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored event with the routing key in it; dedup_key does the work of an idempotency key."""
        del message_id, now
        event = {"routing_key": self.settings.secrets[0].reveal(), **json.loads(rendered.body)}
        return self.settings.post(rendered, json_bytes(event))

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply; PagerDuty answers 400 to a bad event or a bad key, and says which."""
        return excerpt(classify(reply), reply, self.settings, quoted=(OutcomeKind.POISON, OutcomeKind.BROKEN))


def _trigger(message: IncidentMessage, details: dict[str, Json]) -> dict[str, Json]:
    payload: dict[str, Json] = {
        "summary": cut(clean(message.title), SUMMARY_LIMIT),
        "source": cut(clean(message.model) or "driftd", _FIELD_LIMIT),
        "severity": message.severity.value,
        "timestamp": rfc3339(message.started_at),
        "group": cut(clean(message.model) or "driftd", _FIELD_LIMIT),
        "class": message.kind_class.value,
        "custom_details": {"text": plain_text(message), **details},
    }
    if message.alerts:
        payload["component"] = cut(clean(message.alerts[0].name), _FIELD_LIMIT)
    page = message.link(PAGE)
    where: dict[str, Json] = {"client_url": page} if page else {}
    return {
        "event_action": "trigger",
        "dedup_key": dedup_key(message.group_key),
        "client": "driftd",
        **where,
        "payload": payload,
        "links": [{"href": link.url, "text": clean(link.title)} for link in message.links],
    }
