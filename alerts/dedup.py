"""Whether a receiver has to be told of a group of alerts, what of, and when. Pure.

One notification per (receiver, group) may wait unsent; newer news replaces it, so that a receiver that was
away for an hour gets the present, not an hour of history. What was attempted may have arrived and is never
taken back. Ask again (`plan`) in the transaction of every transition of the group, and on a tick for repeats.

A group that flaps without end causes at most one message per `group_interval`, and one more for each time its
severity rises.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import MessageStatus
from alerts.times import aware


class NotifyReason(StrEnum):
    """Why there is, or is not, something to say; the first five are Alertmanager's words."""

    FIRST = "first notification"
    NEW_ALERTS = "new alerts added"
    SOME_RESOLVED = "some alerts resolved"
    ALL_RESOLVED = "all alerts resolved"
    REPEAT = "repeat interval elapsed"
    ALREADY_WAITING = "the same news is already waiting"
    NOTHING_NEW = "nothing new"
    ACKNOWLEDGED = "acknowledged, no repeats"
    NOT_FOR_RECEIVER = "muted, on no route to the receiver, or below its severity"
    NEVER_TOLD = "resolved before anyone was told"
    RESOLVED_NOT_WANTED = "the receiver does not want resolved"


class PlanAction(StrEnum):
    """What to do with the outbox, in the transaction of the transition."""

    INSERT = "insert"
    REPLACE = "replace"
    DROP = "drop"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyPolicy:
    """When to notify; all wall time.

    group_wait: before the first message of an incident, so that what belongs together arrives together; 30 s.
    critical_wait: the same for a critical one; 10 s, because one evaluation commits all columns at once and
        only segments and versions still straggle. group_interval: least time between two messages of a group;
        5 min. repeat_interval: before saying the same again while nobody acknowledges; 4 h.
    send_resolved, min_severity: the receiver's settings.
    """

    group_wait: timedelta = timedelta(seconds=30)
    critical_wait: timedelta = timedelta(seconds=10)
    group_interval: timedelta = timedelta(minutes=5)
    repeat_interval: timedelta = timedelta(hours=4)
    send_resolved: bool = True
    min_severity: Severity = Severity.WARNING

    def __post_init__(self) -> None:
        for name in ("group_wait", "critical_wait", "group_interval"):
            if getattr(self, name) < timedelta(0):
                raise AlertError(f"{name}: must not be negative")
        if self.repeat_interval <= timedelta(0):
            raise AlertError("repeat_interval: must be positive")

    def wait(self, severity: Severity) -> timedelta:
        """How long the first message of this severity waits for company."""
        return min(self.group_wait, self.critical_wait) if severity is Severity.CRITICAL else self.group_wait


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAlert:
    """An alert of the group that is firing now.

    key: identity.subject_key, so that a version switch is no news. fired_at: wall time at which the firing was
    recorded (event time lags behind and cannot be compared with notifications). muted: silenced, inhibited, or on
        no route to this receiver.
    """

    key: str
    severity: Severity
    fired_at: datetime
    muted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The newest notification of this receiver and group that was attempted.

    at: its last attempt. firing, severity: what it said (no keys: a resolve). known: the firing keys of the
    newest notification that arrived or may have arrived, which differs when this one was dead-lettered.
    in_flight: whether it is still being retried.
    """

    at: datetime
    firing: frozenset[str]
    known: frozenset[str]
    severity: Severity
    in_flight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The notification of this receiver and group that was never attempted and is not leased."""

    due: datetime
    status: MessageStatus
    firing: frozenset[str]
    reason: NotifyReason
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. For INSERT and REPLACE everything is set; `firing` and `resolved` are keys to write about.

    For NOTHING, `due` is when a repeat may come up, if ever. A DROP is recorded with its reason.
    """

    action: PlanAction
    reason: NotifyReason
    due: datetime | None = None
    status: MessageStatus | None = None
    severity: Severity | None = None
    firing: frozenset[str] = field(default_factory=frozenset)
    resolved: frozenset[str] = field(default_factory=frozenset)


def plan(
    incident: Sequence[GroupAlert],
    pending: Pending | None,
    last: Told | None,
    policy: NotifyPolicy,
    *,
    acked: bool,
    now: datetime,
) -> Plan:
    """Decide about one receiver and one group, given the group's firing alerts (none: all resolved)."""
    now = aware("now", now)
    wanted = _wanted(incident, last, policy, acked, now)
    if pending is None:
        return wanted
    if wanted.action is PlanAction.NOTHING:
        return replace(wanted, action=PlanAction.DROP, due=None)
    if (pending.status, pending.firing, pending.severity) == (wanted.status, wanted.firing, wanted.severity):
        return Plan(action=PlanAction.NOTHING, reason=NotifyReason.ALREADY_WAITING, due=pending.due)
    due = wanted.due
    if due is not None and pending.status is wanted.status:
        due = min(due, pending.due)  # else each change would push the message further away
    return replace(wanted, action=PlanAction.REPLACE, due=due)


