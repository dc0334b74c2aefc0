"""The outbox: notifications that wait to be sent, in order per receiver and group, claimed by lease.

A row is written in the transaction of the change it announces and marked after the send, never before. Its life is
`pending → leased → sent | dead`, back to `pending` for a later try, or `dropped` without having been sent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from storage.column_types import UtcDateTime
from storage.errors import NotFound
from storage.rows import many, new_id, one
from storage.tables import attempts, notifications, receiver_states

UNDELIVERED = ("pending", "leased")
_RENEWED_ATTEMPTS = 5
ACKNOWLEDGED = "acknowledged"
"""The kind of a notification that says nothing of what fires, only that somebody has taken it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotification:
    """A message to one receiver: the bytes that will be sent, nothing secret among its headers, and why it is sent."""

    id: str
    receiver: str
    group_key: str
    kind: str
    severity: str
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    alert_ids: Sequence[int] = ()
    next_attempt_at: datetime
    created_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRow:
    """A stored notification; `attempts` counts claims, so 0 means that nobody can have received it.

    `written_at` differs from `created_at` where newer content took the place of older that nobody had received.
    `reason` says why it is sent until it was tried, then what came of the last try.
    """

    seq: int
    id: str
    receiver: str
    group_key: str
    status: str
    kind: str
    severity: str
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    alert_ids: Sequence[int]
    attempts: int
    next_attempt_at: datetime
    leased_by: str | None
    leased_until: datetime | None
    created_at: datetime
    written_at: datetime
    finished_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to send: what became of it, the HTTP status if there was a reply, and how long it took."""

    notification_id: str
    at: datetime
    outcome: str
    http_status: int | None
    detail: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """How one receiver's queue stands; `oldest_due` is the earliest time at which an undelivered row was due."""

    receiver: str
    pending: int
    leased: int
    sent: int
    dead: int
    dropped: int
    oldest_due: datetime | None


def add(conn: Connection, notification: NewNotification) -> int:
    """Queue a notification and return its place; in the transaction of the change that it announces."""
    values = asdict(notification)
    values |= {"status": "pending", "attempts": 0, "alert_ids": list(notification.alert_ids)}
    values["written_at"] = notification.created_at
    return new_id(conn, insert(notifications), values, column="seq")


def replace(
    conn: Connection,
    notification_id: str,
    *,
    kind: str,
    severity: str,
    body: bytes,
    alert_ids: Sequence[int],
    next_attempt_at: datetime,
    reason: str | None = None,
) -> bool:
    """Put newer content in a notification that was never attempted; False if it is too late for that."""
    values = {
        "kind": kind,
        "severity": severity,
        "body": body,
        "alert_ids": list(alert_ids),
        "next_attempt_at": next_attempt_at,
        "reason": reason,
    }
    return _guarded(
        conn, notification_id, values, notifications.c.status == "pending", notifications.c.attempts == 0
    )


def renew(
    conn: Connection,
    notification_id: str,
    *,
    kind: str,
    severity: str,
    body: bytes,
    alert_ids: Sequence[int],
    at: datetime,
) -> bool:
    """Put a notification in the queue once more with the content of `at`, due at once; False while it is leased.

    For destinations that are told of the same state over and over: one row, however often. Of its earlier tries
    only the first success and the last of all stay. While nobody has received it, `created_at` stays, which says for how
    long, and its attempts count on, but never so far that it would be given up.
    """
    row = notifications.c
    values = {
        "kind": kind,
        "severity": severity,
        "body": body,
        "alert_ids": list(alert_ids),
        "status": "pending",
        "attempts": case(
            (row.attempts == 0, 0),
            (row.finished_at.is_not(None), 1),
            (row.attempts > _RENEWED_ATTEMPTS, _RENEWED_ATTEMPTS),
            else_=row.attempts,
        ),
        "created_at": case((row.finished_at.is_not(None), literal(at, UtcDateTime())), else_=row.created_at),
        "written_at": at,
        "next_attempt_at": at,
        "finished_at": None,
        "reason": None,
    }
    if not _guarded(conn, notification_id, values, row.status != "leased"):
        return False
    mine = attempts.c.notification_id == notification_id
    kept = [
        select(func.min(attempts.c.id)).where(mine, attempts.c.outcome == "done").scalar_subquery(),
        select(func.max(attempts.c.id)).where(mine).scalar_subquery(),
    ]
    stays = or_(*(attempts.c.id == one for one in kept))
    conn.execute(delete(attempts).where(mine, func.coalesce(stays, false()) == false()))
    return True


def drop(
    conn: Connection, notification_id: str, *, at: datetime, reason: str, attempted_too: bool = False
) -> bool:
    """Give up a pending notification without sending it; False if it was attempted, is leased, or is done."""
    guards = [notifications.c.status == "pending"]
    if not attempted_too:
        guards.append(notifications.c.attempts == 0)
    return _guarded(
        conn, notification_id, {"status": "dropped", "finished_at": at, "reason": reason}, *guards
    )


