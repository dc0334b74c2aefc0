"""Batches as they came: appended once whatever the retries, folded once whatever the crashes."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Dialect,
    Integer,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from storage.errors import NotFound
from storage.prepared import Cursor, Prepared, driver_errors, prepare
from storage.rows import many
from storage.tables import batches, payloads
from storage.translation import translate
from storage.upsert import insert_into

# Both engines bind tens of thousands of values in one statement; this keeps the compiled statements few and small.
_CHUNK = 500
RANK_RANGE = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """One POST to store; `t_*_ns` are event times of its rows, `seen/kept/dropped/sample_rate` the sender's words.

    Without a payload its rows are in the counts that another batch of the same transaction carries, which were counted on
    the baseline `folded_on`: nothing of it is left to fold.
    """

    model_id: int
    version_id: int
    batch_key: str
    body_sha256: str
    received_at: datetime
    t_first_ns: int
    t_last_ns: int
    accepted: int
    rejected: int
    seen: int | None = None
    kept: int | None = None
    dropped: int | None = None
    sample_rate: float | None = None
    writer: str
    folded_on: int | None = None
    codec: int
    payload: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of one NewBatch.

    `stored`: it is new. `duplicate`: the same key and body are stored already, and the counts are those of then.
    `conflict`: the key is stored with another body, and nothing was stored.
    """

    batch_id: int
    status: Literal["stored", "duplicate", "conflict"]
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """A batch with its payload, which is self-describing and in the form `codec` names.

    `written_here`: the payload is the one this process wrote, and was not read back.
    """

    id: int
    model_id: int
    version_id: int
    batch_key: str
    received_at: datetime
    t_first_ns: int
    t_last_ns: int
    accepted: int
    sample_rate: float | None
    writer: str
    codec: int
    payload: bytes
    written_here: bool = field(default=False, compare=False)


