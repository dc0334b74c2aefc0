"""Halves of inferences: a request or a response that was acknowledged while its other half was still to come.

At most one row per (model, event): the second half never becomes a row, it takes the first one with it into `batches`.
A half whose partner never came stays a day as a lost one, without its bytes, so that the loss can be counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, bindparam, case, delete, func, select, tuple_, update

from storage.rows import one
from storage.tables import batches, event_halves
from storage.upsert import insert_into

HalfName = Literal["request", "response"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHalf:
    """One event as it came; `at_ns` is its own time, `received_at` ours."""

    model_id: int
    event_id: str
    half: HalfName
    body_sha256: str
    at_ns: int
    received_at: datetime
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHalf:
    """A half that waits, or that is lost since `lost_at`."""

    half: HalfName
    body_sha256: str
    at_ns: int
    data: bytes
    lost_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a half.

    `waiting`: it is stored. `duplicate`: it, or the pair, is stored already. `conflict`: the same half of this event is
    stored with another body. `late`: its other half was given up. `partner`: its other half waits, here it is, and
    nothing was written. `full`: there was no room for one more that waits.
    """

    status: Literal["waiting", "duplicate", "conflict", "late", "partner", "full"]
    partner: StoredHalf | None = None


def keep(conn: Connection, new: NewHalf, *, room: bool = True) -> Kept:
    """Store a half unless its other half is here; two that arrive at once meet in the primary key.

    Without `room` only a half that completes another is of use.
    """
    paired = select(batches.c.id).where(
        batches.c.model_id == new.model_id, batches.c.batch_key == new.event_id
    )
    if conn.execute(paired).first() is not None:
        return Kept(status="duplicate")
    row = {
        "model_id": new.model_id,
        "event_id": new.event_id,
        "half": new.half,
        "body_sha256": new.body_sha256,
        "at_ns": new.at_ns,
        "received_at": new.received_at,
        "data": new.data,
        "data_bytes": len(new.data),
    }
    # Not by rowcount, which psycopg leaves at -1 for an INSERT.
    unless_known = insert_into(conn, event_halves).on_conflict_do_nothing().returning(event_halves.c.event_id)
    if room and conn.execute(unless_known, row).first() is not None:
        return Kept(status="waiting")
    query = select(
        event_halves.c.half,
        event_halves.c.body_sha256,
        event_halves.c.at_ns,
        event_halves.c.data,
        event_halves.c.lost_at,
    ).where(event_halves.c.model_id == new.model_id, event_halves.c.event_id == new.event_id)
    found = one(conn, query, StoredHalf)
    if found is None:
        # With room, the pair was completed between the two statements.
        return Kept(status="duplicate" if room else "full")
    if found.half == new.half:
        return Kept(status="duplicate" if found.body_sha256 == new.body_sha256 else "conflict")
    if found.lost_at is not None:
        return Kept(status="late")
    return Kept(status="partner", partner=found)


def take(conn: Connection, model_id: int, event_id: str) -> None:
    """The half that waited is in `batches` now; in the transaction that put it there."""
    conn.execute(
        delete(event_halves).where(event_halves.c.model_id == model_id, event_halves.c.event_id == event_id)
    )


def lose(conn: Connection, model_id: int, event_id: str, *, now: datetime) -> bool:
    """Give up one waiting half, because the pair cannot be used; whether it still waited."""
    chosen = (event_halves.c.model_id == model_id) & (event_halves.c.event_id == event_id)
    return _lose(conn, chosen & event_halves.c.lost_at.is_(None), now)


def lose_before(
    conn: Connection, received_before: datetime, *, now: datetime, limit: int
) -> Mapping[HalfName, int]:
    """Give up at most `limit` halves that have waited since before then; how many of each kind."""
    query = (
        select(event_halves.c.model_id, event_halves.c.event_id, event_halves.c.half)
        .where(event_halves.c.lost_at.is_(None), event_halves.c.received_at < received_before)
        .order_by(event_halves.c.received_at)
        .limit(limit)
    )
    found = conn.execute(query).all()
    if not found:
        return {}
    keys = [(row.model_id, row.event_id) for row in found]
    _lose(conn, tuple_(event_halves.c.model_id, event_halves.c.event_id).in_(keys), now)
    kinds = [row.half for row in found]
    return {half: kinds.count(half) for half in sorted(set(kinds))}


def drop_lost_before(conn: Connection, lost_before: datetime, *, limit: int) -> int:
    """Forget at most `limit` halves that were given up before then; returns how many."""
    key = tuple_(event_halves.c.model_id, event_halves.c.event_id)
    query = (
        select(event_halves.c.model_id, event_halves.c.event_id)
        .where(event_halves.c.lost_at < lost_before)
        .limit(limit)
    )
    keys = [(row.model_id, row.event_id) for row in conn.execute(query)]
    return conn.execute(delete(event_halves).where(key.in_(keys))).rowcount if keys else 0


_LOST = (
    select(
        event_halves.c.model_id,
        func.count(),
        func.sum(case((event_halves.c.half == "response", 1), else_=0)),
    )
    .where(event_halves.c.lost_at >= bindparam("since"))
    .group_by(event_halves.c.model_id)
)


def lost_since(conn: Connection, since: datetime) -> Mapping[int, tuple[int, int]]:
    """Per model the requests and the responses that were given up since then; absent where there are none."""
    found = conn.execute(_LOST, {"since": since})
    return {model_id: (count - int(alone), int(alone)) for model_id, count, alone in found}


def waiting_bytes(conn: Connection) -> int:
    """The bytes of all halves that wait."""
    total: int = conn.execute(
        select(func.coalesce(func.sum(event_halves.c.data_bytes), 0)).where(event_halves.c.lost_at.is_(None))
    ).scalar_one()
    return int(total)


def _lose(conn: Connection, chosen: ColumnElement[bool], now: datetime) -> bool:
    statement = update(event_halves).where(chosen)
    return conn.execute(statement.values(lost_at=now, data=b"", data_bytes=0)).rowcount > 0
