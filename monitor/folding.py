"""The fold: committed batches become panes and open blocks, exactly once.

What a group of batches adds is computed outside the writer; panes, blocks, the fold marks, the share of
traffic and the cursor are then written in one transaction that gives up if any batch was folded already.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import storage.cursors
from detectors.decision import BlockEvents, EventIndex
from detectors.profile import Profile
from monitor.bases import Base
from monitor.fold import Folded, fold_rows
from monitor.ingest.batch import Batch, decode_payload
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.frame import frame
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

log = logging.getLogger("driftd.fold")


class FoldedTwice(StorageError):
    """Another fold took one of these batches first; nothing of this group was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the batches of one model version are folded onto.

    Blocks are stored one pane long: longer ones are sums of them. `segment_keys` are the tags whose values make
    segments, which are counted on the coarse view of the baseline.
    """

    model_id: int
    version_id: int
    baseline_id: int
    base: Base
    segment_keys: tuple[str, ...]
    lateness_ns: int
    gap_ns: int

    @property
    def pane_seconds(self) -> int:
        """The length of the panes, and of the blocks as they are stored."""
        return self.base.whole.baseline.pane_seconds

    def owner(self, writer: str) -> Owner:
        """Whose panes these are."""
        return Owner(
            version_id=self.version_id,
            baseline_id=self.baseline_id,
            writer=writer,
            layout_of=lambda segment: self.base.of(segment).baseline.layout,
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
    """What one committed group changed: the model's new cursor and every pane it touched."""

    cursor: Cursor
    panes: tuple[ChangedPane, ...]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The rows of one segment ('' for all), counted."""

    segment: str
    index: EventIndex
    folded: Folded


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writes:
    baseline_id: int
    panes: Sequence[panes.PaneRow]
    blocks: Sequence[blocks.BlockRow]
    servings: Sequence[models.Serving]
    cursor: storage.cursors.Cursor
    evaluated_upto: int | None
    folded: Sequence[int]
    damaged: Sequence[int]


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
        readable, damaged = read_batches(group)
        parts = count(target, self._segments, readable, cursor.evaluated_upto)
        cursor = _moved(cursor, group, now_ns, target)
        changed, pane_rows, block_rows = self._merge(target, parts, seen_per_row(group))
        whole = parts[0].folded if parts else Folded(panes={}, blocks={}, hours={}, rows=0)
        writes = _Writes(
            baseline_id=target.baseline_id,
            panes=pane_rows,
            blocks=block_rows,
            servings=[
                models.Serving(model_id=target.model_id, version_id=target.version_id, start=hour, rows=rows)
                for hour, rows in whole.hours.items()
            ],
            cursor=to_stored(target.model_id, cursor),
            evaluated_upto=evaluated_upto,
            folded=[batch.id for batch in group if batch.id not in damaged],
            damaged=sorted(damaged),
        )
        self._database.write(lambda conn: _write(conn, writes)).result()
        return GroupResult(cursor=cursor, panes=tuple(changed), rows=whole.rows)

    def _merge(
        self, target: Target, parts: Sequence[Part], seen_per_row: float
    ) -> tuple[list[ChangedPane], list[panes.PaneRow], list[blocks.BlockRow]]:
        length = target.pane_seconds
        deltas = {
            (part.segment, start): [Delta(profile=delta, rows_seen=round(delta.rows * seen_per_row))]
            for part in parts
            for start, delta in part.folded.panes.items()
        }
        block_keys = [(part, start) for part in parts for start in part.folded.blocks]
        with self._database.read() as conn:
            sums = added(conn, target.owner(self._writer), length, deltas)
            old_blocks = blocks.get(
                conn, [self._block_key(target, part.segment, start) for part, start in block_keys]
            )
        changed = changed_panes(target.baseline_id, deltas, sums)
        block_rows = []
        for part, start in block_keys:
            delta = part.folded.blocks[start]
            events, rows = part.index.count(delta), delta.rows
            before = old_blocks.get(self._block_key(target, part.segment, start))
            if before is not None:
                events, rows = events + BlockEvents.decode(before.events), rows + before.rows
            block_rows.append(
                blocks.BlockRow(
                    version_id=target.version_id,
                    baseline_id=target.baseline_id,
                    segment=part.segment,
                    start=start,
                    length=length,
                    writer=self._writer,
                    rows=rows,
                    events=events.encode(),
                )
            )
        return changed, list(sums.rows), block_rows

    def _block_key(self, target: Target, segment: str, start: int) -> blocks.BlockKey:
        return blocks.BlockKey(
            baseline_id=target.baseline_id,
            segment=segment,
            length=target.pane_seconds,
            start=start,
            writer=self._writer,
        )


def count(
    target: Target, segments: Segments, readable: Sequence[Batch], evaluated_upto: int | None
) -> list[Part]:
    """All rows of the batches first, then each segment's."""
    if not readable:
        return []
    times = np.concatenate([batch.times_ns for batch in readable])
    values = frame(readable, target.base.whole.baseline)
    found: list[tuple[str, EventIndex, slice | npt.NDArray[Any]]] = [("", target.base.whole, slice(None))]
    found += [
        (segment, target.base.coarse, rows)
        for key in target.segment_keys
        for segment, rows in segments.rows_of(
            target.baseline_id, key, [value for batch in readable for value in batch.tag_values(key)]
        )
    ]
    return [
        Part(
            segment=segment,
            index=index,
            folded=fold_rows(
                index.baseline,
                times[rows],
                {name: column[rows] for name, column in values.items()},
                block_seconds=target.pane_seconds,
                evaluated_upto=evaluated_upto,
            ),
        )
        for segment, index, rows in found
    ]


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


def read_batches(group: Sequence[StoredBatch]) -> tuple[list[Batch], set[int]]:
    """The readable batches; a damaged payload is set aside, never a reason to stop."""
    readable, damaged = [], set()
    for stored in group:
        try:
            readable.append(decode_payload(stored.payload, written_here=stored.written_here))
        except PayloadDamagedError as error:
            log.error("batch %d of model version %d is set aside: %s", stored.id, stored.version_id, error)
            damaged.add(stored.id)
    return readable, damaged


def _moved(cursor: Cursor, group: Sequence[StoredBatch], now_ns: int, target: Target) -> Cursor:
    for batch in group:
        cursor = arrived(
            cursor,
            newest_event_ns=batch.t_last_ns,
            arrival_ns=to_ns(batch.received_at),
            gap_ns=target.gap_ns,
        )
    return advanced(cursor, now_ns=now_ns, lateness_ns=target.lateness_ns, silent_ns=0)


def seen_per_row(group: Sequence[StoredBatch]) -> float:
    """Rows served per row shipped, where the sender sampled; the mean over the group's rows."""
    rows = sum(batch.accepted for batch in group)
    seen = sum(batch.accepted / (batch.sample_rate or 1.0) for batch in group)
    return seen / rows if rows else 1.0


def _write(conn: Connection, writes: _Writes) -> None:
    # A row enters a block that is open: what is closed was counted for good.
    locks.folding(conn, writes.cursor.model_id)
    storage.cursors.check_evaluated(conn, writes.cursor.model_id, writes.evaluated_upto)
    panes.upsert(conn, writes.panes)
    blocks.upsert(conn, writes.blocks)
    models.record_serving(conn, writes.servings)
    storage.cursors.put(conn, writes.cursor)
    batches.set_aside(conn, writes.damaged)
    if batches.mark_folded(conn, writes.folded, onto=writes.baseline_id) != len(writes.folded):
        raise FoldedTwice("a batch of this group was folded by another loop; the group is given up")
