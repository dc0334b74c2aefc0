"""The lifecycle against a tiny model, and its decision table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.lifecycle import (
    INACTIVE,
    AlertState,
    Cause,
    Condition,
    Event,
    LifecycleRule,
    Phase,
    Transition,
    advance,
    close,
    drift_rule,
)

START = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def run(rule: LifecycleRule, conditions: str) -> list[tuple[int, Event]]:
    """Feed one condition a minute (T, F, U); return the minutes and events of the transitions."""
    state, seen = INACTIVE, []
    words = {"T": Condition.TRUE, "F": Condition.FALSE, "U": Condition.UNKNOWN}
    for minute, letter in enumerate(conditions):
        step = advance(state, words[letter], rule, START + minute * MINUTE)
        if step is not None:
            assert step.before == state
            state = step.after
            seen.append((minute, step.event))
    return seen


AT_ONCE = LifecycleRule()
WAITS = LifecycleRule(for_=2 * MINUTE, keep_firing_for=3 * MINUTE)


@pytest.mark.parametrize(
    ("rule_", "conditions", "expected"),
    [
        (AT_ONCE, "FTTF", [(1, Event.FIRED), (3, Event.RESOLVED)]),
        (AT_ONCE, "TUUUUUU", [(0, Event.FIRED)]),
        (AT_ONCE, "UUU", []),
        (AT_ONCE, "TFT", [(0, Event.FIRED), (1, Event.RESOLVED), (2, Event.FIRED)]),
        (WAITS, "TF", [(0, Event.OPENED), (1, Event.CANCELLED)]),
        (WAITS, "TTT", [(0, Event.OPENED), (2, Event.FIRED)]),
        # UNKNOWN neither fires a pending alert nor cancels it.
        (WAITS, "TUUUT", [(0, Event.OPENED), (4, Event.FIRED)]),
        (
            WAITS,
            "TTTFFTFFFF",
            [
                (0, Event.OPENED),
                (2, Event.FIRED),
                (3, Event.SUBSIDED),
                (5, Event.RETURNED),
                (6, Event.SUBSIDED),
                (9, Event.RESOLVED),
            ],
        ),
        # The hold is over in minute 6, but only a FALSE may resolve.
        (
            WAITS,
            "TTTFUUUUF",
            [(0, Event.OPENED), (2, Event.FIRED), (3, Event.SUBSIDED), (8, Event.RESOLVED)],
        ),
    ],
)
def test_decision_table(rule_: LifecycleRule, conditions: str, expected: list[tuple[int, Event]]) -> None:
    assert run(rule_, conditions) == expected


def test_only_firing_and_resolved_are_told() -> None:
    told = {event for event in Event if _step(event).notifies}
    assert told == {Event.FIRED, Event.RESOLVED}


def _step(event: Event) -> Transition:
    return Transition(event=event, before=INACTIVE, after=INACTIVE, at=START)


def test_severity_is_fixed_when_the_episode_opens() -> None:
    opened = advance(INACTIVE, Condition.TRUE, replace(WAITS, severity=Severity.WARNING), START)
    assert opened is not None
    fired = advance(opened.after, Condition.TRUE, WAITS, START + 5 * MINUTE)
    assert fired is not None
    assert fired.after.severity is Severity.WARNING
    resolved = close(fired.after, Cause.CLEARED, START + 6 * MINUTE)
    assert resolved is not None
    again = advance(resolved.after, Condition.TRUE, WAITS, START + 7 * MINUTE)
    assert again is not None
    assert again.after.severity is Severity.CRITICAL
    assert again.after.resolved_at is None


def test_a_retired_version_resolves_with_its_cause() -> None:
    fired = advance(INACTIVE, Condition.TRUE, AT_ONCE, START)
    assert fired is not None
    step = close(fired.after, Cause.RETIRED, START + MINUTE)
    assert step is not None
    assert (step.event, step.after.cause, step.after.resolved_at) == (
        Event.RESOLVED,
        Cause.RETIRED,
        START + MINUTE,
    )
    assert close(step.after, Cause.RETIRED, START + 2 * MINUTE) is None


def test_drift_holds_for_an_hour_or_two_blocks() -> None:
    assert drift_rule(MINUTE).keep_firing_for == timedelta(hours=1)
    assert drift_rule(timedelta(hours=6)).keep_firing_for == timedelta(hours=12)
    assert drift_rule(MINUTE).for_ == timedelta(0)


def test_a_clock_that_went_back_neither_fires_nor_resolves() -> None:
    opened = advance(INACTIVE, Condition.TRUE, WAITS, START)
    assert opened is not None
    assert advance(opened.after, Condition.TRUE, WAITS, START - timedelta(hours=1)) is None


def test_naive_times_and_negative_durations_are_refused() -> None:
    with pytest.raises(AlertError, match="now"):
        advance(INACTIVE, Condition.TRUE, AT_ONCE, datetime(2026, 5, 1))  # noqa: DTZ001
    with pytest.raises(AlertError, match="keep_firing_for"):
        LifecycleRule(keep_firing_for=-MINUTE)


class LifecycleMachine(RuleBasedStateMachine):
    """The same history told by a model that keeps every condition and looks back over all of it."""

    @initialize(for_=st.integers(0, 3), keep=st.integers(0, 3))
    def begin(self, for_: int, keep: int) -> None:
        self.rule = LifecycleRule(for_=for_ * MINUTE, keep_firing_for=keep * MINUTE)
        self.for_, self.keep = for_, keep
        self.minute = 0
        self.state: AlertState = INACTIVE
        self.history: list[Condition] = []
        self.model = "quiet"
        self.true_from: int | None = None
        self.false_from: int | None = None

    @rule(condition=st.sampled_from(list(Condition)))
    def evaluate(self, condition: Condition) -> None:
        before = self.state
        step = advance(before, condition, self.rule, START + self.minute * MINUTE)
        if step is not None:
            assert step.after != before
            self.state = step.after
        self._model(condition)
        self.history.append(condition)
        self.minute += 1
        if condition is Condition.UNKNOWN:
            assert self.state == before

    def _model(self, condition: Condition) -> None:
        if condition is Condition.TRUE:
            self.false_from = None
            if self.model == "quiet":
                self.model, self.true_from = "waiting", self.minute
            if (
                self.model == "waiting"
                and self.true_from is not None
                and self.minute - self.true_from >= self.for_
            ):
                self.model = "alarm"
        elif condition is Condition.FALSE:
            self.false_from = self.minute if self.false_from is None else self.false_from
            if self.model == "waiting" or (
                self.model == "alarm" and self.minute - self.false_from >= self.keep
            ):
                self.model, self.true_from, self.false_from = "quiet", None, None
            if self.model == "quiet":
                self.false_from = None

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        phases = {
            "quiet": (Phase.INACTIVE, Phase.RESOLVED),
            "waiting": (Phase.PENDING,),
            "alarm": (Phase.FIRING,),
        }
        assert self.state.phase in phases[self.model]
        assert self.state.open == (self.model != "quiet")
        assert (self.state.firing_since is not None) == (self.state.phase in (Phase.FIRING, Phase.RESOLVED))


TestLifecycleMachine = LifecycleMachine.TestCase


@given(st.text(alphabet="TFU", max_size=40), st.integers(0, 4), st.integers(0, 4))
def test_firing_and_resolved_alternate(conditions: str, for_: int, keep: int) -> None:
    rule_ = LifecycleRule(for_=for_ * MINUTE, keep_firing_for=keep * MINUTE)
    told = [event for _, event in run(rule_, conditions) if event in (Event.FIRED, Event.RESOLVED)]
    assert told == [Event.FIRED if i % 2 == 0 else Event.RESOLVED for i in range(len(told))]
