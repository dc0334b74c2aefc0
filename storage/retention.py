"""Deleting what is old or too much: always a chunk at a time, so that no other write waits long behind it.

Every `drop_*` deletes at most `limit` rows and returns how many; call it in writes of its own until it returns less
than `limit`. Alerts and transitions stay.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, Table, delete, func, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from storage.batches import RANK_RANGE, forget_payloads
from storage.tables import (
    batches,
    blocks,
    evaluations,
    labels,
    model_versions,
    notifications,
    panes,
    performances,
    servings,
)

_HOUR = 3600
_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadUse:
    """How many batches still have their payload, and the sum of its bytes."""

    payloads: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """What one step of thinning removed, and the share of ranks (0 to 1) below which payloads are still kept.

    `kept_share` is None if nothing was removed: then it is what the step before said.
    """

    removed: int
    removed_bytes: int
    kept_share: float | None


def payload_use(conn: Connection) -> PayloadUse:
    """What the raw payloads take; read from an index, without touching the payloads."""
    query = select(func.count(), func.coalesce(func.sum(batches.c.payload_bytes), 0)).where(
        batches.c.payload_bytes > 0
    )
    count, total = conn.execute(query).one()
    return PayloadUse(payloads=count, total_bytes=int(total))


def drop_payloads_before(conn: Connection, received_before: datetime, *, limit: int) -> int:
    """Delete the payloads of folded batches that arrived before then, oldest first; the batches' own rows stay."""
    query = (
        select(batches.c.id)
        .where(batches.c.received_at < received_before, batches.c.payload_bytes > 0, batches.c.folded != 0)
        .order_by(batches.c.received_at)
        .limit(limit)
    )
    return forget_payloads(conn, list(conn.execute(query).scalars()))


def thin_payloads(conn: Connection, *, over_bytes: int, limit: int) -> Thinned:
    """Delete payloads of folded batches in descending order of their hash rank, until `over_bytes` are freed.

    The rank is a uniform hash of the batch key, so what is kept is a fair sample of whole batches over all times.
    """
    query = (
        select(batches.c.id, batches.c.payload_bytes, batches.c.thin_rank)
        .where(batches.c.payload_bytes > 0, batches.c.folded != 0)
        .order_by(batches.c.thin_rank.desc())
        .limit(limit)
    )
    return _thin(conn, query, over_bytes)


def _thin(conn: Connection, query: Select[int, int, int], over_bytes: int) -> Thinned:
    chosen: list[int] = []
    freed, lowest = 0, RANK_RANGE
    for batch_id, size, rank in conn.execute(query):
        if freed >= over_bytes:
            break
        chosen.append(batch_id)
        freed += size
        lowest = rank
    forget_payloads(conn, chosen)
    return Thinned(
        removed=len(chosen), removed_bytes=freed, kept_share=lowest / RANK_RANGE if chosen else None
    )


def give_up_unfolded_before(conn: Connection, received_before: datetime, *, limit: int) -> int:
    """Delete the payloads of batches that waited for a baseline since before then, and mark them folded.

    Their rows are never counted: the caller says so where an operator looks. Returns how many batches.
    """
    query = (
        select(batches.c.id)
        .where(batches.c.received_at < received_before, batches.c.folded == 0)
        .order_by(batches.c.received_at)
        .limit(limit)
    )
    chosen = list(conn.execute(query).scalars())
    conn.execute(update(batches).where(batches.c.id.in_(chosen)).values(folded=1))
    return forget_payloads(conn, chosen)


def give_up_pending(conn: Connection, *, over_bytes: int, limit: int) -> Thinned:
    """Thin the batches of versions that wait for a baseline, as `thin_payloads` does, and mark them folded.

    The last resort of the cap: nothing else is left to delete. Their rows are never counted.
    """
    pending = select(model_versions.c.id).where(model_versions.c.baseline_id.is_(None))
    query = (
        select(batches.c.id, batches.c.payload_bytes, batches.c.thin_rank)
        .where(batches.c.payload_bytes > 0, batches.c.folded == 0, batches.c.version_id.in_(pending))
        .order_by(batches.c.thin_rank.desc())
        .limit(limit)
    )
    thinned = _thin(conn, query, over_bytes)
    conn.execute(
        update(batches)
        .where(batches.c.folded == 0, batches.c.payload_bytes == 0, batches.c.version_id.in_(pending))
        .values(folded=1)
    )
    return thinned


def drop_batches_before(conn: Connection, received_before: datetime, *, limit: int) -> int:
    """Delete folded batches that arrived before then, payloads included; a retry of one would now count again."""
    old = (batches.c.received_at < received_before) & (batches.c.folded != 0)
    return _drop_some(conn, batches, old, limit)


def drop_panes_before(
    conn: Connection, resolution: int, start_before: int, *, limit: int, version_id: int | None = None
) -> int:
    """Delete the panes of one resolution (seconds) that start before then (epoch seconds), of one version if given.

    One shorter than a day stays until it is part of a longer one.
    """
    old = (panes.c.resolution == resolution) & (panes.c.start < start_before)
    if resolution < _DAY:
        old = old & (panes.c.rolled == 1)
    if version_id is not None:
        old = old & (panes.c.version_id == version_id)
    return _drop_some(conn, panes, old, limit)


def drop_blocks_before(
    conn: Connection, start_before: int, *, limit: int, version_id: int | None = None
) -> int:
    """Delete closed blocks that start before then (epoch seconds), of one version if given."""
    old = (blocks.c.start < start_before) & blocks.c.closed.is_(True)
    if version_id is not None:
        old = old & (blocks.c.version_id == version_id)
    return _drop_some(conn, blocks, old, limit)


def drop_servings_before(conn: Connection, start_before: int, *, limit: int) -> int:
    """Delete what is known of hours of traffic that began before then (epoch seconds)."""
    return _drop_some(conn, servings, servings.c.start < start_before, limit)


def drop_labels_before(conn: Connection, model_id: int, received_before: datetime, *, limit: int) -> int:
    """Delete a model's labels that arrived before then."""
    old = (labels.c.model_id == model_id) & (labels.c.received_at < received_before)
    return _drop_some(conn, labels, old, limit)


def drop_performances_before(conn: Connection, start_before: int, *, limit: int) -> int:
    """Delete how right the predictions of hours were that began before then (epoch seconds)."""
    return _drop_some(conn, performances, performances.c.start < start_before, limit)


def drop_evaluations_before(
    conn: Connection, boundary_before: int, *, limit: int, keep_hourly: bool = False
) -> int:
    """Delete evaluations with an earlier boundary (epoch seconds); with `keep_hourly` those on a full hour stay."""
    old = evaluations.c.boundary < boundary_before
    if keep_hourly:
        old = old & (evaluations.c.boundary % _HOUR != 0)
    return _drop_some(conn, evaluations, old, limit)


def drop_notifications_before(conn: Connection, created_before: datetime, *, limit: int) -> int:
    """Delete finished notifications (sent, dead or dropped) created before then, with their attempts."""
    old = (notifications.c.created_at < created_before) & notifications.c.finished_at.is_not(None)
    return _drop_some(conn, notifications, old, limit)


def _drop_some(conn: Connection, table: Table, condition: ColumnElement[bool], limit: int) -> int:
    key = list(table.primary_key.columns)
    chosen = select(*key).where(condition).limit(limit)
    return conn.execute(delete(table).where(tuple_(*key).in_(chosen))).rowcount