def get(conn: Connection, notification_id: str) -> NotificationRow:
    """One notification; NotFound if there is none with that id."""
    found = one(conn, select(notifications).where(notifications.c.id == notification_id), NotificationRow)
    if found is None:
        raise NotFound(f"there is no notification with id {notification_id!r}")
    return found


def pending_for(conn: Connection, receiver: str, group_key: str) -> list[NotificationRow]:
    """The undelivered notifications of one receiver and group, leased ones too, oldest first."""
    query = (
        select(notifications)
        .where(
            notifications.c.receiver == receiver,
            notifications.c.group_key == group_key,
            notifications.c.status.in_(UNDELIVERED),
        )
        .order_by(notifications.c.seq)
    )
    return many(conn, query, NotificationRow)


_LAST = (
    select(notifications)
    .where(
        notifications.c.receiver == bindparam("receiver"),
        notifications.c.group_key == bindparam("group_key"),
        notifications.c.attempts > 0,
        notifications.c.kind != ACKNOWLEDGED,
    )
    .order_by(notifications.c.seq.desc())
    .limit(1)
)
_LAST_NOT_DEAD = _LAST.where(notifications.c.status != "dead")


def last_for(
    conn: Connection, receiver: str, group_key: str, *, not_dead: bool = False
) -> NotificationRow | None:
    """The newest notification of that receiver and group that was sent or at least attempted; None if none was.

    With `not_dead` those are left out that were given up: what the receiver may know, not what it should.
    """
    query = _LAST_NOT_DEAD if not_dead else _LAST
    return one(conn, query, NotificationRow, {"receiver": receiver, "group_key": group_key})


_NEWEST_TOLD = (
    select(func.max(notifications.c.seq))
    .where(notifications.c.attempts > 0, notifications.c.kind != ACKNOWLEDGED)
    .group_by(notifications.c.receiver, notifications.c.group_key)
)
_TOLD_FIRING = (
    select(notifications.c.group_key)
    .where(notifications.c.seq.in_(_NEWEST_TOLD), notifications.c.kind == "firing")
    .distinct()
    .order_by(notifications.c.group_key)
)


def groups_told_firing(conn: Connection) -> list[str]:
    """The groups that some receiver was last told (or may have been told) are firing, sorted."""
    return list(conn.execute(_TOLD_FIRING).scalars())


def claim_due(
    conn: Connection,
    *,
    now: datetime,
    lease_until: datetime,
    worker: str,
    limit: int,
    receiver: str | None = None,
) -> list[NotificationRow]:
    """Lease due notifications to `worker` until `lease_until`, at most one per receiver and group, critical ones first.

    Due is a pending row whose time has come, or a leased one whose lease has run out (its worker died: it may have
    been sent, and is sent again under the same id). Only the oldest undelivered row of a group is claimed, so a
    resolve never overtakes its trigger. Receivers on hold are left out; so are broken ones, except that
    a broken receiver whose `hold_until` has passed is tried again.
    """
    lease = {
        "status": "leased",
        "leased_by": worker,
        "leased_until": lease_until,
        "attempts": notifications.c.attempts + 1,
    }
    due = _claimable(conn, now, receiver, limit, lock=True)
    # The guard repeats the condition: a row belongs to whoever changed it, not to whoever saw it.
    return [get(conn, claimed) for claimed in due if _guarded(conn, claimed, lease, _due(now))]


def end_leases(conn: Connection, *, at: datetime) -> int:
    """Let every lease run out at that time, for nobody lives who could hold one; returns how many."""
    leased = notifications.c.status == "leased"
    return conn.execute(update(notifications).where(leased).values(leased_until=at)).rowcount


def due(conn: Connection, *, now: datetime, limit: int, receiver: str) -> list[NotificationRow]:
    """What `claim_due` would lease, without leasing it: for a store that cannot be written at the moment."""
    return [get(conn, found) for found in _claimable(conn, now, receiver, limit)]


def adopt(conn: Connection, notification_id: str, *, worker: str, attempts: int, now: datetime) -> bool:
    """Lease a notification that `worker` sent without a lease, after `attempts` tries in all; False if it is another's."""
    row = notifications.c
    mine = and_(row.status == "leased", or_(row.leased_by == worker, row.leased_until <= now))
    values = {"status": "leased", "leased_by": worker, "leased_until": now, "attempts": attempts}
    return _guarded(conn, notification_id, values, or_(row.status == "pending", mine))


