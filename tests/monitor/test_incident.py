"""The message: what it says of alerts as they are stored."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from alerts.identity import AlertKind, Severity, alert_key, alert_labels, group_key, kind_class
from alerts.message import MessageStatus, plain_text
from monitor.config import parse
from monitor.incident import Context, compose, title_of
from storage.alerts import AlertRow

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CONFIG = parse('[models.credit]\nrunbook_url = "https://wiki.example/drift"\n')


def row(
    column: str, effect: float, *, learning: str = "learned", kind: AlertKind = AlertKind.FEATURE_DRIFT
) -> AlertRow:
    labels = alert_labels(kind, "credit", "3", "", column)
    detail: dict[str, Any] = {
        "summary": f"median 1 → {effect}",
        "effect": effect,
        "columns": 21,
        "baseline": "30,049 training rows from train.csv",
        "learning": learning,
        "evidence": {
            "detector": "ks",
            "window_seconds": 3600,
            "statistic": 0.5,
            "threshold": 0.35,
            "rows": 1200,
            "baseline_rows": 30_000,
            "evidence": 2.5,
            "since": "2026-03-02T07:10:00+00:00",
        },
    }
    return AlertRow(
        id=len(column), key=alert_key(labels), labels=labels, kind=kind.value,
        group_key=group_key(kind_class(kind), "credit", ""), model="credit", version="3", segment="", column=column,
        severity="critical", state="firing", since=NOW, active_since=NOW, firing_since=NOW, fired_at=NOW,
        false_since=None, last_true=NOW, resolved_at=None, resolution=None, detail=detail, updated_at=NOW,
    )  # fmt: skip


def test_columns_are_ranked_by_effect_and_counted_of_all() -> None:
    message = compose(
        [row("age", 1.2), row("income", 7.0)], [], Context(config=CONFIG),
        severity=Severity.CRITICAL, reason="first notification", now=NOW,
    )  # fmt: skip
    text = plain_text(message)
    assert message.title == "credit: income and 1 more drifted from training"
    assert text.index("income: median 1 → 7.0") < text.index("age: median 1 → 1.2")
    for said in (
        "2 of 21 columns drifted",
        "ks 0.5 over 1h (limit 0.35)",
        "since about 2026-03-02 07:10 UTC",
    ):
        assert said in text
    assert "https://wiki.example/drift" in text
    assert "driftd baseline accept 6" in " ".join(text.split())  # the strongest alert's id


def test_the_title_and_the_commands_are_of_what_still_fires() -> None:
    ended = replace(row("income", 7.0), state="resolved", resolved_at=NOW, resolution="cleared")
    message = compose(
        [row("age", 1.2)], [ended], Context(config=CONFIG),
        severity=Severity.CRITICAL, reason="some alerts resolved", now=NOW,
    )  # fmt: skip
    assert message.title == "credit: age drifted from training"
    assert message.commands == (
        "driftd alerts ack 3",
        'driftd silence add --model credit --column age --for 4h --comment "why"',
        "driftd baseline accept 3",
    )
    assert message.counts is not None
    assert message.counts.sentence() == "1 of 21 columns drifted"


def test_what_the_promise_does_not_cover_is_said() -> None:
    message = compose(
        [row("age", 1.2, learning="learning"), row("income", 7.0), row("zip", 2.0, learning="mismatch")],
        [], Context(config=CONFIG), severity=Severity.CRITICAL, reason="", now=NOW,
    )  # fmt: skip
    text = plain_text(message)
    assert "Note: age: how much this moves by nature is still being learned" in text
    assert "Note: zip: production never looked like training" in text
    assert "income: how much" not in text


def test_what_never_was_like_training_is_no_drift() -> None:
    titles = [
        compose(rows, [], Context(config=CONFIG), severity=Severity.CRITICAL, reason="", now=NOW).title
        for rows in (
            [row("age", 1.2, learning="mismatch")],
            [row("age", 3.2, learning="mismatch"), row("zip", 1.1, learning="mismatch")],
            [row("age", 3.2, learning="mismatch"), row("zip", 1.1)],
        )
    ]
    assert titles == [
        "credit: age never matched training (baseline mismatch)",
        "credit: age and 1 more never matched training (baseline mismatch)",
        "credit: age and 1 more drifted from training",
    ]


def test_the_end_says_that_there_is_nothing_to_do() -> None:
    ended = replace(row("age", 1.2), state="resolved", resolved_at=NOW, resolution="cleared")
    message = compose(
        [], [ended], Context(config=CONFIG), severity=Severity.CRITICAL, reason="all alerts resolved", now=NOW
    )
    assert message.status is MessageStatus.RESOLVED
    assert message.what_to_do == "Nothing: this is over."
    assert message.notes == ()


def test_alerts_without_a_column_have_words_of_their_own() -> None:
    silent = replace(
        row("", 0.0, kind=AlertKind.NO_TRAFFIC), detail={"summary": "last predictions came at 09:00"}
    )
    message = compose([silent], [], Context(config=CONFIG), severity=Severity.CRITICAL, reason="", now=NOW)
    assert message.title == "credit: no predictions arrive"
    assert title_of(silent) == "credit: last predictions came at 09:00"
    assert message.counts is None
