"""Dedup: the table of decisions, and flapping against a model of what the reader believes."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.dedup import GroupAlert, NotifyPolicy, NotifyReason, Pending, Plan, PlanAction, Told, plan
from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import MessageStatus
from tests.alerts.samples import NOW

POLICY = NotifyPolicy()
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
NOBODY: frozenset[str] = frozenset()


def alert(
    key: str, severity: Severity = Severity.CRITICAL, muted: bool = False, age: timedelta = HOUR
) -> GroupAlert:
    return GroupAlert(key=key, severity=severity, fired_at=NOW - age, muted=muted)


def told(
    firing: str, age: timedelta, severity: Severity = Severity.CRITICAL, known: str | None = None
) -> Told:
    keys = frozenset(firing)
    return Told(
        at=NOW - age,
        firing=keys,
        known=keys if known is None else frozenset(known),
        severity=severity,
    )


def waiting(firing: str, due: timedelta, reason: NotifyReason = NotifyReason.FIRST) -> Pending:
    status = MessageStatus.FIRING if firing else MessageStatus.RESOLVED
    return Pending(
        due=NOW + due, status=status, firing=frozenset(firing), reason=reason, severity=Severity.CRITICAL
    )


def ask(
    *alerts: GroupAlert,
    pending: Pending | None = None,
    last: Told | None = None,
    policy: NotifyPolicy = POLICY,
    acked: bool = False,
) -> Plan:
    return plan(alerts, pending, last, policy, acked=acked, now=NOW)


def test_the_first_critical_message_waits_ten_seconds_for_company_and_others_thirty() -> None:
    found = ask(alert("a"))
    assert (found.action, found.reason, found.due) == (
        PlanAction.INSERT,
        NotifyReason.FIRST,
        NOW + 10 * SECOND,
    )
    assert ask(alert("a", Severity.WARNING)).due == NOW + 30 * SECOND


def test_a_second_column_replaces_the_waiting_message_and_does_not_push_it_away() -> None:
    found = ask(alert("a"), alert("b"), pending=waiting("a", 4 * SECOND))
    assert (found.action, found.due) == (PlanAction.REPLACE, NOW + 4 * SECOND)
    assert found.firing == {"a", "b"}


def test_the_same_news_is_left_waiting() -> None:
    found = ask(alert("a"), pending=waiting("a", 4 * SECOND))
    assert (found.action, found.reason) == (PlanAction.NOTHING, NotifyReason.ALREADY_WAITING)


def test_a_trigger_never_attempted_is_dropped_with_its_resolve() -> None:
    found = ask(pending=waiting("a", 4 * SECOND))
    assert (found.action, found.reason) == (PlanAction.DROP, NotifyReason.NEVER_TOLD)


def test_resolved_goes_to_whoever_was_told_of_firing() -> None:
    found = ask(last=told("ab", 10 * MINUTE))
    assert (found.action, found.reason, found.status, found.due) == (
        PlanAction.INSERT,
        NotifyReason.ALL_RESOLVED,
        MessageStatus.RESOLVED,
        NOW,
    )
    assert found.resolved == {"a", "b"}
    assert ask().reason is NotifyReason.NEVER_TOLD


def test_resolved_is_not_sent_after_a_trigger_that_was_refused() -> None:
    found = ask(last=told("a", 10 * MINUTE, known=""))
    assert (found.action, found.reason) == (PlanAction.NOTHING, NotifyReason.NEVER_TOLD)


def test_a_refused_update_still_leaves_the_first_message_to_resolve() -> None:
    found = ask(last=told("ab", 10 * MINUTE, known="a"))
    assert (found.status, found.resolved) == (MessageStatus.RESOLVED, frozenset("a"))


def test_updates_keep_the_group_interval() -> None:
    found = ask(alert("a"), alert("b"), last=told("a", MINUTE))
    assert (found.reason, found.due) == (NotifyReason.NEW_ALERTS, NOW + 4 * MINUTE)
    found = ask(alert("a"), last=told("ab", MINUTE))
    assert (found.reason, found.due, found.resolved) == (
        NotifyReason.SOME_RESOLVED,
        NOW + 4 * MINUTE,
        frozenset("b"),
    )


def test_a_critical_alert_does_not_wait_behind_a_warning() -> None:
    found = ask(alert("w", Severity.WARNING), alert("c"), last=told("w", MINUTE, Severity.WARNING))
    assert (found.due, found.severity) == (NOW + 10 * SECOND, Severity.CRITICAL)


def test_repeats_come_by_their_interval_until_acknowledged() -> None:
    assert ask(alert("a"), last=told("a", 4 * HOUR)).reason is NotifyReason.REPEAT
    early = ask(alert("a"), last=told("a", HOUR))
    assert (early.action, early.reason, early.due) == (
        PlanAction.NOTHING,
        NotifyReason.NOTHING_NEW,
        NOW + 3 * HOUR,
    )
    acked = ask(alert("a"), last=told("a", 4 * HOUR), acked=True)
    assert (acked.action, acked.reason) == (PlanAction.NOTHING, NotifyReason.ACKNOWLEDGED)


def test_acknowledging_takes_back_a_repeat_that_waits_but_not_news() -> None:
    repeat = waiting("a", SECOND, NotifyReason.REPEAT)
    assert ask(alert("a"), pending=repeat, last=told("a", 5 * HOUR), acked=True).action is PlanAction.DROP
    news = ask(alert("a"), alert("b"), last=told("a", 5 * HOUR), acked=True)
    assert news.reason is NotifyReason.NEW_ALERTS
    assert ask(last=told("a", 5 * HOUR), acked=True).reason is NotifyReason.ALL_RESOLVED


def test_no_repeat_piles_up_behind_a_message_that_is_still_being_retried() -> None:
    last = replace(told("a", 5 * HOUR), in_flight=True)
    assert ask(alert("a"), last=last).action is PlanAction.NOTHING


def test_firing_again_before_the_resolve_was_sent_takes_the_resolve_back() -> None:
    # Alertmanager#2398: the reader believes it fires, and it does.
    resolve = waiting("", MINUTE, NotifyReason.ALL_RESOLVED)
    found = ask(alert("a", age=SECOND), pending=resolve, last=told("a", MINUTE))
    assert (found.action, found.reason) == (PlanAction.DROP, NotifyReason.NOTHING_NEW)


def test_firing_again_after_the_resolve_is_a_new_message_within_the_interval() -> None:
    found = ask(alert("a", age=SECOND), last=told("", MINUTE))
    assert (found.reason, found.due) == (NotifyReason.FIRST, NOW + 4 * MINUTE)


def test_without_send_resolved_a_second_episode_is_told_all_the_same() -> None:
    # Alertmanager#1063: switching resolved off once broke later firing.
    policy = replace(POLICY, send_resolved=False)
    assert ask(last=told("a", HOUR), policy=policy).reason is NotifyReason.RESOLVED_NOT_WANTED
    found = ask(alert("a", age=MINUTE), last=told("a", HOUR), policy=policy)
    assert found.reason is NotifyReason.NEW_ALERTS
    same = ask(alert("a", age=2 * HOUR), last=told("a", HOUR), policy=policy)
    assert same.reason is NotifyReason.NOTHING_NEW


def test_a_second_episode_is_told_after_a_refused_first() -> None:
    found = ask(alert("a", age=MINUTE), last=told("a", HOUR, known=""))
    assert found.reason is NotifyReason.NEW_ALERTS


def test_a_version_switch_is_no_news_because_the_subject_is_the_same() -> None:
    found = ask(alert("t", age=2 * HOUR), alert("t", age=SECOND), last=told("t", HOUR))
    assert found.reason is NotifyReason.NOTHING_NEW


def test_alerts_below_the_receivers_severity_are_not_told() -> None:
    policy = replace(POLICY, min_severity=Severity.CRITICAL)
    found = ask(alert("w", Severity.WARNING), policy=policy)
    assert (found.action, found.reason) == (PlanAction.NOTHING, NotifyReason.NOT_FOR_RECEIVER)
    assert ask(alert("w", Severity.WARNING), alert("c"), policy=policy).firing == {"c"}


def test_a_silence_drops_what_waits_and_holds_what_was_told() -> None:
    assert ask(alert("a", muted=True), pending=waiting("a", SECOND)).action is PlanAction.DROP
    held = ask(alert("a", muted=True), last=told("a", 10 * HOUR))
    assert (held.action, held.reason) == (PlanAction.NOTHING, NotifyReason.NOT_FOR_RECEIVER)
    # Over is over: otherwise the pager's incident would stay open for ever.
    assert ask(last=told("a", HOUR)).reason is NotifyReason.ALL_RESOLVED
    # A silenced column is not reported as resolved while it fires.
    assert ask(alert("a", muted=True), alert("b"), last=told("ab", HOUR)).resolved == NOBODY


def test_a_policy_without_a_repeat_interval_is_refused() -> None:
    with pytest.raises(AlertError, match="repeat_interval"):
        NotifyPolicy(repeat_interval=timedelta(0))


@dataclass
class World:
    """One receiver and one group: what was sent, what waits, and what the reader believes."""

    policy: NotifyPolicy
    last: Told | None = None
    pending: Pending | None = None
    sent: list[tuple[datetime, MessageStatus]] = field(default_factory=list)

    def tick(self, alerts: list[GroupAlert], now: datetime) -> None:
        if self.pending is not None and self.pending.due <= now:
            self.sent.append((now, self.pending.status))
            keys = self.pending.firing
            self.last = Told(at=now, firing=keys, known=keys, severity=self.pending.severity)
            self.pending = None
        found = plan(alerts, self.pending, self.last, self.policy, acked=False, now=now)
        if found.action is PlanAction.DROP:
            assert self.pending is not None
            self.pending = None
        elif found.action is not PlanAction.NOTHING:
            assert (self.pending is not None) == (found.action is PlanAction.REPLACE)
            assert found.due is not None
            assert found.status is not None
            assert found.severity is not None
            assert found.due >= now
            if found.status is MessageStatus.RESOLVED:
                assert self.last is not None
                assert self.last.known
            self.pending = Pending(
                due=found.due,
                status=found.status,
                firing=found.firing,
                reason=found.reason,
                severity=found.severity,
            )


def minutes(world: World, history: list[set[str]]) -> Iterator[datetime]:
    """Play one set of firing keys per minute, asking every ten seconds."""
    fired: dict[str, datetime] = {}
    now = NOW
    for keys in history:
        fired = {key: fired.get(key, now) for key in keys}
        for _ in range(6):
            world.tick(
                [GroupAlert(key=k, severity=Severity.CRITICAL, fired_at=t) for k, t in fired.items()], now
            )
            now += 10 * SECOND
        yield now


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=60), st.booleans())
def test_flapping_is_bounded_and_the_reader_ends_up_right(
    history: list[set[str]], send_resolved: bool
) -> None:
    world = World(replace(POLICY, send_resolved=send_resolved))
    # Ten quiet minutes at the end let the last news out.
    for _now in minutes(world, history + [history[-1]] * 10):
        pass
    span = (len(history) + 10) * MINUTE
    assert len(world.sent) <= 1 + span / POLICY.group_interval
    gaps = [b[0] - a[0] for a, b in zip(world.sent, world.sent[1:], strict=False)]
    assert all(gap >= POLICY.group_interval for gap in gaps)
    statuses = [status for _, status in world.sent]
    assert MessageStatus.RESOLVED not in statuses[:1]
    believed = world.last.firing if world.last is not None else NOBODY
    if send_resolved:
        assert believed == history[-1]
    else:
        assert MessageStatus.RESOLVED not in statuses
        assert believed >= history[-1]


def test_an_hour_of_flapping_each_minute_is_at_most_thirteen_messages() -> None:
    world = World(POLICY)
    list(minutes(world, [{"a"} if minute % 2 else set() for minute in range(60)]))
    assert 1 <= len(world.sent) <= 13
