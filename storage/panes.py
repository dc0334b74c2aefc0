"""Panes: the counts of one baseline and segment in one time slice, one row per writer.

Panes of minutes are summed up to hours and those to days; `rolled` says that a pane is part of the longer one.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, func, select, tuple_, update

from storage.rows import many
from storage.tables import baselines, panes, writers
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
    """A pane; `rows` were counted, `rows_seen` were served (more, where the sender sampled).

    `rolled` is 1 once the pane is part of the next longer one.
    """

    version_id: int
    baseline_id: int
    segment: str
    resolution: int
    start: int
    writer: str
    rows: int
    rows_seen: int
    profile: bytes
    rolled: int = 0

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
_WITH_KEYS = select(panes).where(tuple_(*_KEY).in_(bindparam("keys", expanding=True)))
_WINDOW = (
    select(panes)
    .where(
        panes.c.baseline_id == bindparam("baseline_id"),
        panes.c.segment == bindparam("segment"),
        panes.c.resolution == bindparam("resolution"),
        panes.c.start >= bindparam("start"),
        panes.c.start < bindparam("end"),
    )
    .order_by(panes.c.start, panes.c.writer)
)


def get(conn: Connection, keys: Collection[PaneKey]) -> dict[PaneKey, PaneRow]:
    """The panes of those keys that exist."""
    wanted = [(k.baseline_id, k.segment, k.resolution, k.start, k.writer) for k in keys]
    found: dict[PaneKey, PaneRow] = {}
    for at in range(0, len(wanted), _CHUNK):
        some = many(conn, _WITH_KEYS, PaneRow, {"keys": wanted[at : at + _CHUNK]})
        found.update((pane.key, pane) for pane in some)
    return found


def upsert(conn: Connection, rows: Sequence[PaneRow]) -> None:
    """Write whole panes: a new key is inserted, a known one gets the new counts and profile instead of its old.

    What is rolled stays rolled: whoever adds to such a pane adds to the longer one in the same transaction.
    Read with `get`, merge and write in one transaction; the writer in the key keeps others out of it.
    """
    upsert_rows(conn, panes, [asdict(row) for row in rows], update=("rows", "rows_seen", "profile"))


def window(
    conn: Connection, baseline_id: int, segment: str, resolution: int, start: int, end: int
) -> list[PaneRow]:
    """The panes with start ≤ pane start < end, ordered by start, then writer; counts of one start add up."""
    span = {
        "baseline_id": baseline_id,
        "segment": segment,
        "resolution": resolution,
        "start": start,
        "end": end,
    }
    return many(conn, _WINDOW, PaneRow, span)


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


def orphaned(conn: Connection) -> list[str]:
    """Writers that have panes not yet rolled up and are no daemon that is known to live."""
    query = select(panes.c.writer).where(panes.c.rolled == 0, panes.c.writer.not_in(select(writers.c.id)))
    return [row[0] for row in conn.execute(query.distinct().order_by(panes.c.writer))]


def unrolled_slices(
    conn: Connection,
    *,
    writer: str,
    version_id: int,
    resolutions: tuple[int, int],
    seconds: int,
    before: int,
    limit: int,
) -> list[tuple[int, str, int, int]]:
    """(baseline, segment, resolution, slice start) of slices of `seconds` that hold a pane not yet rolled up.

    Panes of `resolutions` (from, to; the latter excluded) that start before `before`, oldest first.
    """
    slice_start = panes.c.start - panes.c.start % seconds
    query = (
        select(panes.c.baseline_id, panes.c.segment, panes.c.resolution, slice_start)
        .where(
            panes.c.rolled == 0,
            panes.c.writer == writer,
            panes.c.version_id == version_id,
            panes.c.start < before,
            panes.c.resolution >= resolutions[0],
            panes.c.resolution < resolutions[1],
        )
        .distinct()
        .order_by(slice_start, panes.c.baseline_id, panes.c.segment)
        .limit(limit)
    )
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(query)]


def unrolled(
    conn: Connection, *, baseline_id: int, segment: str, resolution: int, writer: str, start: int, end: int
) -> list[PaneRow]:
    """One writer's panes with start ≤ pane start < end that are in no longer pane yet, by start."""
    query = select(panes).where(
        panes.c.baseline_id == baseline_id,
        panes.c.segment == segment,
        panes.c.resolution == resolution,
        panes.c.writer == writer,
        panes.c.start >= start,
        panes.c.start < end,
        panes.c.rolled == 0,
    )
    return many(conn, query.order_by(panes.c.start), PaneRow)


def mark_rolled(conn: Connection, keys: Collection[PaneKey]) -> int:
    """Mark panes as part of the longer one, in the transaction that adds them there; returns how many were not yet."""
    wanted = [(k.baseline_id, k.segment, k.resolution, k.start, k.writer) for k in keys]
    changed = 0
    for at in range(0, len(wanted), _CHUNK):
        chosen = tuple_(*_KEY).in_(wanted[at : at + _CHUNK])
        changed += conn.execute(update(panes).where(chosen, panes.c.rolled == 0).values(rolled=1)).rowcount
    return changed


def segments_of(conn: Connection, baseline_id: int) -> list[str]:
    """Every segment of a baseline that has a pane as it was counted, sorted; `''` is all rows.

    Sums over hours and days outlive these by years, and a segment that is gone must not take another's place so long.
    """
    query = (
        select(panes.c.segment)
        .join(baselines, baselines.c.id == panes.c.baseline_id)
        .where(panes.c.baseline_id == baseline_id, panes.c.resolution == baselines.c.pane_seconds)
        .distinct()
        .order_by(panes.c.segment)
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