def _wanted(
    incident: Sequence[GroupAlert], last: Told | None, policy: NotifyPolicy, acked: bool, now: datetime
) -> Plan:
    """What there is to say beyond `last`, as if nothing were pending."""
    telling = [a for a in incident if not a.muted and a.severity >= policy.min_severity]
    if telling:
        return _firing(telling, frozenset(a.key for a in incident), last, policy, acked, now)
    if last is None or not last.known:
        return _nothing(NotifyReason.NOT_FOR_RECEIVER if incident else NotifyReason.NEVER_TOLD)
    # A silence keeps back firing and repeats, not the end of what was told: else a pager stays open for ever.
    if any(a.key in last.known for a in incident):
        return _nothing(NotifyReason.NOT_FOR_RECEIVER)
    if not policy.send_resolved:
        return _nothing(NotifyReason.RESOLVED_NOT_WANTED)
    return Plan(
        action=PlanAction.INSERT,
        reason=NotifyReason.ALL_RESOLVED,
        due=max(now, last.at + policy.group_interval),
        status=MessageStatus.RESOLVED,
        severity=last.severity,
        resolved=last.known,
    )


def _firing(
    telling: Sequence[GroupAlert],
    still_open: frozenset[str],
    last: Told | None,
    policy: NotifyPolicy,
    acked: bool,
    now: datetime,
) -> Plan:
    firing = frozenset(a.key for a in telling)
    severity = max((a.severity for a in telling), key=lambda s: s.rank)
    resolved = last.known - still_open if last is not None and policy.send_resolved else frozenset()
    news = Plan(
        action=PlanAction.INSERT,
        reason=NotifyReason.FIRST,
        due=now + policy.wait(severity),
        status=MessageStatus.FIRING,
        severity=severity,
        firing=firing,
        resolved=resolved,
    )
    if last is None:
        return news
    spaced = max(now, last.at + policy.group_interval)
    if not last.firing:
        return replace(news, due=max(spaced, now + policy.wait(severity)))
    if _has_news(telling, last, policy):
        # A warning said a minute ago must not hold back a critical one.
        rises = severity > last.severity
        due = min(spaced, now + policy.wait(severity)) if rises else spaced
        return replace(news, reason=NotifyReason.NEW_ALERTS, due=due)
    if resolved:
        return replace(news, reason=NotifyReason.SOME_RESOLVED, due=spaced)
    if acked:
        return _nothing(NotifyReason.ACKNOWLEDGED)
    repeat = last.at + policy.repeat_interval
    if now >= repeat and not last.in_flight:
        return replace(news, reason=NotifyReason.REPEAT, due=now)
    return _nothing(NotifyReason.NOTHING_NEW, due=repeat)


def _has_news(telling: Sequence[GroupAlert], last: Told, policy: NotifyPolicy) -> bool:
    """Whether an alert fires that the last message did not name, or fires again after an end it never heard of.

    Who wants to hear of ends and has not heard of this one still believes the alert is firing: no news. Who
    does not want them could otherwise never learn that it came back.
    """
    fired: dict[str, datetime] = {}
    for alert in telling:
        fired[alert.key] = min(alert.fired_at, fired.get(alert.key, alert.fired_at))
    return any(
        key not in last.firing or (at > last.at and not (policy.send_resolved and key in last.known))
        for key, at in fired.items()
    )


def _nothing(reason: NotifyReason, due: datetime | None = None) -> Plan:
    return Plan(action=PlanAction.NOTHING, reason=reason, due=due)
