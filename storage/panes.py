"""Panes: the counts of one baseline and segment in one time slice, one row per writer."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, select, tuple_

from storage.rows import many
from storage.tables import panes
from storage.upsert import upsert as upsert_rows

_CHUNK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneKey:
    """Which pane: `resolution` is its length and `start` its beginning, both in seconds of event time."""

    baseline_id: int
    segment: str
    resolution: int
    start: int
    writer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneRow:
    """A pane; `rows` were counted, `rows_seen` were served (more, where the sender sampled)."""

    version_id: int
    baseline_id: int
    segment: str
    resolution: int
    start: int
    writer: str
    rows: int
    rows_seen: int
    profile: bytes

    @property
    def key(self) -> PaneKey:
        """What the pane is known by."""
        return PaneKey(
            baseline_id=self.baseline_id,
            segment=self.segment,
            resolution=self.resolution,
            start=self.start,
            writer=self.writer,
        )


_KEY = (panes.c.baseline_id, panes.c.segment, panes.c.resolution, panes.c.start, panes.c.writer)


def get(conn: Connection, keys: Collection[PaneKey]) -> dict[PaneKey, PaneRow]:
    """The panes of those keys that exist."""
    wanted = [(k.baseline_id, k.segment, k.resolution, k.start, k.writer) for k in keys]
    found: dict[PaneKey, PaneRow] = {}
    for at in range(0, len(wanted), _CHUNK):
        query = select(panes).where(tuple_(*_KEY).in_(wanted[at : at + _CHUNK]))
        found.update((pane.key, pane) for pane in many(conn, query, PaneRow))
    return found


def upsert(conn: Connection, rows: Sequence[PaneRow]) -> None:
    """Write whole panes: a new key is inserted, a known one gets the new counts and profile instead of its old.

    Read with `get`, merge and write in one transaction; the writer in the key keeps others out of it.
    """
    upsert_rows(conn, panes, [asdict(row) for row in rows], update=("rows", "rows_seen", "profile"))


def window(
    conn: Connection, baseline_id: int, segment: str, resolution: int, start: int, end: int
) -> list[PaneRow]:
    """The panes with start ≤ pane start < end, ordered by start, then writer; counts of one start add up."""
    query = (
        select(panes)
        .where(
            panes.c.baseline_id == baseline_id,
            panes.c.segment == segment,
            panes.c.resolution == resolution,
            panes.c.start >= start,
            panes.c.start < end,
        )
        .order_by(panes.c.start, panes.c.writer)
    )
    return many(conn, query, PaneRow)


def rows_by_start(
    conn: Connection, baseline_id: int, segment: str, resolution: int, start: int, end: int
) -> dict[int, int]:
    """Rows over all writers of each pane with start ≤ pane start < end: what a sum of them must have seen."""
    query = (
        select(panes.c.start, func.sum(panes.c.rows))
        .where(
            panes.c.baseline_id == baseline_id,
            panes.c.segment == segment,
            panes.c.resolution == resolution,
            panes.c.start >= start,
            panes.c.start < end,
        )
        .group_by(panes.c.start)
    )
    return {at: int(rows) for at, rows in conn.execute(query)}


def span(conn: Connection, baseline_id: int, segment: str, resolution: int) -> tuple[int, int] | None:
    """(first, last) pane start of that baseline, segment and resolution; None if there is no pane."""
    query = select(func.min(panes.c.start), func.max(panes.c.start)).where(
        panes.c.baseline_id == baseline_id, panes.c.segment == segment, panes.c.resolution == resolution
    )
    first, last = conn.execute(query).one()
    return None if first is None else (first, last)


def next_start(conn: Connection, baseline_id: int, segment: str, resolution: int, at: int) -> int | None:
    """The first pane start ≥ `at`, so that catch-up skips hours without traffic in one step; None if none."""
    query = select(func.min(panes.c.start)).where(
        panes.c.baseline_id == baseline_id,
        panes.c.segment == segment,
        panes.c.resolution == resolution,
        panes.c.start >= at,
    )
    first: int | None = conn.execute(query).scalar_one()
    return first


def segments_of(conn: Connection, baseline_id: int) -> list[str]:
    """Every segment of a baseline that has a pane, sorted; `''` is all rows."""
    query = (
        select(panes.c.segment).where(panes.c.baseline_id == baseline_id).distinct().order_by(panes.c.segment)
    )
    return list(conn.execute(query).scalars())


def segments(conn: Connection, baseline_id: int, resolution: int, *, start: int, end: int) -> list[str]:
    """The segments that have a pane with start ≤ pane start < end, sorted; `''` is all rows."""
    query = (
        select(panes.c.segment)
        .where(
            panes.c.baseline_id == baseline_id,
            panes.c.resolution == resolution,
            panes.c.start >= start,
            panes.c.start < end,
        )
        .distinct()
        .order_by(panes.c.segment)
    )
    return list(conn.execute(query).scalars())
