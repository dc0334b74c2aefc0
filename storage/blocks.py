"""Blocks: the event counts a bet of evidence was computed from; open while rows arrive, then never changed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, distinct, func, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from storage.errors import Immutable
from storage.rows import many
from storage.tables import blocks
from storage.upsert import Insert
from storage.upsert import upsert as upsert_rows

_CHUNK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockKey:
    """Which block: `length` and `start` in seconds of event time."""

    baseline_id: int
    segment: str
    length: int
    start: int
    writer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """A block of one writer; `events` is the encoded count of hits and totals, `closed` says it is final."""

    version_id: int
    baseline_id: int
    segment: str
    start: int
    length: int
    writer: str
    rows: int
    events: bytes
    closed: bool = False

    @property
    def key(self) -> BlockKey:
        """What the block is known by."""
        return BlockKey(
            baseline_id=self.baseline_id,
            segment=self.segment,
            length=self.length,
            start=self.start,
            writer=self.writer,
        )


_KEY = (blocks.c.baseline_id, blocks.c.segment, blocks.c.length, blocks.c.start, blocks.c.writer)
_WITH_KEYS = select(blocks).where(tuple_(*_KEY).in_(bindparam("keys", expanding=True)))


def get(conn: Connection, keys: Collection[BlockKey]) -> dict[BlockKey, BlockRow]:
    """The blocks of those keys that exist."""
    wanted = [(k.baseline_id, k.segment, k.length, k.start, k.writer) for k in keys]
    found: dict[BlockKey, BlockRow] = {}
    for at in range(0, len(wanted), _CHUNK):
        some = many(conn, _WITH_KEYS, BlockRow, {"keys": wanted[at : at + _CHUNK]})
        found.update((block.key, block) for block in some)
    return found


def upsert(conn: Connection, rows: Sequence[BlockRow]) -> None:
    """Write whole blocks; a closed one is never changed: Immutable is raised, and the transaction is to be given up."""
    written = upsert_rows(
        conn,
        blocks,
        [asdict(row) for row in rows],
        update=("rows", "events", "closed"),
        only_where=_still_open,
    )
    if written != len(rows):
        raise Immutable(
            f"{len(rows) - written} of {len(rows)} blocks are closed already and cannot take more rows"
        )


def _still_open(statement: Insert) -> ColumnElement[bool]:  # noqa: ARG001  # whatever the new row is
    return blocks.c.closed.is_(False)


_CLOSING = (
    update(blocks)
    .where(
        blocks.c.baseline_id == bindparam("of_baseline"),
        blocks.c.segment == bindparam("of_segment"),
        blocks.c.closed.is_(False),
        blocks.c.start + blocks.c.length <= bindparam("upto"),
    )
    .values(closed=True)
)


def close(conn: Connection, baseline_id: int, segment: str, *, upto: int) -> int:
    """Close every open block that ends at or before `upto` (epoch seconds); returns how many."""
    values = {"of_baseline": baseline_id, "of_segment": segment, "upto": upto}
    return conn.execute(_CLOSING, values).rowcount


_BETWEEN = (
    select(blocks)
    .where(
        blocks.c.baseline_id == bindparam("baseline_id"),
        blocks.c.segment == bindparam("segment"),
        blocks.c.start >= bindparam("start"),
        blocks.c.start < bindparam("end"),
    )
    .order_by(blocks.c.start, blocks.c.length, blocks.c.writer)
)
_NARROWER = {
    "length": blocks.c.length == bindparam("length"),
    "closed": blocks.c.closed.is_(True),
    "open": blocks.c.closed.is_(False),
}


@cache
def _between(*narrower: str) -> Select[*tuple[Any, ...]]:
    return _BETWEEN.where(*(_NARROWER[name] for name in narrower))


def list_blocks(
    conn: Connection,
    baseline_id: int,
    segment: str,
    *,
    start: int,
    end: int,
    length: int | None = None,
    closed: bool | None = None,
) -> list[BlockRow]:
    """The blocks with start ≤ block start < end, by start, length and writer; of one length, open or closed if given."""
    values = {"baseline_id": baseline_id, "segment": segment, "start": start, "end": end}
    narrower = []
    if length is not None:
        values["length"] = length
        narrower.append("length")
    if closed is not None:
        narrower.append("closed" if closed else "open")
    return many(conn, _between(*narrower), BlockRow, values)


def total_rows(conn: Connection, baseline_id: int, segment: str, *, start: int, end: int) -> int:
    """Rows over all writers of the blocks with start ≤ block start < end."""
    query = select(func.coalesce(func.sum(blocks.c.rows), 0)).where(
        blocks.c.baseline_id == baseline_id,
        blocks.c.segment == segment,
        blocks.c.start >= start,
        blocks.c.start < end,
    )
    return int(conn.execute(query).scalar_one())


def count_spans(
    conn: Connection, baseline_ids: Collection[int], *, start: int, end: int, seconds: int
) -> int:
    """How many spans of `seconds`, aligned to the epoch, hold a closed block of any of the baselines with
    start ≤ block start < end."""
    query = select(func.count(distinct(blocks.c.start // seconds))).where(
        blocks.c.baseline_id.in_(baseline_ids),
        blocks.c.segment == "",
        blocks.c.start >= start,
        blocks.c.start < end,
        blocks.c.closed.is_(True),
    )
    return conn.execute(query).scalar_one()


def first_starts(conn: Connection, baseline_id: int) -> dict[str, int]:
    """Where the first closed block of each of a baseline's segments starts (epoch seconds)."""
    query = (
        select(blocks.c.segment, func.min(blocks.c.start))
        .where(blocks.c.baseline_id == baseline_id, blocks.c.closed.is_(True))
        .group_by(blocks.c.segment)
    )
    return dict(conn.execute(query).all())
