"""The re-fold: rows that are still kept are counted again when their version gets another baseline.

Otherwise every window would begin anew. Only panes are written: these rows have borne their evidence, or not, on the
baseline they came under, and the new one begins at 0. A batch says on which baseline it is counted, and the panes,
that mark and how far the re-fold is are one transaction: a crash repeats nothing and forgets nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from alerts.times import for_readers
from monitor.counting import count, read_batches, seen_per_row
from monitor.folding import ChangedPane, FoldedTwice, Target, changed_panes
from monitor.instants import from_seconds
from monitor.pane_sums import Delta, SegmentStart, Sums, added
from monitor.segments import Segments
from monitor.watermark import NANOSECONDS, Cursor
from storage import batches, locks, panes, refolds
from storage.batches import StoredBatch
from storage.engine import Connection, Database
from storage.refolds import RefoldRow

GROUP: Final = 16
"""Batches counted at once: fewer than the fold takes, so that no row that comes meanwhile waits long for them."""
GROUPS: Final = 4
"""Groups of batches counted per look: what comes meanwhile is folded between them."""

AHEAD: Final = timedelta(days=1)
"""No row comes longer before it happens (`max_future` is minutes): where the batches of a span begin."""

log = logging.getLogger("driftd.refold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refolded:
    """What one step came to: the panes that took rows, and how far the re-fold is now."""

    panes: tuple[ChangedPane, ...]
    row: RefoldRow


@dataclass(frozen=True, slots=True, kw_only=True)
class RefoldSummary:
    """Retained rows that are counted again on a new baseline: how many, over which span, and whether all are.

    `kept_share` (0 to 1) of that span's rows still had their payload when it began.
    """

    finished: bool
    rows: int
    start: datetime | None
    end: datetime | None
    kept_share: float | None


class Refolder:
    """Counts retained batches of this database on newer baselines. Not thread-safe: one loop owns it."""

    def __init__(self, database: Database, writer: str, segments: Segments) -> None:
        self._database = database
        self._writer = writer
        self._segments = segments

    def unfinished(self) -> list[RefoldRow]:
        """The re-folds that have something to do."""
        with self._database.read() as conn:
            return refolds.unfinished(conn)

    def step(
        self, row: RefoldRow, target: Target, cursor: Cursor, longest_seconds: int, now: datetime
    ) -> Refolded:
        """Count one group of batches. FoldedTwice where another loop did; nothing of the group was written then."""
        row = self._begun(row, target, cursor, longest_seconds)
        assert row.start is not None
        with self._database.read() as conn:
            group = batches.folded_before(
                conn,
                row.version_id,
                row.baseline_id,
                start_ns=row.start * NANOSECONDS,
                after_id=row.after_id,
                limit=GROUP,
            )
        deltas = self._deltas(row, target, group)
        with self._database.read() as conn:
            sums = added(conn, target.owner(self._writer), target.pane_seconds, deltas)
        row = _moved(row, deltas, group, now)
        ids = [batch.id for batch in group]
        self._database.write(lambda conn: _write(conn, self._writer, sums, row, ids)).result()
        return Refolded(panes=tuple(changed_panes(target.baseline_id, deltas, sums)), row=row)

    def _begun(self, row: RefoldRow, target: Target, cursor: Cursor, longest_seconds: int) -> RefoldRow:
        """With the span: the longest window before what is evaluated, in whole panes, and what is kept of it."""
        if row.start is not None:
            return row
        upto = cursor.evaluated_upto
        if upto is None:
            upto = (cursor.newest_event_ns or 0) // NANOSECONDS
        start = (upto - longest_seconds) // target.pane_seconds * target.pane_seconds
        with self._database.read() as conn:
            after_id = batches.id_before(conn, from_seconds(start) - AHEAD)
            share = batches.kept_share(
                conn, row.version_id, start_ns=start * NANOSECONDS, end_ns=2**62, after_id=after_id
            )
        return replace(row, start=start, after_id=after_id, kept_share=share)

    def _deltas(
        self, row: RefoldRow, target: Target, group: Sequence[StoredBatch]
    ) -> dict[SegmentStart, list[Delta]]:
        """Counted rows by segment and pane. Served are as many as they stand for: of batches that are gone, too."""
        assert row.start is not None
        readable, _ = read_batches(group)
        scale = seen_per_row(group) / (row.kept_share or 1.0)
        if not readable:
            return {}
        return {
            (pane.segment, pane.start): [Delta(profile=pane.profile, rows_seen=pane.rows_seen)]
            for pane in count(target.onto, self._segments, readable, scale).panes
            if pane.start >= row.start
        }


def _moved(
    row: RefoldRow, deltas: dict[SegmentStart, list[Delta]], group: Sequence[StoredBatch], now: datetime
) -> RefoldRow:
    whole = {start: parts[0].profile.rows for (segment, start), parts in deltas.items() if not segment}
    starts = [*whole, *(at for at in (row.first, row.last) if at is not None)]
    return replace(
        row,
        after_id=group[-1].id if group else row.after_id,
        rows=row.rows + sum(whole.values()),
        first=min(starts, default=None),
        last=max(starts, default=None),
        finished_at=now if len(group) < GROUP else None,
    )


def _write(conn: Connection, writer: str, sums: Sums, row: RefoldRow, batch_ids: Sequence[int]) -> None:
    locks.living(conn, writer)
    panes.upsert(conn, sums.rows)
    refolds.put(conn, row)
    if batches.mark_refolded(conn, batch_ids, onto=row.baseline_id) != len(batch_ids):
        raise FoldedTwice(
            "a batch of this group was counted on that baseline by another loop; it is given up"
        )


def told(model: str, version: str, row: RefoldRow, pane_seconds: int) -> str:
    """A finished re-fold in words."""
    if row.first is None or row.last is None:
        return f"model {model} version {version}: no retained rows to count again on the new baseline"
    share = 1.0 if row.kept_share is None else row.kept_share
    return (
        f"model {model} version {version}: {row.rows} retained rows of {for_readers(from_seconds(row.first))} to "
        f"{for_readers(from_seconds(row.last + pane_seconds))} are counted again on the new baseline; "
        f"{share:.0%} of that span's rows were still kept"
    )


def refold_of(conn: Connection, baseline_id: int, pane_seconds: int) -> RefoldSummary | None:
    """How far the re-fold onto a baseline is; None where it took no other's place."""
    row = refolds.get(conn, baseline_id)
    if row is None:
        return None
    return RefoldSummary(
        finished=row.finished_at is not None,
        rows=row.rows,
        start=None if row.first is None else from_seconds(row.first),
        end=None if row.last is None else from_seconds(row.last + pane_seconds),
        kept_share=row.kept_share,
    )
