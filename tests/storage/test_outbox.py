"""Claims: one owner per row, in order per receiver and group, nothing for a receiver on hold."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from alerts.identity import Severity
from storage import outbox, receivers, retention
from storage.engine import Database
from storage.errors import ConstraintViolated, NotFound
from storage.outbox import Attempt, NewNotification, NotificationRow
from storage.receivers import ReceiverState
from tests.storage.conftest import START, after
from tests.storage.delivery_model import NotificationStatus, OutboxRow, ReceiverHealth, claimable

LEASE = timedelta(seconds=60)


def new(
    name: str, receiver: str = "slack", group: str = "g", due: int = 0, **changes: object
) -> NewNotification:
    notification = NewNotification(
        id=f"msg_{name}",
        receiver=receiver,
        group_key=group,
        kind="firing",
        severity="warning",
        body=b'{"text":"drift"}',
        content_type="application/json",
        headers={"x-run": "1"},
        alert_ids=(1, 2),
        next_attempt_at=after(due),
        created_at=START,
    )
    return replace(notification, **changes)  # type: ignore[arg-type]  # the tests name real fields


def claim(
    conn: Connection, at: int, worker: str = "w", limit: int = 100, receiver: str | None = None
) -> list[str]:
    rows = outbox.claim_due(
        conn, now=after(at), lease_until=after(at) + LEASE, worker=worker, limit=limit, receiver=receiver
    )
    assert all(row.status == "leased" and row.leased_by == worker for row in rows)
    return [row.id.removeprefix("msg_") for row in rows]


def test_a_notification_waits_is_claimed_and_is_finished(conn: Connection) -> None:
    seq = outbox.add(conn, new("a", due=10))
    row = outbox.get(conn, "msg_a")
    assert (row.seq, row.status, row.attempts, row.alert_ids, row.headers) == (
        seq,
        "pending",
        0,
        [1, 2],
        {"x-run": "1"},
    )
    assert claim(conn, 9) == []
    assert claim(conn, 10) == ["a"]
    leased = outbox.get(conn, "msg_a")
    assert (leased.attempts, leased.leased_until, leased.body) == (1, after(70), b'{"text":"drift"}')
    assert claim(conn, 11) == []
    assert outbox.finish(conn, "msg_a", worker="w", at=after(12))
    done = outbox.get(conn, "msg_a")
    assert (done.status, done.finished_at, done.leased_by, done.leased_until) == (
        "sent",
        after(12),
        None,
        None,
    )
    assert claim(conn, 10**6) == []
    with conn.begin_nested() as savepoint:
        with pytest.raises(ConstraintViolated, match=r"(?i)unique constraint"):
            outbox.add(conn, new("a"))
        savepoint.rollback()
    with pytest.raises(NotFound, match="no notification with id 'msg_z'"):
        outbox.get(conn, "msg_z")


def test_a_resolve_never_overtakes_its_trigger(conn: Connection) -> None:
    for name in ("trigger", "resolve"):
        outbox.add(conn, new(name))
    outbox.add(conn, new("elsewhere", group="h"))
    outbox.add(conn, new("pager", receiver="pagerduty"))
    assert claim(conn, 1) == ["trigger", "elsewhere", "pager"]
    assert claim(conn, 2) == []
    assert outbox.reschedule(conn, "msg_trigger", worker="w", next_attempt_at=after(500), reason="503")
    assert claim(conn, 3) == []  # the resolve is due, its trigger is not
    assert claim(conn, 500) == ["elsewhere", "pager", "trigger"]  # two leases ran out meanwhile
    assert outbox.finish(conn, "msg_trigger", worker="w", at=after(501))
    assert claim(conn, 502) == ["resolve"]


@pytest.mark.parametrize("end", ["finish", "dead_letter", "drop"])
def test_the_next_of_a_group_goes_once_the_first_is_done_with(conn: Connection, end: str) -> None:
    outbox.add(conn, new("first"))
    outbox.add(conn, new("second"))
    if end == "drop":
        assert outbox.drop(conn, "msg_first", at=after(1), reason="resolved before it was sent")
    else:
        assert claim(conn, 1) == ["first"]
        if end == "finish":
            assert outbox.finish(conn, "msg_first", worker="w", at=after(1))
        else:
            assert outbox.dead_letter(conn, "msg_first", worker="w", at=after(1), reason="400")
    assert claim(conn, 2) == ["second"]


def test_critical_ones_are_claimed_first_then_those_due_longest(conn: Connection) -> None:
    outbox.add(conn, new("late", group="1", due=5))
    outbox.add(conn, new("early", group="2", due=3))
    outbox.add(conn, new("critical", group="3", due=9, severity="critical"))
    assert claim(conn, 10, limit=2) == ["critical", "early"]
    assert claim(conn, 10) == ["late"]


def test_one_receiver_can_be_asked_for_alone(conn: Connection) -> None:
    outbox.add(conn, new("a"))
    outbox.add(conn, new("b", receiver="pagerduty"))
    assert claim(conn, 1, receiver="pagerduty") == ["b"]


def test_a_lease_that_ran_out_is_taken_over_under_the_same_id(conn: Connection) -> None:
    outbox.add(conn, new("a"))
    assert claim(conn, 0, worker="dead") == ["a"]
    assert claim(conn, 59, worker="alive") == []
    assert claim(conn, 60, worker="alive") == ["a"]
    assert outbox.get(conn, "msg_a").attempts == 2
    for late in (
        outbox.finish(conn, "msg_a", worker="dead", at=after(61)),
        outbox.reschedule(conn, "msg_a", worker="dead", next_attempt_at=after(99), reason=""),
        outbox.dead_letter(conn, "msg_a", worker="dead", at=after(61), reason=""),
    ):
        assert late is False
    assert outbox.get(conn, "msg_a").leased_by == "alive"


def test_a_receiver_on_hold_or_broken_is_left_out(conn: Connection) -> None:
    for receiver in ("held", "broken", "probed", "fine"):
        outbox.add(conn, new(receiver, receiver=receiver))
    receivers.put(conn, ReceiverState(receiver="held", hold_until=after(100), reason="429"))
    receivers.put(conn, ReceiverState(receiver="broken", broken_since=after(0), reason="410"))
    receivers.put(conn, ReceiverState(receiver="probed", broken_since=after(0), hold_until=after(200)))
    assert claim(conn, 99) == ["fine"]
    assert claim(conn, 100) == ["held"]
    assert "probed" in claim(conn, 200)
    assert outbox.get(conn, "msg_broken").attempts == 0
    assert receivers.clear(conn, "broken")
    assert not receivers.clear(conn, "broken")
    assert "broken" in claim(conn, 201)
    assert receivers.get(conn, "held") == ReceiverState(receiver="held", hold_until=after(100), reason="429")
    assert receivers.get(conn, "broken") == ReceiverState(receiver="broken")
    assert [state.receiver for state in receivers.list_states(conn)] == ["held", "probed"]


def test_only_a_notification_that_was_never_tried_is_replaced_or_dropped(conn: Connection) -> None:
    outbox.add(conn, new("a"))

    def replaced(body: bytes) -> bool:
        return outbox.replace(
            conn,
            "msg_a",
            kind="resolved",
            severity="critical",
            body=body,
            alert_ids=[3],
            next_attempt_at=after(5),
            reason="why",
        )

    assert replaced(b"newer")
    row = outbox.get(conn, "msg_a")
    assert (row.kind, row.severity, row.body, row.alert_ids, row.next_attempt_at, row.reason) == (
        "resolved", "critical", b"newer", [3], after(5), "why",
    )  # fmt: skip
    assert claim(conn, 5) == ["a"]
    assert not replaced(b"too late")
    assert not outbox.drop(conn, "msg_a", at=after(6), reason="", attempted_too=True)  # leased
    assert outbox.reschedule(conn, "msg_a", worker="w", next_attempt_at=after(7), reason="timeout")
    assert not replaced(b"too late")
    assert not outbox.drop(conn, "msg_a", at=after(6), reason="")
    assert outbox.drop(conn, "msg_a", at=after(6), reason="receiver removed", attempted_too=True)
    row = outbox.get(conn, "msg_a")
    assert (row.status, row.body, row.reason) == ("dropped", b"newer", "receiver removed")


def test_what_a_receiver_was_told_last(conn: Connection) -> None:
    for name in ("a", "b", "c"):
        outbox.add(conn, new(name))
    outbox.add(conn, new("other", group="h"))
    assert outbox.last_for(conn, "slack", "g") is None
    assert [row.id for row in outbox.pending_for(conn, "slack", "g")] == ["msg_a", "msg_b", "msg_c"]
    claim(conn, 0)
    outbox.finish(conn, "msg_a", worker="w", at=after(1))
    claim(conn, 2)
    outbox.dead_letter(conn, "msg_b", worker="w", at=after(3), reason="400")

    def last(not_dead: bool = False) -> str | None:
        found: NotificationRow | None = outbox.last_for(conn, "slack", "g", not_dead=not_dead)
        return None if found is None else found.id

    assert last() == "msg_b"
    assert last(not_dead=True) == "msg_a"
    assert [row.id for row in outbox.pending_for(conn, "slack", "g")] == ["msg_c"]


def test_groups_that_somebody_was_last_told_are_firing(conn: Connection) -> None:
    for group in ("1", "2", "3"):
        outbox.add(conn, new(f"fire-{group}", group=group))
    claim(conn, 0)
    outbox.finish(conn, "msg_fire-1", worker="w", at=after(1))
    outbox.finish(conn, "msg_fire-2", worker="w", at=after(1))
    outbox.add(conn, new("end-2", group="2", kind="resolved"))
    outbox.add(conn, new("end-1", group="1", kind="resolved"))
    assert outbox.groups_told_firing(conn) == ["1", "2", "3"]
    claim(conn, 2, limit=1)
    assert outbox.groups_told_firing(conn) == ["1", "3"]


def test_every_try_is_kept(conn: Connection) -> None:
    outbox.add(conn, new("a"))
    assert outbox.last_attempt_at(conn, "msg_a") is None
    tries = [
        Attempt(notification_id="msg_a", at=after(at), outcome=o, http_status=s, detail="", duration_ms=12)
        for at, o, s in ((1, "retry", 503), (9, "sent", 200), (5, "retry", None))
    ]
    for attempt in tries:
        outbox.record_attempt(conn, attempt)
    assert outbox.list_attempts(conn, "msg_a") == tries
    assert outbox.last_attempt_at(conn, "msg_a") == after(9)


def test_statistics_and_the_longest_waiting_due_row(conn: Connection) -> None:
    assert outbox.oldest_due(conn, now=after(100)) is None
    outbox.add(conn, new("a", due=50))
    outbox.add(conn, new("b", due=20, receiver="broken"))
    outbox.add(conn, new("c", due=70, group="h"))
    assert outbox.oldest_due(conn, now=after(49)) == after(20)
    receivers.put(conn, ReceiverState(receiver="broken", broken_since=after(0)))
    assert outbox.oldest_due(conn, now=after(49)) is None
    assert outbox.oldest_due(conn, now=after(100)) == after(50)
    claim(conn, 60)
    outbox.finish(conn, "msg_a", worker="w", at=after(61))
    outbox.add(conn, new("d", due=90))
    assert [
        (s.receiver, s.pending, s.leased, s.sent, s.dead, s.dropped, s.oldest_due) for s in outbox.stats(conn)
    ] == [("broken", 1, 0, 0, 0, 0, after(20)), ("slack", 2, 0, 1, 0, 0, after(70))]
    assert [row.id for row in outbox.list_notifications(conn, receiver="slack", limit=2)] == [
        "msg_d",
        "msg_c",
    ]
    (sent,) = outbox.list_notifications(conn, status="sent", group_key="g")
    assert outbox.list_notifications(conn, before_seq=sent.seq) == []


def test_old_finished_notifications_go_with_their_tries(conn: Connection) -> None:
    outbox.add(conn, new("a"))
    outbox.add(conn, new("b"))
    claim(conn, 0)
    outbox.record_attempt(
        conn,
        Attempt(
            notification_id="msg_a", at=after(0), outcome="sent", http_status=200, detail="", duration_ms=1
        ),
    )
    outbox.finish(conn, "msg_a", worker="w", at=after(1))
    assert retention.drop_notifications_before(conn, after(1), limit=10) == 1
    assert outbox.list_attempts(conn, "msg_a") == []
    assert [row.id for row in outbox.list_notifications(conn)] == ["msg_b"]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["slack", "pager"]), st.sampled_from("gh")),
        st.tuples(st.just("claim"), st.sampled_from(["w1", "w2"]), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.sampled_from(["finish", "reschedule", "dead"]), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 90), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_whatever_happens_each_group_is_sent_in_order_and_by_one_at_a_time(
    conn: Connection, actions: list[tuple[str, object, object]]
) -> None:
    with conn.begin_nested() as savepoint:
        now, count = 0, 0
        for action, what, how in actions:
            if action == "add":
                outbox.add(conn, new(f"{count:03}", receiver=str(what), group=str(how), due=now))
                count += 1
            elif action == "wait":
                now += int(str(what))
            elif action == "claim":
                claimed = claim(conn, now, worker=str(what), limit=int(str(how)))
                check_claim(conn, claimed)
            else:
                settle(conn, str(what), int(str(how)), now)
        savepoint.rollback()


def check_claim(conn: Connection, claimed: list[str]) -> None:
    rows = [outbox.get(conn, f"msg_{name}") for name in claimed]
    assert len({(row.receiver, row.group_key) for row in rows}) == len(rows)
    for row in rows:
        queue = outbox.pending_for(conn, row.receiver, row.group_key)
        assert queue[0].id == row.id, "an older one was overtaken"
        assert [waiting.status for waiting in queue] == ["leased"] + ["pending"] * (len(queue) - 1)


def settle(conn: Connection, how: str, which: int, now: int) -> None:
    leased = outbox.list_notifications(conn, status="leased")
    if not leased:
        return
    row = leased[which % len(leased)]
    worker = str(row.leased_by)
    if how == "finish":
        assert outbox.finish(conn, row.id, worker=worker, at=after(now))
    elif how == "dead":
        assert outbox.dead_letter(conn, row.id, worker=worker, at=after(now), reason="400")
    else:
        assert outbox.reschedule(conn, row.id, worker=worker, next_attempt_at=after(now + 30), reason="503")


def test_two_claims_in_one_group_commit_never_share_a_row(database: Database) -> None:
    def fill(conn: Connection) -> None:
        for i in range(30):
            outbox.add(conn, new(f"{i:02}", group=f"{i % 20}"))

    def claimer(worker: str) -> Callable[[Connection], list[str]]:
        return lambda conn: claim(conn, 1, worker=worker, limit=15)

    database.write(fill).result(10)
    futures = [database.write(claimer(worker)) for worker in ("w1", "w2", "w3")]
    claimed = [future.result(10) for future in futures]
    assert [len(names) for names in claimed] == [15, 5, 0]
    assert len({name for names in claimed for name in names}) == 20


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("gh"),
            st.integers(0, 20),
            st.sampled_from(["warning", "critical"]),
        ),
        max_size=8,
    ),
    st.sampled_from(["", "a"]),
    st.integers(0, 20),
)
def test_the_sql_claims_what_the_model_claims(
    conn: Connection, written: list[tuple[str, str, int, str]], held: str, now: int
) -> None:
    with conn.begin_nested() as example:
        try:
            for number, (receiver, group, due, severity) in enumerate(written):
                outbox.add(conn, new(str(number), receiver=receiver, group=group, due=due, severity=severity))
            if held:
                receivers.put(conn, ReceiverState(receiver=held, hold_until=after(now + 1)))
            rows = [
                OutboxRow(
                    id=str(number),
                    sequence=number,
                    receiver=receiver,
                    group=group,
                    severity=Severity(severity),
                    status=NotificationStatus.WAITING,
                    due=after(due),
                )
                for number, (receiver, group, due, severity) in enumerate(written)
            ]
            health = {held: ReceiverHealth(held_until=after(now + 1))} if held else {}
            expected = [row.id for row in claimable(rows, health, after(now), per_receiver=len(rows) + 1)]
            assert claim(conn, now) == expected

        finally:
            example.rollback()