def _claimable(
    conn: Connection, now: datetime, receiver: str | None, limit: int, *, lock: bool = False
) -> list[str]:
    values = {"now": now, "limit": limit} | ({} if receiver is None else {"receiver": receiver})
    return list(conn.execute(_claiming(of_one=receiver is not None, lock=lock), values).scalars())


@cache
def _claiming(*, of_one: bool, lock: bool) -> Select[str]:
    now = bindparam("now", type_=UtcDateTime)
    query = (
        select(notifications.c.id)
        .where(_due(now), ~_older_undelivered(), ~_held(now))
        .order_by(_urgency(), notifications.c.next_attempt_at, notifications.c.seq)
        .limit(bindparam("limit", type_=Integer))
    )
    if of_one:
        query = query.where(notifications.c.receiver == bindparam("receiver"))
    return query.with_for_update(skip_locked=True) if lock else query


def _urgency() -> ColumnElement[int]:
    return case((notifications.c.severity == "critical", 0), else_=1)


def _due(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    row = notifications.c
    return or_(
        and_(row.status == "pending", row.next_attempt_at <= now),
        and_(row.status == "leased", row.leased_until <= now),
    )


def _older_undelivered() -> ColumnElement[bool]:
    older = notifications.alias("older")
    return exists().where(
        older.c.receiver == notifications.c.receiver,
        older.c.group_key == notifications.c.group_key,
        older.c.seq < notifications.c.seq,
        older.c.status.in_(UNDELIVERED),
    )


def _held(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    state = receiver_states.c
    on_hold = state.hold_until > now
    broken_for_good = and_(state.broken_since.is_not(None), state.hold_until.is_(None))
    return exists().where(state.receiver == notifications.c.receiver, or_(on_hold, broken_for_good))


def _guarded(
    conn: Connection, notification_id: str, values: Mapping[str, Any], *guards: ColumnElement[bool]
) -> bool:
    statement = update(notifications).where(notifications.c.id == notification_id, *guards).values(**values)
    return conn.execute(statement).rowcount == 1


def _leave_lease(conn: Connection, notification_id: str, worker: str, values: Mapping[str, Any]) -> bool:
    mine = (notifications.c.status == "leased", notifications.c.leased_by == worker)
    return _guarded(conn, notification_id, {"leased_by": None, "leased_until": None, **values}, *mine)


def finish(conn: Connection, notification_id: str, *, worker: str, at: datetime) -> bool:
    """Mark a leased notification as sent; False if `worker` no longer holds its lease."""
    return _leave_lease(conn, notification_id, worker, {"status": "sent", "finished_at": at, "reason": None})


def reschedule(
    conn: Connection, notification_id: str, *, worker: str, next_attempt_at: datetime, reason: str
) -> bool:
    """Return a leased notification to the queue for a later try; False if `worker` no longer holds its lease."""
    values = {"status": "pending", "next_attempt_at": next_attempt_at, "reason": reason}
    return _leave_lease(conn, notification_id, worker, values)


def dead_letter(conn: Connection, notification_id: str, *, worker: str, at: datetime, reason: str) -> bool:
    """Give up a leased notification for good; False if `worker` no longer holds its lease."""
    return _leave_lease(
        conn, notification_id, worker, {"status": "dead", "finished_at": at, "reason": reason}
    )


def record_attempt(conn: Connection, attempt: Attempt) -> None:
    """Append one try to the history; `detail` must hold no secret."""
    conn.execute(insert(attempts), asdict(attempt))


def list_attempts(conn: Connection, notification_id: str) -> list[Attempt]:
    """The tries of one notification, oldest first."""
    row = attempts.c
    query = select(row.notification_id, row.at, row.outcome, row.http_status, row.detail, row.duration_ms)
    query = query.where(row.notification_id == notification_id).order_by(row.id)
    return many(conn, query, Attempt)


def last_attempt_at(conn: Connection, notification_id: str) -> datetime | None:
    """When that notification was last tried; None if no try was recorded."""
    query = select(func.max(attempts.c.at)).where(attempts.c.notification_id == notification_id)
    at: datetime | None = conn.execute(query).scalar_one()
    return at


def list_notifications(
    conn: Connection,
    *,
    receiver: str | None = None,
    status: str | None = None,
    group_key: str | None = None,
    before_seq: int | None = None,
    limit: int = 100,
) -> list[NotificationRow]:
    """Notifications that match every filter given, newest first; `before_seq` continues after a page."""
    query = select(notifications).order_by(notifications.c.seq.desc()).limit(limit)
    for name, value in {"receiver": receiver, "status": status, "group_key": group_key}.items():
        if value is not None:
            query = query.where(notifications.c[name] == value)
    if before_seq is not None:
        query = query.where(notifications.c.seq < before_seq)
    return many(conn, query, NotificationRow)


def oldest_due(conn: Connection, *, now: datetime) -> datetime | None:
    """Since when the longest waiting due notification is due, over all receivers that are not broken; None if none."""
    broken = exists().where(
        receiver_states.c.receiver == notifications.c.receiver, receiver_states.c.broken_since.is_not(None)
    )
    query = select(func.min(notifications.c.next_attempt_at)).where(
        notifications.c.status.in_(UNDELIVERED), notifications.c.next_attempt_at <= now, ~broken
    )
    since: datetime | None = conn.execute(query).scalar_one()
    return since


def groups_written_since(
    conn: Connection, receivers: Sequence[str], since: datetime, *, kinds: Sequence[str]
) -> set[str]:
    """The groups with a notification of those receivers and kinds that was written since then, or still waits."""
    row = notifications.c
    recent = or_(row.written_at >= since, row.status.in_(UNDELIVERED))
    query = select(row.group_key).where(row.receiver.in_(receivers), row.kind.in_(kinds), recent)
    return set(conn.execute(query.distinct()).scalars())


_DEAD = (
    select(notifications.c.receiver, notifications.c.reason)
    .where(
        notifications.c.status == "dead",
        notifications.c.finished_at >= bindparam("since"),
        notifications.c.kind != bindparam("not_kind"),
    )
    .order_by(notifications.c.finished_at)
)
_OVERDUE = (
    select(notifications.c.receiver, notifications.c.reason)
    .where(
        notifications.c.status.in_(UNDELIVERED),
        notifications.c.created_at <= bindparam("before"),
        notifications.c.attempts >= bindparam("attempts"),
    )
    .order_by(notifications.c.seq.desc())
)


def given_up(conn: Connection, *, since: datetime, not_kind: str) -> dict[str, tuple[int, str]]:
    """Receivers with dead letters since then, but for those of one kind: how many, and why the last one died."""
    found: dict[str, tuple[int, str]] = {}
    for receiver, reason in conn.execute(_DEAD, {"since": since, "not_kind": not_kind}):
        found[receiver] = (found.get(receiver, (0, ""))[0] + 1, reason or "")
    return found


def overdue(conn: Connection, *, before: datetime, attempts: int) -> dict[str, str]:
    """Receivers with a notification written before then and undelivered after that many tries, and what the last came to."""
    found = conn.execute(_OVERDUE, {"before": before, "attempts": attempts})
    return {receiver: reason or "" for receiver, reason in found}


def forsake(conn: Connection, receivers: Collection[str], *, now: datetime, reason: str) -> int:
    """Drop what waits for receivers other than these, which nobody delivers to any more; how many rows."""
    row = notifications.c
    statement = (
        update(notifications)
        .where(
            row.receiver.not_in(sorted(receivers)),
            or_(row.status == "pending", and_(row.status == "leased", row.leased_until <= now)),
        )
        .values(status="dropped", leased_by=None, leased_until=None, finished_at=now, reason=reason)
    )
    return conn.execute(statement).rowcount


def shift(conn: Connection, by: timedelta) -> None:
    """Move every wait by the step that the wall clock made: retries, leases and holds of receivers."""
    row, state = notifications.c, receiver_states.c
    waiting = select(row.id, row.next_attempt_at, row.leased_until).where(row.status.in_(UNDELIVERED))
    for found in conn.execute(waiting).all():
        lease = None if found.leased_until is None else found.leased_until + by
        values = {"next_attempt_at": found.next_attempt_at + by, "leased_until": lease}
        conn.execute(update(notifications).where(row.id == found.id).values(**values))
    for held in conn.execute(
        select(state.receiver, state.hold_until).where(state.hold_until.is_not(None))
    ).all():
        statement = update(receiver_states).where(state.receiver == held.receiver)
        conn.execute(statement.values(hold_until=held.hold_until + by))


def stats(conn: Connection) -> list[QueueStats]:
    """How many notifications each receiver has in each state, by receiver."""
    row = notifications.c
    counts: dict[str, dict[str, int]] = {}
    for receiver, status, count in conn.execute(
        select(row.receiver, row.status, func.count())
        .group_by(row.receiver, row.status)
        .order_by(row.receiver)
    ):
        counts.setdefault(receiver, {})[status] = count
    due = (
        select(row.receiver, func.min(row.next_attempt_at))
        .where(row.status.in_(UNDELIVERED))
        .group_by(row.receiver)
    )
    oldest: dict[str, datetime] = dict(conn.execute(due).all())
    return [
        QueueStats(
            receiver=receiver,
            pending=by_status.get("pending", 0),
            leased=by_status.get("leased", 0),
            sent=by_status.get("sent", 0),
            dead=by_status.get("dead", 0),
            dropped=by_status.get("dropped", 0),
            oldest_due=oldest.get(receiver),
        )
        for receiver, by_status in counts.items()
    ]
