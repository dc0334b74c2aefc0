"""The outbox as pure functions, a model to hold the SQL against: which rows to claim, and what a row becomes.

A claim counts as an attempt before anything is sent: after a crash the message may have arrived.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.retry import Action, Decision
from alerts.times import aware


class NotificationStatus(StrEnum):
    """Where a notification is. SENT, DEAD and DROPPED are final."""

    WAITING = "pending"
    LEASED = "leased"
    SENT = "sent"
    DEAD = "dead"
    DROPPED = "dropped"

    @property
    def final(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self in (NotificationStatus.SENT, NotificationStatus.DEAD, NotificationStatus.DROPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """What delivery needs of a stored notification.

    sequence: order of writing, unique; FIFO goes by it. attempts: claims so far. due: wall time of the next
    attempt. owner, lease_until: who is sending it, while LEASED.
    """

    id: str
    sequence: int
    receiver: str
    group: str
    severity: Severity
    status: NotificationStatus
    due: datetime
    attempts: int = 0
    owner: str = ""
    lease_until: datetime | None = None

    @property
    def replaceable(self) -> bool:
        """Whether newer news may take its place: nobody can have seen it."""
        return self.status is NotificationStatus.WAITING and self.attempts == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverHealth:
    """What is known of a receiver: `broken` until its settings change, or held back for a while."""

    broken: bool = False
    held_until: datetime | None = None


def claimable(
    rows: Iterable[OutboxRow],
    health: Mapping[str, ReceiverHealth],
    now: datetime,
    *,
    per_receiver: int = 1,
) -> tuple[OutboxRow, ...]:
    """The rows to send now, out of all that are not final.

    Per receiver and group only the oldest may go, so a resolve never overtakes its trigger; per receiver at
    most `per_receiver` are under way, so a dead one blocks nobody else; the most severe go first, then those
    due longest. A lease that has run out is free to take. A receiver without an entry in `health` is healthy.
    """
    now = aware("now", now)
    if per_receiver < 1:
        raise AlertError(f"per_receiver: must be at least 1, got {per_receiver}")
    waiting = [row for row in rows if not row.status.final]
    busy = Counter(row.receiver for row in waiting if _leased(row, now))
    ready = [row for row in _heads(waiting) if _ready(row, health.get(row.receiver, ReceiverHealth()), now)]
    claimed = []
    for row in sorted(ready, key=lambda r: (-r.severity.rank, r.due, r.sequence)):
        if busy[row.receiver] < per_receiver:
            busy[row.receiver] += 1
            claimed.append(row)
    return tuple(claimed)


def claim(row: OutboxRow, owner: str, now: datetime, lease: timedelta) -> OutboxRow:
    """The row, leased to `owner`. The lease must outlast the receiver's timeout, else two may send it."""
    now = aware("now", now)
    if row.status.final or _leased(row, now):
        raise AlertError(f"notification {row.id}: {row.status.value}, cannot be claimed")
    return replace(
        row,
        status=NotificationStatus.LEASED,
        attempts=row.attempts + 1,
        owner=owner,
        lease_until=now + lease,
    )


def settle(row: OutboxRow, claimed: OutboxRow, decision: Decision) -> OutboxRow | None:
    """The row as stored now, after the attempt made under the lease `claimed`; None when that lease was lost.

    The number of attempts tells leases apart even when the same daemon took the row again. Behind a broken
    receiver the row waits, due at once: it goes out as soon as the receiver is repaired.
    """
    lost = (row.owner, row.attempts) != (claimed.owner, claimed.attempts)
    if row.status is not NotificationStatus.LEASED or lost:
        return None
    freed = replace(row, owner="", lease_until=None)
    if decision.action is Action.DONE:
        return replace(freed, status=NotificationStatus.SENT)
    if decision.action is Action.DEAD_LETTER:
        return replace(freed, status=NotificationStatus.DEAD)
    return replace(freed, status=NotificationStatus.WAITING, due=decision.retry_at or row.due)


def next_wakeup(
    rows: Iterable[OutboxRow], health: Mapping[str, ReceiverHealth], *, per_receiver: int = 1
) -> datetime | None:
    """When the loop has to look again if nobody wakes it before; None when nothing can become due.

    Rows behind the oldest of their group, or behind a receiver that is busy, held or broken, do not count:
    the loop would spin on them.
    """
    waiting = [row for row in rows if not row.status.final]
    leases: dict[str, list[datetime]] = {}
    for row in waiting:
        if row.lease_until is not None:
            leases.setdefault(row.receiver, []).append(row.lease_until)
    times = []
    for row in _heads(waiting):
        state = health.get(row.receiver, ReceiverHealth())
        if state.broken:
            continue
        ends = leases.get(row.receiver, [])
        bounds = [row.lease_until or row.due]
        if row.lease_until is None and len(ends) >= per_receiver:
            bounds.append(min(ends))
        if state.held_until is not None:
            bounds.append(state.held_until)
        times.append(max(bounds))
    return min(times, default=None)


def _heads(rows: Iterable[OutboxRow]) -> list[OutboxRow]:
    """The oldest row of each receiver and group, out of rows that are not final."""
    oldest: dict[tuple[str, str], OutboxRow] = {}
    for row in rows:
        key = (row.receiver, row.group)
        if key not in oldest or row.sequence < oldest[key].sequence:
            oldest[key] = row
    return list(oldest.values())


def _leased(row: OutboxRow, now: datetime) -> bool:
    return row.status is NotificationStatus.LEASED and row.lease_until is not None and now < row.lease_until


def _ready(row: OutboxRow, health: ReceiverHealth, now: datetime) -> bool:
    if health.broken or _leased(row, now):
        return False
    if health.held_until is not None and now < health.held_until:
        return False
    return row.status is NotificationStatus.LEASED or row.due <= now