def as_stored(new: NewBatch, batch_id: int) -> StoredBatch:
    """What a read would give for a batch that was stored under this id, with its payload."""
    assert new.payload is not None
    return StoredBatch(
        id=batch_id,
        model_id=new.model_id,
        version_id=new.version_id,
        batch_key=new.batch_key,
        received_at=new.received_at,
        t_first_ns=new.t_first_ns,
        t_last_ns=new.t_last_ns,
        accepted=new.accepted,
        sample_rate=new.sample_rate,
        writer=new.writer,
        codec=new.codec,
        payload=new.payload,
        written_here=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTotals:
    """What one model's batches add up to over a span of arrival."""

    batches: int
    accepted: int
    rejected: int
    dropped: int
    unfolded: int


_GIVEN = tuple(given.name for given in fields(NewBatch) if given.name not in ("codec", "payload"))
_DERIVED = ("folded", "payload_bytes", "thin_rank")


def thin_rank(batch_key: str) -> int:
    """A uniform hash of the key, 0 ≤ rank < RANK_RANGE: keeping the lowest ranks keeps a fair sample of whole batches."""
    digest = hashlib.sha256(batch_key.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % RANK_RANGE


def append(conn: Connection, new: Sequence[NewBatch]) -> list[AppendResult]:
    """Store each batch unless its (model, key) is stored already; one result per batch, in order."""
    insert_batch, insert_payload = _append_statements(conn.dialect)
    cursor = conn.connection.cursor()
    try:
        return [_append_one(conn, cursor, insert_batch, insert_payload, batch) for batch in new]
    except driver_errors(conn.dialect) as error:
        raise translate(error) from error
    finally:
        cursor.close()


def _append_one(
    conn: Connection, cursor: Cursor, insert_batch: Prepared, insert_payload: Prepared, new: NewBatch
) -> AppendResult:
    values = {name: getattr(new, name) for name in _GIVEN}
    values |= {
        "folded": int(new.payload is None),
        "payload_bytes": len(new.payload or b""),
        "thin_rank": thin_rank(new.batch_key),
    }
    insert_batch.run(cursor, values)
    row = cursor.fetchone()
    if row is None:
        found = find(conn, new.model_id, new.batch_key, new.body_sha256)
        assert found is not None
        return found
    if new.payload is not None:
        insert_payload.run(cursor, {"batch_id": row[0], "codec": new.codec, "data": new.payload})
    return AppendResult(batch_id=row[0], status="stored", accepted=new.accepted, rejected=new.rejected)


@lru_cache(maxsize=8)
def _append_statements(dialect: Dialect) -> tuple[Prepared, Prepared]:
    # The insert itself finds out whether the key is new: a look beforehand would be a second trip through the index.
    unless_known = insert_into(dialect, batches).on_conflict_do_nothing(
        index_elements=["model_id", "batch_key"]
    )
    return (
        prepare(batches, unless_known.returning(batches.c.id), (*_GIVEN, *_DERIVED), dialect),
        prepare(payloads, insert(payloads), ("batch_id", "codec", "data"), dialect),
    )


def find(conn: Connection, model_id: int, batch_key: str, body_sha256: str) -> AppendResult | None:
    """What `append` would answer to a batch with that key and body if one is stored; None if the key is new.

    For a request whose outcome is unknown, and to refuse a conflict before anything is decoded.
    """
    query = select(batches.c.id, batches.c.body_sha256, batches.c.accepted, batches.c.rejected).where(
        batches.c.model_id == model_id, batches.c.batch_key == batch_key
    )
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    return AppendResult(
        batch_id=row.id,
        status="duplicate" if row.body_sha256 == body_sha256 else "conflict",
        accepted=row.accepted,
        rejected=row.rejected,
    )


def known_keys(conn: Connection, model_id: int, batch_keys: Sequence[str]) -> set[str]:
    """Which of a model's batch keys are stored already."""
    found: set[str] = set()
    for at in range(0, len(batch_keys), _CHUNK):
        chosen = batches.c.batch_key.in_(batch_keys[at : at + _CHUNK])
        query = select(batches.c.batch_key).where(batches.c.model_id == model_id, chosen)
        found |= set(conn.execute(query).scalars())
    return found


_STORED = (
    batches.c.id,
    batches.c.model_id,
    batches.c.version_id,
    batches.c.batch_key,
    batches.c.received_at,
    batches.c.t_first_ns,
    batches.c.t_last_ns,
    batches.c.accepted,
    batches.c.sample_rate,
    batches.c.writer,
    payloads.c.codec,
    payloads.c.data.label("payload"),
)


def _stored(conn: Connection, query: Select[tuple[object, ...]]) -> list[StoredBatch]:
    return many(conn, query, StoredBatch)


_UNFOLDED = (
    select(batches.c.id, batches.c.payload_bytes)
    .join(payloads, payloads.c.batch_id == batches.c.id)
    .where(batches.c.folded == 0)
    .order_by(batches.c.id)
    .limit(bindparam("limit", type_=Integer))
)
_NARROWER = {
    "version_ids": batches.c.version_id.in_(bindparam("version_ids", expanding=True)),
    "upto_id": batches.c.id <= bindparam("upto_id"),
    "model_id": batches.c.model_id == bindparam("model_id"),
    "writer": batches.c.writer == bindparam("writer"),
}
_WITH_IDS = (
    select(*_STORED)
    .join(payloads, payloads.c.batch_id == batches.c.id)
    .where(batches.c.id.in_(bindparam("ids", expanding=True)))
)


@cache
def _unfolded(*narrower: str) -> Select[int, int]:
    return _UNFOLDED.where(*(_NARROWER[name] for name in narrower))


def unfolded(
    conn: Connection,
    *,
    limit: int,
    version_ids: Collection[int] | None = None,
    upto_id: int | None = None,
    model_id: int | None = None,
    writer: str | None = None,
    most_bytes: int | None = None,
    held: Callable[[Collection[int]], Mapping[int, StoredBatch]] | None = None,
) -> list[StoredBatch]:
    """The oldest unfolded batches, by id, with their payloads.

    `version_ids` are those that have a baseline; without it batches of every version come, pending ones too.
    `upto_id` leaves out what was committed later, so that a fold under load comes to an end. With `most_bytes` of
    payloads together come at most so many, or one that is larger alone. `held` gives those of the ids that the caller
    has in memory; the others are read.
    """
    wanted = {
        "version_ids": None if version_ids is None else sorted(version_ids),
        "upto_id": upto_id,
        "model_id": model_id,
        "writer": writer,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    chosen = _within(conn.execute(_unfolded(*given), {"limit": limit, **given}), most_bytes)
    found = dict(held(chosen)) if held is not None else {}
    absent = [batch_id for batch_id in chosen if batch_id not in found]
    if absent:
        found |= {batch.id: batch for batch in many(conn, _WITH_IDS, StoredBatch, {"ids": absent})}
    return [found[batch_id] for batch_id in chosen]


def _within(sizes: Iterable[Any], most_bytes: int | None) -> list[int]:
    """The first ids of rows (id, bytes) that come to at most so many bytes together, or one that is larger alone."""
    chosen: list[int] = []
    total = 0
    for batch_id, size in sizes:
        total += size
        if most_bytes is not None and chosen and total > most_bytes:
            break
        chosen.append(batch_id)
    return chosen


_NEWEST = select(func.coalesce(func.max(batches.c.id), 0))
_MARKING = (
    update(batches)
    .where(batches.c.id.in_(bindparam("ids", expanding=True)), batches.c.folded == 0)
    .values(folded=1, folded_on=bindparam("onto"))
)


def newest_id(conn: Connection) -> int:
    """The id of the batch committed last; 0 if there is none."""
    newest: int = conn.execute(_NEWEST).scalar_one()
    return newest


def mark_folded(conn: Connection, batch_ids: Sequence[int], *, onto: int | None = None) -> int:
    """Mark batches as folded, onto which baseline, and return how many were not folded before.

    In the transaction of the fold: anything but `len(batch_ids)` means that somebody folded one of them already,
    and the transaction must be given up.
    """
    changed = 0
    for at in range(0, len(batch_ids), _CHUNK):
        changed += conn.execute(_MARKING, {"ids": batch_ids[at : at + _CHUNK], "onto": onto}).rowcount
    return changed


def forget_payloads(conn: Connection, batch_ids: Sequence[int]) -> int:
    """Delete the payloads of batches, whose own rows stay, so that a retry is known; returns how many batches."""
    changed = 0
    for at in range(0, len(batch_ids), _CHUNK):
        chosen = batch_ids[at : at + _CHUNK]
        conn.execute(delete(payloads).where(payloads.c.batch_id.in_(chosen)))
        emptied = update(batches).where(batches.c.id.in_(chosen)).values(payload_bytes=0)
        changed += conn.execute(emptied).rowcount
    return changed


def id_before(conn: Connection, received_at: datetime) -> int:
    """An id below those of all batches that came at or after then: ids rise with arrival, to within seconds."""
    query = (
        select(batches.c.id)
        .where(batches.c.received_at >= received_at)
        .order_by(batches.c.received_at, batches.c.id)
        .limit(1)
    )
    first: int | None = conn.execute(query).scalar_one_or_none()
    return newest_id(conn) if first is None else first - 1


def folded_before(
    conn: Connection, version_id: int, baseline_id: int, *, start_ns: int, after_id: int, limit: int
) -> list[StoredBatch]:
    """Batches counted on an older baseline alone, with rows at or after `start_ns`, whose payload is still kept.

    By id, from the first after `after_id`.
    """
    query = (
        select(*_STORED)
        .join(payloads, payloads.c.batch_id == batches.c.id)
        .where(
            _by_id(version_id),
            batches.c.folded_on < baseline_id,
            batches.c.t_last_ns >= start_ns,
            batches.c.id > after_id,
        )
        .order_by(batches.c.id)
        .limit(limit)
    )
    return _stored(conn, query)


def _by_id(version_id: int) -> ColumnElement[bool]:
    """One version's batches, found along the ids: by its own index all it ever had would be read and sorted."""
    return batches.c.version_id + 0 == version_id


def retained(
    conn: Connection,
    model_id: int,
    *,
    after_id: int,
    upto_id: int,
    codec: int,
    limit: int,
    most_bytes: int | None = None,
) -> list[StoredBatch]:
    """A model's batches in one form of payload that still have it, with `after_id` < id ≤ `upto_id`, by id.

    `most_bytes` as for `unfolded`.
    """
    query = (
        select(batches.c.id, batches.c.payload_bytes)
        .join(payloads, payloads.c.batch_id == batches.c.id)
        .where(
            # Found along the ids: by its own index all that the model ever had would be read and sorted.
            batches.c.model_id + 0 == model_id,
            batches.c.id > after_id,
            batches.c.id <= upto_id,
            payloads.c.codec == codec,
        )
        .order_by(batches.c.id)
        .limit(limit)
    )
    chosen = _within(conn.execute(query), most_bytes)
    whole = select(*_STORED).join(payloads, payloads.c.batch_id == batches.c.id)
    return _stored(conn, whole.where(batches.c.id.in_(chosen)).order_by(batches.c.id))


def mark_refolded(conn: Connection, batch_ids: Sequence[int], *, onto: int) -> int:
    """Mark batches as counted on a newer baseline; anything but all of them means that some were already.

    In the transaction that counts them, which must then be given up.
    """
    chosen = batches.c.id.in_(batch_ids) & (batches.c.folded_on < onto)
    return conn.execute(update(batches).where(chosen).values(folded_on=onto)).rowcount


def kept_share(
    conn: Connection, version_id: int, *, start_ns: int, end_ns: int, after_id: int = 0
) -> float | None:
    """Which share of the accepted rows of batches that reach into the span still has its payload; None of no rows.

    What retention took by age or by hash order is missing from it. Only batches after `after_id` are looked at.
    """
    kept = case((batches.c.payload_bytes > 0, batches.c.accepted), else_=0)
    query = select(func.sum(kept), func.sum(batches.c.accepted)).where(
        _by_id(version_id),
        batches.c.id > after_id,
        batches.c.t_first_ns < end_ns,
        batches.c.t_last_ns >= start_ns,
    )
    with_payload, accepted = conn.execute(query).one()
    return float(with_payload) / float(accepted) if accepted else None


def set_aside(conn: Connection, batch_ids: Sequence[int]) -> None:
    """Mark batches whose payload cannot be read (`folded` = 2), so that they never hold back their model."""
    for at in range(0, len(batch_ids), _CHUNK):
        chosen = batches.c.id.in_(batch_ids[at : at + _CHUNK])
        conn.execute(update(batches).where(chosen, batches.c.folded == 0).values(folded=2))


def oldest_unfolded(conn: Connection, version_ids: Collection[int] | None = None) -> dict[int, int]:
    """Per model the earliest event time (ns) among its unfolded batches; models without any are absent.

    Pass the versions that have a baseline, lest a version that waits for one holds back its whole model.
    """
    query = select(batches.c.model_id, func.min(batches.c.t_first_ns)).where(batches.c.folded == 0)
    if version_ids is not None:
        query = query.where(batches.c.version_id.in_(sorted(version_ids)))
    return dict(conn.execute(query.group_by(batches.c.model_id)).all())


_WAITING = (
    select(batches.c.version_id, func.count(), func.sum(batches.c.accepted))
    .where(batches.c.folded == 0)
    .group_by(batches.c.version_id)
)
_TOTALS = (
    select(
        batches.c.model_id,
        func.count(),
        func.sum(batches.c.accepted),
        func.sum(batches.c.rejected),
        func.sum(func.coalesce(batches.c.dropped, 0)),
        func.sum(case((batches.c.folded == 0, 1), else_=0)),
    )
    .where(batches.c.received_at >= bindparam("since"), batches.c.received_at < bindparam("until"))
    .group_by(batches.c.model_id)
)


def unfolded_by_version(conn: Connection) -> dict[int, tuple[int, int]]:
    """Per version (batches, accepted rows) that wait to be folded; a version without any is absent."""
    return {version_id: (count, int(rows)) for version_id, count, rows in conn.execute(_WAITING)}


def newest_waiting(conn: Connection, model_id: int) -> datetime | None:
    """When the newest of the model's unfolded batches came; None if none waits."""
    query = select(func.max(batches.c.received_at)).where(
        batches.c.model_id == model_id, batches.c.folded == 0
    )
    newest: datetime | None = conn.execute(query).scalar_one()
    return newest


def totals(conn: Connection, *, since: datetime, until: datetime) -> dict[int, BatchTotals]:
    """Per model what arrived with since ≤ received_at < until; models without batches are absent."""
    found = conn.execute(_TOTALS, {"since": since, "until": until})
    return {
        model_id: BatchTotals(
            batches=count,
            accepted=int(accepted),
            rejected=int(rejected),
            dropped=int(dropped),
            unfolded=int(waiting),
        )
        for model_id, count, accepted, rejected, dropped, waiting in found
    }


def payloads_between(
    conn: Connection, version_id: int, *, start_ns: int, end_ns: int, after_id: int = 0, limit: int
) -> list[StoredBatch]:
    """Batches of one version whose rows reach into start_ns ≤ t < end_ns and whose payload is still kept.

    By id, from the first after `after_id`, so that a long span is read page by page.
    """
    query = (
        select(*_STORED)
        .join(payloads, payloads.c.batch_id == batches.c.id)
        .where(
            batches.c.version_id == version_id,
            batches.c.t_first_ns < end_ns,
            batches.c.t_last_ns >= start_ns,
            batches.c.id > after_id,
        )
        .order_by(batches.c.id)
        .limit(limit)
    )
    return _stored(conn, query)


def get(conn: Connection, batch_id: int) -> StoredBatch:
    """One batch with its payload; NotFound if it or its payload is gone."""
    query = (
        select(*_STORED).join(payloads, payloads.c.batch_id == batches.c.id).where(batches.c.id == batch_id)
    )
    found = _stored(conn, query)
    if not found:
        raise NotFound(f"batch {batch_id} is not stored, or its payload was removed by retention")
    return found[0]


def reassign(conn: Connection, *, from_writer: str, to_writer: str) -> int:
    """A dead writer's unfolded batches pass to another; returns how many."""
    chosen = (batches.c.writer == from_writer) & (batches.c.folded == 0)
    return conn.execute(update(batches).where(chosen).values(writer=to_writer)).rowcount
