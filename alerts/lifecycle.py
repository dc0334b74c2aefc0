"""The life of one alert as a pure function: inactive → pending → firing → resolved.

The caller supplies the time (event time for drift, wall time for no-traffic) and stores what comes back;
`advance` answers None exactly when nothing changed, so a quiet minute writes nothing.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.times import aware


class Condition(StrEnum):
    """What the evaluation says now. UNKNOWN (error, too little data) holds an open alert, never resolves it."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """Where an alert is in its life. RESOLVED rests like INACTIVE, but remembers its last episode."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Event(StrEnum):
    """What a transition was. Only FIRED and RESOLVED are told to people; the rest is history."""

    OPENED = "opened"  # condition true, `for_` not yet over
    CANCELLED = "cancelled"  # false again before `for_` was over
    FIRED = "fired"
    SUBSIDED = "subsided"  # firing, condition false for the first time: keep_firing_for starts
    RETURNED = "returned"  # condition true again within keep_firing_for
    RESOLVED = "resolved"


class Cause(StrEnum):
    """Why an alert was resolved."""

    CLEARED = "cleared"  # the condition stayed false
    RETIRED = "retired"  # the version had no traffic for its longest window
    ACCEPTED = "accepted"  # an operator made the present the new baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleRule:
    """When to fire and when to resolve.

    for_: how long the condition must hold before firing (0: at once).
    keep_firing_for: how long it must be gone, counted from the first FALSE, before resolved (0: at once).
    severity: what an incident that opens now gets; an open one keeps its own.
    """

    for_: timedelta = timedelta(0)
    keep_firing_for: timedelta = timedelta(0)
    severity: Severity = Severity.CRITICAL

    def __post_init__(self) -> None:
        for field in ("for_", "keep_firing_for"):
            if getattr(self, field) < timedelta(0):
                raise AlertError(f"{field}: must not be negative, got {getattr(self, field)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """One alert as stored.

    since: start of the phase. active_since: first TRUE of the episode. firing_since: when it fired.
    last_true: the last TRUE that was worth a write (opening, firing, returning), not the last one seen.
    false_since: first FALSE of the current keep_firing_for hold. resolved_at, cause: the end of the episode.
    severity: fixed when the episode opened.
    """

    phase: Phase = Phase.INACTIVE
    since: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    active_since: datetime | None = None
    firing_since: datetime | None = None
    last_true: datetime | None = None
    false_since: datetime | None = None
    resolved_at: datetime | None = None
    cause: Cause | None = None
    severity: Severity | None = None

    @property
    def open(self) -> bool:
        """Whether an episode is under way (pending or firing)."""
        return self.phase in (Phase.PENDING, Phase.FIRING)


INACTIVE = AlertState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of one alert, to be stored with both states and, when `notifies`, announced."""

    event: Event
    before: AlertState
    after: AlertState
    at: datetime

    @property
    def notifies(self) -> bool:
        """Whether people may have to be told."""
        return self.event in (Event.FIRED, Event.RESOLVED)


def advance(state: AlertState, condition: Condition, rule: LifecycleRule, now: datetime) -> Transition | None:
    """Return the step that `condition` at `now` causes, or None when the stored state stays as it is.

    A clock that went back only makes waits longer: nothing fires or resolves before its time has passed.
    """
    now = aware("now", now)
    if condition is Condition.UNKNOWN:
        return None
    if state.phase is Phase.PENDING:
        return _from_pending(state, condition, rule, now)
    if state.phase is Phase.FIRING:
        return _from_firing(state, condition, rule, now)
    if condition is Condition.TRUE:
        return _open(state, rule, now)
    return None


def close(state: AlertState, cause: Cause, now: datetime) -> Transition | None:
    """End an episode from outside (retired version, accepted baseline); None when none is open."""
    now = aware("now", now)
    if state.phase is Phase.PENDING:
        return _cancel(state, now)
    if state.phase is Phase.FIRING:
        return _resolve(state, cause, now)
    return None


def drift_rule(
    block: timedelta,
    severity: Severity = Severity.CRITICAL,
    *,
    for_: timedelta = timedelta(0),
    keep_firing_for: timedelta = timedelta(minutes=60),
) -> LifecycleRule:
    """The rule of drift kinds: fires at once, resolves after 60 minutes or two blocks, whichever is longer."""
    return LifecycleRule(for_=for_, keep_firing_for=max(keep_firing_for, 2 * block), severity=severity)


def _open(state: AlertState, rule: LifecycleRule, now: datetime) -> Transition:
    fires = rule.for_ == timedelta(0)
    after = AlertState(
        phase=Phase.FIRING if fires else Phase.PENDING,
        since=now,
        active_since=now,
        firing_since=now if fires else None,
        last_true=now,
        severity=rule.severity,
    )
    return Transition(event=Event.FIRED if fires else Event.OPENED, before=state, after=after, at=now)


def _from_pending(
    state: AlertState, condition: Condition, rule: LifecycleRule, now: datetime
) -> Transition | None:
    if condition is Condition.FALSE:
        return _cancel(state, now)
    if state.active_since is None or now - state.active_since < rule.for_:
        return None
    after = replace(state, phase=Phase.FIRING, since=now, firing_since=now, last_true=now)
    return Transition(event=Event.FIRED, before=state, after=after, at=now)


def _from_firing(
    state: AlertState, condition: Condition, rule: LifecycleRule, now: datetime
) -> Transition | None:
    if condition is Condition.TRUE:
        if state.false_since is None:
            return None
        after = replace(state, false_since=None, last_true=now)
        return Transition(event=Event.RETURNED, before=state, after=after, at=now)
    if now - (state.false_since or now) >= rule.keep_firing_for:
        return _resolve(state, Cause.CLEARED, now)
    if state.false_since is not None:
        return None
    return Transition(event=Event.SUBSIDED, before=state, after=replace(state, false_since=now), at=now)


def _cancel(state: AlertState, now: datetime) -> Transition:
    after = AlertState(phase=Phase.INACTIVE, since=now, last_true=state.last_true)
    return Transition(event=Event.CANCELLED, before=state, after=after, at=now)


def _resolve(state: AlertState, cause: Cause, now: datetime) -> Transition:
    after = replace(state, phase=Phase.RESOLVED, since=now, false_since=None, resolved_at=now, cause=cause)
    return Transition(event=Event.RESOLVED, before=state, after=after, at=now)
