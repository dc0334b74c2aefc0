"""PagerDuty events against the rules of its reference."""

import hashlib
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.pagerduty import PagerDutyReceiver
from tests.alerts.samples import NASTY, NOW, detail, message, settings

KEY = "0123456789abcdef0123456789abcdef"
TEXT = {"type": "string", "minLength": 1}
# Written from PagerDuty's Events API v2 reference, "Send an event": fields, limits and which are required when.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["routing_key", "event_action", "dedup_key"],
    "properties": {
        "routing_key": {"type": "string", "pattern": "^[0-9a-zA-Z]{32}$"},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": TEXT,
        "client_url": {"type": "string", "pattern": "^https?://"},
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["href"],
                "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": TEXT},
            },
        },
        "payload": {
            "type": "object",
            "additionalProperties": False,
            "required": ["summary", "source", "severity"],
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": TEXT,
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {
                    "type": "string",
                    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$",
                },
                "component": TEXT,
                "group": TEXT,
                "class": TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
}


def sent(**changes: Any) -> dict[str, Any]:
    receiver = PagerDutyReceiver(settings("pagerduty"))
    rendered = receiver.render(message(**changes))
    assert KEY.encode() not in rendered.body
    request = receiver.request(rendered, message_id="msg_1", now=NOW)
    assert len(request.body) <= 512_000
    event = json.loads(request.body)
    assert isinstance(event, dict)
    assert event["routing_key"] == KEY
    jsonschema.validate(event, SCHEMA)
    return event


def test_trigger_and_resolve_share_one_key() -> None:
    trigger, resolve = sent(), sent(status=MessageStatus.RESOLVED)
    assert trigger["event_action"] == "trigger"
    assert resolve == {
        "routing_key": KEY,
        "event_action": "resolve",
        "dedup_key": trigger["dedup_key"],
    }
    assert trigger["payload"]["component"] == "temp"
    assert trigger["payload"]["custom_details"]["alerts"][0]["evidence"]["rows"] == 12_034


def test_an_acknowledge_names_the_incident_and_nothing_else() -> None:
    acknowledge = sent(status=MessageStatus.ACKNOWLEDGED)
    assert acknowledge == {
        "routing_key": KEY,
        "event_action": "acknowledge",
        "dedup_key": sent()["dedup_key"],
    }


def test_the_key_is_the_sha256_of_the_group_and_severity_is_not_in_it() -> None:
    expected = hashlib.sha256(b'{}:{class="drift",model="credit-risk",segment="region=eu"}').hexdigest()
    assert {sent(severity=severity)["dedup_key"] for severity in Severity} == {expected}


def test_numbers_stay_numbers() -> None:
    details = sent()["payload"]["custom_details"]
    assert details["alerts"][0]["evidence"]["statistic"] == 0.412
    assert details["counts"] == {"affected": 3, "total": 21, "noun": "columns", "verb": "drifted"}


def test_a_message_without_a_page_has_no_empty_address() -> None:
    assert "client_url" not in sent(links=())


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_within_the_limits(name: str) -> None:
    sent(title=f"t{name}", model=name, alerts=tuple(detail(name, summary=name) for _ in range(30)))


def test_details_too_large_are_swapped_for_a_note() -> None:
    event = sent(alerts=tuple(detail(f"c{i}", summary="s" * 40_000) for i in range(30)))
    assert "left out" in event["payload"]["custom_details"]["error"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(202, OutcomeKind.DONE), (400, OutcomeKind.POISON), (429, OutcomeKind.LATER), (500, OutcomeKind.LATER)],
)
def test_answers(status: int, kind: OutcomeKind) -> None:
    receiver = PagerDutyReceiver(settings("pagerduty"))
    outcome = receiver.classify(Reply(status=status, body=f"bad key {KEY}".encode()))
    assert outcome.kind is kind
    assert KEY not in outcome.detail


@pytest.mark.parametrize("secrets", [(), (Secret("short"),), (Secret(KEY), Secret(KEY))])
def test_the_routing_key_is_one_of_32_characters(secrets: tuple[Secret, ...]) -> None:
    with pytest.raises(AlertError, match="routing key"):
        PagerDutyReceiver(settings("pagerduty", secrets=secrets))
