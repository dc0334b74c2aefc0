"""The fold: committed batches become panes and open blocks, exactly once.

What a group of batches adds is computed outside the writer; panes, blocks, the fold marks, the share of
traffic and the cursor are then written in one transaction that gives up if any batch was folded already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import storage.cursors
from detectors.decision import BlockEvents
from detectors.profile import Profile
from monitor.counting import Onto, count_stored
from monitor.fold import by_block
from monitor.ingest.counted import COUNTS_CODEC, CountedBatch
from monitor.instants import from_ns, to_ns
from monitor.pane_sums import Delta, Owner, SegmentStart, Sums, added
from monitor.segments import Segments
from monitor.watermark import Cursor, advanced, arrived
from storage import batches, blocks, locks, models, panes
from storage.batches import StoredBatch
from storage.engine import Connection, Database
from storage.errors import StorageError

GROUP: Final = 256
"""Batches folded at once, at most: searching the edges, and storing the pane, is paid per group and not per row."""
GROUP_BYTES: Final = 8 * 2**20
"""Their payloads together, at most: 64 batches of 1000 rows of 30 float32 columns. Beyond that a group leaves the cache."""


class FoldedTwice(StorageError):
    """Another fold took one of these batches first; nothing of this group was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the batches of one model version are folded onto.

    Blocks are stored one pane long: longer ones are sums of them.
    """

    model_id: int
    version_id: int
    onto: Onto
    lateness_ns: int
    gap_ns: int

    @property
    def baseline_id(self) -> int:
        """The baseline that counts are for."""
        return self.onto.baseline_id

    @property
    def pane_seconds(self) -> int:
        """The length of the panes, and of the blocks as they are stored."""
        return self.onto.pane_seconds

    def owner(self, writer: str) -> Owner:
        """Whose panes these are."""
        return Owner(
            version_id=self.version_id,
            baseline_id=self.baseline_id,
            writer=writer,
            layout_of=self.onto.layout_of,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPane:
    """A pane that took rows: `delta` is what came, `merged` the whole pane as it is stored now."""

    baseline_id: int
    segment: str
    start: int
    delta: Profile
    merged: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """What one committed group changed: the model's new cursor and every pane it touched.

    `set_aside` batches could not be counted, and never will be.
    """

    cursor: Cursor
    panes: tuple[ChangedPane, ...]
    rows: int
    set_aside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writes:
    writer: str
    baseline_id: int
    panes: Sequence[panes.PaneRow]
    blocks: Sequence[blocks.BlockRow]
    servings: Sequence[models.Serving]
    cursor: storage.cursors.Cursor
    evaluated_upto: int | None
    folded: Sequence[int]
    came_as_counts: Sequence[int]
    set_aside: Sequence[int]


class Folder:
    """Folds the batches of this writer. Not thread-safe: one loop owns it."""

    def __init__(self, database: Database, writer: str, segments: Segments) -> None:
        self._database = database
        self._writer = writer
        self._segments = segments

    def fold(self, target: Target, group: Sequence[StoredBatch], cursor: Cursor, now_ns: int) -> GroupResult:
        """Fold batches of one model version and commit; the caller keeps the cursor that comes back.

        Raises FoldedTwice if one of them is folded already, Overtaken or Occupied if the model is evaluated by
        another daemon meanwhile, StorageError if nothing can be committed.
        """
        evaluated_upto = cursor.evaluated_upto
        counted, set_aside = count_stored(target.onto, self._segments, group)
        cursor = _moved(cursor, group, now_ns, target)
        changed, pane_rows = self._add_to_panes(target, counted)
        folded = [batch for batch in group if batch.id not in set_aside]
        writes = _Writes(
            writer=self._writer,
            baseline_id=target.baseline_id,
            panes=pane_rows,
            blocks=self._add_to_blocks(target, counted, evaluated_upto),
            servings=[
                models.Serving(model_id=target.model_id, version_id=target.version_id, start=hour, rows=rows)
                for hour, rows in counted.hours.items()
            ],
            cursor=to_stored(target.model_id, cursor),
            evaluated_upto=evaluated_upto,
            folded=[batch.id for batch in folded],
            came_as_counts=[batch.id for batch in folded if batch.codec == COUNTS_CODEC],
            set_aside=sorted(set_aside),
        )
        self._database.write(lambda conn: _write(conn, writes)).result()
        return GroupResult(
            cursor=cursor, panes=tuple(changed), rows=counted.rows, set_aside=len(writes.set_aside)
        )

    def _add_to_panes(
        self, target: Target, counted: CountedBatch
    ) -> tuple[list[ChangedPane], Sequence[panes.PaneRow]]:
        deltas = {
            (pane.segment, pane.start): [Delta(profile=pane.profile, rows_seen=pane.rows_seen)]
            for pane in counted.panes
        }
        with self._database.read() as conn:
            sums = added(conn, target.owner(self._writer), target.pane_seconds, deltas)
        return changed_panes(target.baseline_id, deltas, sums), sums.rows

    def _add_to_blocks(
        self, target: Target, counted: CountedBatch, evaluated_upto: int | None
    ) -> list[blocks.BlockRow]:
        length = target.pane_seconds
        deltas = by_block(counted.panes, block_seconds=length, evaluated_upto=evaluated_upto)
        with self._database.read() as conn:
            stored = blocks.get(conn, [self._block_key(target, segment, start) for segment, start in deltas])
        found = []
        for (segment, start), delta in deltas.items():
            events, rows = target.onto.base.of(segment).count(delta), delta.rows
            before = stored.get(self._block_key(target, segment, start))
            if before is not None:
                events, rows = events + BlockEvents.decode(before.events), rows + before.rows
            found.append(
                blocks.BlockRow(
                    version_id=target.version_id,
                    baseline_id=target.baseline_id,
                    segment=segment,
                    start=start,
                    length=length,
                    writer=self._writer,
                    rows=rows,
                    events=events.encode(),
                )
            )
        return found

    def _block_key(self, target: Target, segment: str, start: int) -> blocks.BlockKey:
        return blocks.BlockKey(
            baseline_id=target.baseline_id,
            segment=segment,
            length=target.pane_seconds,
            start=start,
            writer=self._writer,
        )


def changed_panes(
    baseline_id: int, deltas: Mapping[SegmentStart, Sequence[Delta]], sums: Sums
) -> list[ChangedPane]:
    """What the windows have to know of panes that took rows."""
    return [
        ChangedPane(
            baseline_id=baseline_id,
            segment=segment,
            start=start,
            delta=Profile.merge([part.profile for part in parts]),
            merged=sums.merged[segment, start],
        )
        for (segment, start), parts in deltas.items()
    ]


def to_stored(model_id: int, cursor: Cursor) -> storage.cursors.Cursor:
    """The cursor as the database keeps it."""
    arrival, busy = cursor.last_arrival_ns, cursor.busy_since_ns
    return storage.cursors.Cursor(
        model_id=model_id,
        watermark_ns=cursor.watermark_ns,
        evaluated_upto=cursor.evaluated_upto,
        newest_event_ns=cursor.newest_event_ns,
        last_arrival_at=None if arrival is None else from_ns(arrival),
        busy_since=None if busy is None else from_ns(busy),
    )


def from_stored(stored: storage.cursors.Cursor) -> Cursor:
    """The cursor as the loop computes with it."""
    arrival, busy = stored.last_arrival_at, stored.busy_since
    return Cursor(
        watermark_ns=stored.watermark_ns,
        evaluated_upto=stored.evaluated_upto,
        newest_event_ns=stored.newest_event_ns,
        last_arrival_ns=None if arrival is None else to_ns(arrival),
        busy_since_ns=None if busy is None else to_ns(busy),
    )


def _moved(cursor: Cursor, group: Sequence[StoredBatch], now_ns: int, target: Target) -> Cursor:
    for batch in group:
        cursor = arrived(
            cursor,
            newest_event_ns=batch.t_last_ns,
            arrival_ns=to_ns(batch.received_at),
            gap_ns=target.gap_ns,
        )
    return advanced(cursor, now_ns=now_ns, lateness_ns=target.lateness_ns, silent_ns=0)


def _write(conn: Connection, writes: _Writes) -> None:
    # A row enters a block that is open: what is closed was counted for good.
    locks.folding(conn, writes.cursor.model_id)
    locks.living(conn, writes.writer)
    storage.cursors.check_evaluated(conn, writes.cursor.model_id, writes.evaluated_upto)
    panes.upsert(conn, writes.panes)
    blocks.upsert(conn, writes.blocks)
    models.record_serving(conn, writes.servings)
    storage.cursors.put(conn, writes.cursor)
    batches.set_aside(conn, writes.set_aside)
    # They are in the panes, and nothing else can be made of them.
    batches.forget_payloads(conn, writes.came_as_counts)
    if batches.mark_folded(conn, writes.folded, onto=writes.baseline_id) != len(writes.folded):
        raise FoldedTwice("a batch of this group was folded by another loop; the group is given up")
