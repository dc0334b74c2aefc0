"""The generic webhook: Alertmanager's body, Standard Webhooks' signature."""

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import standardwebhooks
import svix.webhooks

from alerts.errors import AlertError
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply
from alerts.receivers.webhook import WebhookReceiver
from tests.alerts.samples import NOW, OLD_SIGNING, SIGNING, detail, message, settings

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}
STATUS = {"enum": ["firing", "resolved"]}
# Alertmanager's configuration reference, <webhook_config>, version "4".
SCHEMA = {
    "type": "object",
    "required": [
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    ],
    "properties": {
        "version": {"const": "4"},
        "groupKey": {"type": "string", "minLength": 1},
        "truncatedAlerts": {"type": "integer", "minimum": 0},
        "status": STATUS,
        "receiver": {"type": "string"},
        "groupLabels": STRINGS,
        "commonLabels": STRINGS,
        "commonAnnotations": STRINGS,
        "externalURL": {"type": "string"},
        "alerts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"
                ],
                "properties": {
                    "status": STATUS,
                    "labels": STRINGS,
                    "annotations": STRINGS,
                    "startsAt": TIME,
                    "endsAt": TIME,
                    "generatorURL": {"type": "string"},
                    "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                },
            },
        },
    },
}  # fmt: skip


def sent(**changes: Any) -> dict[str, Any]:
    body = json.loads(WebhookReceiver(settings("webhook")).render(message(**changes)).body)
    jsonschema.validate(body, SCHEMA)
    assert isinstance(body, dict)
    return body


def test_the_body_is_alertmanagers() -> None:
    body = sent()
    assert (body["status"], body["receiver"], body["truncatedAlerts"]) == ("firing", "team", 0)
    assert body["groupKey"] == '{}:{class="drift",model="credit-risk",segment="region=eu"}'
    assert body["commonLabels"]["model"] == "credit-risk"
    assert "column" not in body["commonLabels"]
    assert body["commonAnnotations"]["runbook_url"] == "https://wiki.example/drift"
    assert [a["labels"]["column"] for a in body["alerts"]] == ["temp", "zip", "age"]
    assert {a["endsAt"] for a in body["alerts"]} == {"0001-01-01T00:00:00Z"}
    assert body["notification_reason"] == "first notification"


def test_a_resolved_body_has_its_end() -> None:
    body = sent(status=MessageStatus.RESOLVED)
    assert body["status"] == "resolved"
    assert {a["status"] for a in body["alerts"]} == {"resolved"}
    assert {a["endsAt"] for a in body["alerts"]} == {"2026-05-01T10:00:00Z"}


def test_our_own_field_holds_numbers_as_numbers() -> None:
    ours = sent()["driftd"]
    assert ours["alerts"][0]["evidence"]["statistic"] == 0.412
    assert ours["what_to_do"].startswith("Compare")


def test_five_thousand_alerts_are_one_short_message() -> None:
    rendered = WebhookReceiver(settings("webhook")).render(
        message(alerts=tuple(detail(f"c{i}", float(i)) for i in range(5000)))
    )
    body = json.loads(rendered.body)
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (30, 4970)
    assert len(rendered.body) < 64_000


def test_two_vendors_verify_what_goes_over_the_wire() -> None:
    receiver = WebhookReceiver(settings("webhook", secrets=(SIGNING, OLD_SIGNING)))
    rendered = receiver.render(message())
    request = receiver.request(rendered, message_id="msg_018f", now=datetime.now(UTC))
    assert request.body == rendered.body
    for secret in (SIGNING, OLD_SIGNING):
        standardwebhooks.Webhook(secret.reveal()).verify(request.body, dict(request.headers))
        svix.webhooks.Webhook(secret.reveal()).verify(request.body, dict(request.headers))


def test_each_attempt_has_its_own_time_and_the_same_id() -> None:
    receiver = WebhookReceiver(settings("webhook"))
    rendered = receiver.render(message())
    one = receiver.request(rendered, message_id="msg_1", now=NOW)
    two = receiver.request(rendered, message_id="msg_1", now=NOW.replace(hour=11))
    assert one.headers["webhook-id"] == two.headers["webhook-id"] == "msg_1"
    assert int(two.headers["webhook-timestamp"]) - int(one.headers["webhook-timestamp"]) == 3600
    assert one.headers["webhook-signature"] != two.headers["webhook-signature"]


def test_a_webhook_without_a_secret_still_has_an_id() -> None:
    receiver = WebhookReceiver(settings("webhook", secrets=()))
    headers = receiver.request(receiver.render(message()), message_id="msg_1", now=NOW).headers
    assert headers["webhook-id"] == "msg_1"
    assert "webhook-signature" not in headers


def test_a_refusal_is_quoted_without_secrets() -> None:
    receiver = WebhookReceiver(settings("webhook"))
    body = b"no such field at https://example.com/hook?token=abcdef123456 (abcdef123456)\x1b[2J" + b"x" * 5000
    outcome = receiver.classify(Reply(status=422, body=body))
    assert outcome.kind is OutcomeKind.POISON
    assert outcome.detail.startswith("HTTP 422: no such field at ***")
    assert "abcdef" not in outcome.detail
    assert "\x1b" not in outcome.detail
    assert len(outcome.detail) < 300


def test_three_secrets_are_one_too_many() -> None:
    with pytest.raises(AlertError, match="at most two"):
        WebhookReceiver(settings("webhook", secrets=(SIGNING, OLD_SIGNING, SIGNING)))
