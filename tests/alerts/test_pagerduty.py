"""PagerDuty events against the rules of its reference."""

import json
from datetime import datetime
from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.pagerduty import PagerDutyReceiver
from tests.alerts.samples import NASTY, NOW, detail, message, settings

KEY = "0123456789abcdef0123456789abcdef"


def sent(**changes: Any) -> dict[str, Any]:
    receiver = PagerDutyReceiver(settings("pagerduty"))
    rendered = receiver.render(message(**changes))
    assert KEY.encode() not in rendered.body
    request = receiver.request(rendered, message_id="msg_1", now=NOW)
    assert len(request.body) <= 512_000
    event = json.loads(request.body)
    assert isinstance(event, dict)
    assert event["routing_key"] == KEY
    assert 0 < len(event["dedup_key"]) <= 255
    if event["event_action"] == "trigger":
        payload = event["payload"]
        assert 0 < len(payload["summary"]) <= 1024
        assert payload["source"]
        assert payload["severity"] in ("critical", "error", "warning", "info")
        assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
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
