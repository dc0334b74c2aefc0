"""Delivery: order, leases and holds, and a run with crashes against the promises."""

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.ports import Outcome, OutcomeKind
from alerts.retry import Action, Decision, next_attempt
from tests.alerts.samples import NOW
from tests.storage.delivery_model import (
    NotificationStatus,
    OutboxRow,
    ReceiverHealth,
    claim,
    claimable,
    next_wakeup,
    settle,
)

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)
WAITING, LEASED = NotificationStatus.WAITING, NotificationStatus.LEASED


def row(sequence: int, receiver: str = "slack", group: str = "g", **changes: Any) -> OutboxRow:
    values: dict[str, Any] = {
        "id": f"msg_{sequence}",
        "sequence": sequence,
        "receiver": receiver,
        "group": group,
        "severity": Severity.CRITICAL,
        "status": WAITING,
        "due": NOW,
    }
    return OutboxRow(**{**values, **changes})


def ids(*rows: OutboxRow, now: datetime = NOW, health: dict[str, ReceiverHealth] | None = None) -> list[int]:
    return [r.sequence for r in claimable(rows, health or {}, now)]


def test_a_resolve_never_overtakes_its_trigger() -> None:
    trigger = row(1, due=NOW + 60 * SECOND, attempts=2)
    assert ids(trigger, row(2)) == []
    assert ids(trigger, row(2), now=NOW + 60 * SECOND) == [1]
    assert ids(replace(trigger, status=NotificationStatus.SENT), row(2)) == [2]
    assert ids(replace(trigger, status=NotificationStatus.DEAD), row(2)) == [2]


def test_a_leased_row_holds_its_group_until_the_lease_runs_out() -> None:
    leased = claim(row(1), "daemon", NOW, LEASE)
    assert ids(leased, row(2)) == []
    assert ids(leased, row(2), now=NOW + LEASE) == [1]


def test_one_dead_receiver_delays_no_other() -> None:
    stuck = [claim(row(1), "daemon", NOW, LEASE), row(2, group="h")]
    assert ids(*stuck, row(3, receiver="pager"), row(4, receiver="hook")) == [3, 4]


def test_the_most_severe_goes_first_then_the_longest_due() -> None:
    rows = [
        row(1, group="a", severity=Severity.WARNING, due=NOW - 9 * SECOND),
        row(2, group="b", due=NOW - SECOND),
        row(3, group="c", due=NOW - 2 * SECOND),
    ]
    assert ids(*rows) == [3]
    assert [r.sequence for r in claimable(rows, {}, NOW, per_receiver=3)] == [3, 2, 1]


def test_broken_and_held_receivers_wait() -> None:
    assert ids(row(1), health={"slack": ReceiverHealth(broken=True)}) == []
    held = {"slack": ReceiverHealth(held_until=NOW + SECOND)}
    assert ids(row(1), health=held) == []
    assert ids(row(1), health=held, now=NOW + SECOND) == [1]


def test_a_claim_counts_as_an_attempt_and_ends_replaceability() -> None:
    fresh = row(1)
    assert fresh.replaceable
    leased = claim(fresh, "daemon", NOW, LEASE)
    assert (leased.status, leased.attempts, leased.lease_until, leased.owner) == (
        LEASED,
        1,
        NOW + LEASE,
        "daemon",
    )
    assert not leased.replaceable
    back = settle(leased, leased, Decision(action=Action.RETRY, reason="x", retry_at=NOW + SECOND))
    assert back is not None
    assert (back.status, back.due, back.lease_until, back.owner) == (WAITING, NOW + SECOND, None, "")
    assert not back.replaceable


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.DONE, NotificationStatus.SENT),
        (Action.DEAD_LETTER, NotificationStatus.DEAD),
        (Action.BREAK_RECEIVER, NotificationStatus.WAITING),
    ],
)
def test_what_a_row_becomes(action: Action, status: NotificationStatus) -> None:
    leased = claim(row(1), "d", NOW, LEASE)
    after = settle(leased, leased, Decision(action=action, reason="x"))
    assert after is not None
    assert after.status is status


@pytest.mark.parametrize("taker", ["one", "two"])
def test_who_lost_the_lease_changes_nothing(taker: str) -> None:
    first = claim(row(1), "one", NOW, LEASE)
    second = claim(first, taker, NOW + LEASE, LEASE)
    assert second.attempts == 2
    assert settle(second, first, Decision(action=Action.DONE, reason="x")) is None
    assert settle(second, second, Decision(action=Action.DONE, reason="x")) is not None


def test_claiming_what_is_not_free_is_refused() -> None:
    leased = claim(row(1), "one", NOW, LEASE)
    for taken in (leased, row(2, status=NotificationStatus.SENT)):
        with pytest.raises(AlertError, match="cannot be claimed"):
            claim(taken, "two", NOW, LEASE)
    with pytest.raises(AlertError, match="per_receiver"):
        claimable([], {}, NOW, per_receiver=0)


def test_the_loop_wakes_for_the_next_thing_that_can_happen() -> None:
    assert next_wakeup([], {}) is None
    rows = [row(1, due=NOW + 9 * SECOND), row(2, receiver="pager", due=NOW + 5 * SECOND)]
    assert next_wakeup(rows, {}) == NOW + 5 * SECOND
    assert next_wakeup(rows, {"pager": ReceiverHealth(broken=True)}) == NOW + 9 * SECOND
    held = {"pager": ReceiverHealth(held_until=NOW + 7 * SECOND)}
    assert next_wakeup(rows, held) == NOW + 7 * SECOND
    assert next_wakeup([claim(row(3), "d", NOW, LEASE)], {}) == NOW + LEASE


def test_the_loop_does_not_spin_on_rows_that_cannot_go() -> None:
    leased = claim(row(1), "d", NOW, LEASE)
    assert next_wakeup([leased, row(2)], {}) == NOW + LEASE  # behind it in its group
    assert next_wakeup([leased, row(2, group="h")], {}) == NOW + LEASE  # the receiver is busy
    assert next_wakeup([leased, row(2, group="h")], {}, per_receiver=2) == NOW


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("gh")), min_size=1, max_size=8),
    st.lists(st.sampled_from(["ok", "fail", "crash", "crash after"]), max_size=25),
    st.integers(),
)
def test_every_row_arrives_at_least_once_and_in_order(
    written: list[tuple[str, str]], fates: list[str], seed: int
) -> None:
    """Each send ends as the next fate says, then all succeed; a crash leaves the lease behind."""
    rows = {n: row(n, receiver, group) for n, (receiver, group) in enumerate(written)}
    arrived: list[int] = []
    rng, now = random.Random(seed), NOW
    for _ in range(500):
        for taken in claimable(rows.values(), {}, now):
            leased = rows[taken.sequence] = claim(taken, "d", now, LEASE)
            fate = fates.pop(0) if fates else "ok"
            if fate in ("ok", "crash after"):
                arrived.append(leased.sequence)
            if fate in ("ok", "fail"):
                kind = OutcomeKind.DONE if fate == "ok" else OutcomeKind.LATER
                outcome = Outcome(kind=kind, detail=fate)
                after = settle(
                    leased, leased, next_attempt(min(leased.attempts, 5), leased.severity, outcome, now, rng)
                )
                assert after is not None
                rows[leased.sequence] = after
        wake = next_wakeup(rows.values(), {})
        if wake is None:
            break
        now = max(now, wake)
    assert set(arrived) == set(rows)
    for place in set(written):
        of_group = [n for n in arrived if written[n] == place]
        assert of_group == sorted(of_group)
