"""Bodies for Alertmanager, judged by its own schema."""

import json
from datetime import timedelta
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from alerts.errors import AlertError
from alerts.identity import fingerprint
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.alertmanager import AlertmanagerReceiver, watchdog_message
from tests.alerts.samples import NASTY, NOW, detail, message, settings

# `postableAlerts` of api/v2/openapi.yaml, prometheus/alertmanager; its definitions are plain JSON Schema.
LABEL_SET = {"type": "object", "additionalProperties": {"type": "string"}}
TIME = {"type": "string", "format": "date-time"}
POSTABLE_ALERTS = {
    "type": "array",
    "items": {
        "allOf": [
            {"type": "object", "properties": {"startsAt": TIME, "endsAt": TIME, "annotations": LABEL_SET}},
            {
                "type": "object",
                "properties": {"labels": LABEL_SET, "generatorURL": {"type": "string", "format": "uri"}},
                "required": ["labels"],
            },
        ]
    },
}
LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"


def sent(at: timedelta = timedelta(0), **changes: Any) -> list[dict[str, Any]]:
    receiver = AlertmanagerReceiver(settings("alertmanager"))
    request = receiver.request(receiver.render(message(**changes)), message_id="msg_1", now=NOW + at)
    body = json.loads(request.body)
    jsonschema.Draft4Validator(POSTABLE_ALERTS).validate(body)
    assert isinstance(body, list)
    for alert in body:
        # What the schema leaves to the code behind it: api/v2/api.go and model.Alert.Validate.
        assert alert["labels"]["alertname"]
        assert alert["startsAt"] <= alert["endsAt"]
        assert all(value for value in (*alert["labels"].values(), *alert["annotations"].values()))
        jsonschema.validate(
            alert["labels"], {"patternProperties": {LABEL_NAME: {}}, "additionalProperties": False}
        )
    return body


def test_each_alert_is_pushed_by_itself_and_ends_four_re_sends_ahead() -> None:
    alerts = sent()
    assert [alert["labels"]["column"] for alert in alerts] == ["temp", "zip", "age"]
    assert {alert["startsAt"] for alert in alerts} == {"2026-05-01T09:40:00Z"}
    assert {alert["endsAt"] for alert in alerts} == {"2026-05-01T10:04:00Z"}
    assert {alert["labels"]["severity"] for alert in alerts} == {"critical"}


def test_a_retry_hours_later_still_fires() -> None:
    assert {alert["endsAt"] for alert in sent(timedelta(hours=3))} == {"2026-05-01T13:04:00Z"}


def test_values_are_annotations_so_that_the_alert_stays_the_same() -> None:
    before, after = sent(), sent(alerts=(detail(summary="median 39.9 → 70"),))
    one = next(alert for alert in before if alert["labels"]["column"] == "temp")
    assert fingerprint(one["labels"]) == fingerprint(after[0]["labels"])
    assert one["annotations"]["statistic"] == "0.412"
    assert one["annotations"]["summary"] != after[0]["annotations"]["summary"]


def test_an_end_is_its_own_and_no_attempt_moves_it() -> None:
    ended = sent(timedelta(minutes=9), status=MessageStatus.RESOLVED)
    assert {alert["endsAt"] for alert in ended} == {"2026-05-01T10:00:00Z"}


def test_an_alert_of_a_clock_that_runs_ahead_begins_now() -> None:
    late = sent(created_at=NOW - timedelta(hours=1), status=MessageStatus.RESOLVED)
    assert {(alert["startsAt"], alert["endsAt"]) for alert in late} == {
        ("2026-05-01T09:00:00Z", "2026-05-01T09:00:00Z")
    }


def test_the_watchdog_is_not_prometheus_own() -> None:
    receiver = AlertmanagerReceiver(settings("alertmanager"))
    rendered = receiver.render(watchdog_message(NOW - timedelta(days=3), NOW, "https://driftd.example"))
    (alert,) = json.loads(receiver.request(rendered, message_id="msg_1", now=NOW).body)
    assert alert["labels"]["alertname"] == "DriftdWatchdog"
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-04-28T10:00:00Z", "2026-05-01T10:04:00Z")


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_are_label_values_like_any_other(name: str) -> None:
    alerts = sent(model=name, version=name, title=f"t{name}", alerts=(detail(name, summary=name),))
    assert fingerprint(alerts[0]["labels"])


def test_no_alert_of_thousands_is_left_out() -> None:
    assert len(sent(alerts=tuple(detail(f"c{i}", float(i)) for i in range(5000)))) == 5000


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, OutcomeKind.DONE), (400, OutcomeKind.POISON), (500, OutcomeKind.LATER), (404, OutcomeKind.POISON)],
)
def test_answers(status: int, kind: OutcomeKind) -> None:
    receiver = AlertmanagerReceiver(settings("alertmanager"))
    outcome = receiver.classify(Reply(status=status, body=b'"start time must be before end time"'))
    assert outcome.kind is kind
    assert ("start time" in outcome.detail) is (kind is OutcomeKind.POISON)


def test_it_has_no_signing_secret() -> None:
    with pytest.raises(AlertError, match="Authorization"):
        AlertmanagerReceiver(settings("alertmanager", secrets=(Secret("x"),)))
