"""Retry: the table of replies, the schedules, Retry-After."""

import random
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.ports import Failure, Outcome, OutcomeKind, Reply
from alerts.retry import (
    CRITICAL_SCHEDULE,
    RETRY_AFTER_CAP,
    SCHEDULE,
    Action,
    classify,
    next_attempt,
    parse_retry_after,
)
from tests.alerts.samples import NOW

LATER = Outcome(kind=OutcomeKind.LATER, detail="HTTP 500", status=500)


@pytest.mark.parametrize(
    ("status", "kind", "hold"),
    [
        (200, OutcomeKind.DONE, False),
        (202, OutcomeKind.DONE, False),
        (204, OutcomeKind.DONE, False),
        (301, OutcomeKind.LATER, False),
        (302, OutcomeKind.LATER, False),
        (308, OutcomeKind.LATER, False),
        (400, OutcomeKind.POISON, False),
        (401, OutcomeKind.POISON, False),
        (404, OutcomeKind.POISON, False),
        (408, OutcomeKind.LATER, False),
        (410, OutcomeKind.BROKEN, False),
        (422, OutcomeKind.POISON, False),
        (429, OutcomeKind.LATER, True),
        (500, OutcomeKind.LATER, False),
        (502, OutcomeKind.LATER, False),
        (503, OutcomeKind.LATER, True),
        (504, OutcomeKind.LATER, False),
    ],
)
def test_reply_table(status: int, kind: OutcomeKind, hold: bool) -> None:
    outcome = classify(Reply(status=status))
    assert (outcome.kind, outcome.hold_receiver, outcome.status) == (kind, hold, status)


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_of_the_network_is_tried_again(failure: Failure) -> None:
    outcome = classify(Reply(status=200, failure=failure, detail="https://host: lost"))
    assert (outcome.kind, outcome.detail) == (OutcomeKind.LATER, "https://host: lost")


def test_a_redirect_says_what_to_do() -> None:
    assert "update the URL" in classify(Reply(status=302)).detail


def waits(severity: Severity) -> list[float]:
    """All waits in seconds until the row is dead, without jitter."""
    still = random.Random()
    still.random = lambda: 0.0  # type: ignore[method-assign]  # the lower end of the jitter
    found: list[float] = []
    for attempt in range(1, 100):
        decision = next_attempt(attempt, severity, LATER, NOW, still)
        if decision.action is Action.DEAD_LETTER:
            assert str(attempt) in decision.reason
            return found
        assert decision.retry_at is not None
        found.append((decision.retry_at - NOW).total_seconds())
    raise AssertionError("never gives up")


def test_schedules_are_those_of_the_design() -> None:
    # Standard Webhooks: immediately, 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h = 75 h 35 m.
    hours = [2, 5, 10, 14, 20, 24]
    tail = [300, 1800, *(h * 3600 for h in hours)]
    assert waits(Severity.WARNING) == [5, *tail]
    assert waits(Severity.CRITICAL) == [5, 15, 30, 60, 120, *tail]
    assert sum(waits(Severity.WARNING)) == pytest.approx(75.6 * 3600, rel=0.001)


@given(st.integers(1, 13), st.integers())
def test_jitter_only_stretches_and_by_a_fifth_at_most(attempt: int, seed: int) -> None:
    decision = next_attempt(attempt, Severity.CRITICAL, LATER, NOW, random.Random(seed))
    assert decision.retry_at is not None
    wait = (decision.retry_at - NOW).total_seconds()
    planned = CRITICAL_SCHEDULE[attempt - 1]
    assert planned <= wait <= planned * 1.2


def test_done_poison_and_broken_end_at_once() -> None:
    rng = random.Random(1)
    table = {
        OutcomeKind.DONE: Action.DONE,
        OutcomeKind.POISON: Action.DEAD_LETTER,
        OutcomeKind.BROKEN: Action.BREAK_RECEIVER,
    }
    for kind, action in table.items():
        decision = next_attempt(1, Severity.INFO, Outcome(kind=kind, detail="x"), NOW, rng)
        assert (decision.action, decision.retry_at, decision.reason) == (action, None, "x")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2),
        (" 120 ", 120),
        ("0", 0),
        ("1000000000", 3600),
        ("9" * 5000, 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), 3600),
        ("Friday, 01-May-26 10:00:30 GMT", 30),  # the obsolete form of RFC 850, which must be read
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("٣", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_retry_after(header, NOW) == expected


@given(st.text(max_size=60))
def test_garbage_in_retry_after_never_raises(text: str) -> None:
    found = parse_retry_after(text, NOW)
    assert found is None or timedelta(0) <= found <= RETRY_AFTER_CAP


def test_retry_after_holds_the_receiver_and_never_shortens_the_wait() -> None:
    asked = Outcome(kind=OutcomeKind.LATER, detail="HTTP 429", retry_after="2", hold_receiver=True)
    decision = next_attempt(1, Severity.CRITICAL, asked, NOW, random.Random(1))
    assert decision.hold_receiver_until == NOW + timedelta(seconds=2)
    assert decision.retry_at is not None
    assert decision.retry_at >= NOW + timedelta(seconds=SCHEDULE[0])
    long = Outcome(kind=OutcomeKind.LATER, detail="HTTP 503", retry_after="600", hold_receiver=True)
    decision = next_attempt(1, Severity.CRITICAL, long, NOW, random.Random(1))
    assert decision.retry_at == decision.hold_receiver_until == NOW + timedelta(seconds=600)


def test_an_old_row_without_retry_after_holds_its_receiver_for_an_hour_at_most() -> None:
    outcome = Outcome(kind=OutcomeKind.LATER, detail="HTTP 503", hold_receiver=True)
    decision = next_attempt(9, Severity.WARNING, outcome, NOW, random.Random(1))
    assert decision.hold_receiver_until == NOW + timedelta(hours=1)
    assert decision.retry_at is not None
    assert decision.retry_at >= NOW + timedelta(hours=24)


def test_attempts_count_from_one() -> None:
    with pytest.raises(AlertError, match="attempt"):
        next_attempt(0, Severity.INFO, LATER, NOW, random.Random(1))
