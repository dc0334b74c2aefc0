"""The fold: committed batches become panes and open blocks, exactly once.

What a group of batches adds is computed outside the writer; panes, blocks, the fold marks, the share of
traffic and the cursor are then written in one transaction that gives up if any batch was folded already.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

import storage.cursors
from detectors.codec import decode_profile, encode_profile
from detectors.decision import BlockEvents, block_events
from detectors.profile import Baseline, Profile
from detectors.types import IntArray
from monitor.fold import Folded, Frame, concatenate, fold_rows
from monitor.ingest.batch import decode_payload
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.frame import frame
from monitor.instants import from_ns, to_ns
from monitor.watermark import Cursor, advanced, arrived
from storage import batches, blocks, models, panes
from storage.batches import StoredBatch
from storage.engine import Connection, Database
from storage.errors import StorageError

GROUP: Final = 16
"""Batches folded at once: the edge search is paid per group, so a group should hold about 16 000 rows."""

log = logging.getLogger("driftd.fold")


class FoldedTwice(StorageError):
    """Another fold took one of these batches first; nothing of this group was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the batches of one model version are folded onto."""

    model_id: int
    version_id: int
    baseline_id: int
    baseline: Baseline
    block_seconds: int
    lateness_ns: int
    gap_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRows:
    """Rows that changed a pane: `delta` is what came, `merged` the whole pane as it is stored now."""

    baseline_id: int
    start: int
    delta: Profile
    merged: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """What one committed group changed: the model's new cursor and every pane it touched."""

    cursor: Cursor
    panes: tuple[LateRows, ...]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writes:
    panes: Sequence[panes.PaneRow]
    blocks: Sequence[blocks.BlockRow]
    servings: Sequence[models.Serving]
    cursor: storage.cursors.Cursor
    folded: Sequence[int]
    damaged: Sequence[int]


class Folder:
    """Folds the batches of this writer. Not thread-safe: one loop owns it."""

    def __init__(self, database: Database, writer: str) -> None:
        self._database = database
        self._writer = writer

    def fold(self, target: Target, group: Sequence[StoredBatch], cursor: Cursor, now_ns: int) -> GroupResult:
        """Fold batches of one model version and commit; the caller keeps the cursor that comes back.

        Raises FoldedTwice if one of them is folded already, StorageError if nothing can be committed.
        """
        times, frames, damaged = _read(target.baseline, group)
        folded = (
            fold_rows(
                target.baseline,
                times,
                concatenate(frames),
                block_seconds=target.block_seconds,
                evaluated_upto=cursor.evaluated_upto,
            )
            if frames
            else Folded(panes={}, blocks={}, hours={}, rows=0)
        )
        cursor = _moved(cursor, group, now_ns, target)
        touched, pane_rows, block_rows = self._merge(target, folded, group)
        writes = _Writes(
            panes=pane_rows,
            blocks=block_rows,
            servings=[
                models.Serving(model_id=target.model_id, version_id=target.version_id, start=hour, rows=rows)
                for hour, rows in folded.hours.items()
            ],
            cursor=to_stored(target.model_id, cursor),
            folded=[batch.id for batch in group if batch.id not in damaged],
            damaged=sorted(damaged),
        )
        self._database.write(lambda conn: _write(conn, writes)).result()
        return GroupResult(cursor=cursor, panes=tuple(touched), rows=folded.rows)

    def _merge(
        self, target: Target, folded: Folded, group: Sequence[StoredBatch]
    ) -> tuple[list[LateRows], list[panes.PaneRow], list[blocks.BlockRow]]:
        seen_per_row = _seen_per_row(group)
        pane_keys = {start: self._pane_key(target, start) for start in folded.panes}
        block_keys = {start: self._block_key(target, start) for start in folded.blocks}
        with self._database.read() as conn:
            old_panes = panes.get(conn, list(pane_keys.values()))
            old_blocks = blocks.get(conn, list(block_keys.values()))
        touched, pane_rows = [], []
        for start, delta in folded.panes.items():
            old = old_panes.get(pane_keys[start])
            merged = (
                delta
                if old is None
                else Profile.merge([decode_profile(target.baseline.layout, old.profile), delta])
            )
            touched.append(LateRows(baseline_id=target.baseline_id, start=start, delta=delta, merged=merged))
            pane_rows.append(
                panes.PaneRow(
                    version_id=target.version_id,
                    baseline_id=target.baseline_id,
                    segment="",
                    resolution=target.baseline.pane_seconds,
                    start=start,
                    writer=self._writer,
                    rows=merged.rows,
                    rows_seen=round(delta.rows * seen_per_row) + (old.rows_seen if old else 0),
                    profile=encode_profile(merged),
                )
            )
        block_rows = []
        for start, delta in folded.blocks.items():
            events, rows = block_events(target.baseline, delta), delta.rows
            before = old_blocks.get(block_keys[start])
            if before is not None:
                events, rows = events + BlockEvents.decode(before.events), rows + before.rows
            block_rows.append(
                blocks.BlockRow(
                    version_id=target.version_id,
                    baseline_id=target.baseline_id,
                    segment="",
                    start=start,
                    length=target.block_seconds,
                    writer=self._writer,
                    rows=rows,
                    events=events.encode(),
                )
            )
        return touched, pane_rows, block_rows

    def _pane_key(self, target: Target, start: int) -> panes.PaneKey:
        return panes.PaneKey(
            baseline_id=target.baseline_id,
            segment="",
            resolution=target.baseline.pane_seconds,
            start=start,
            writer=self._writer,
        )

    def _block_key(self, target: Target, start: int) -> blocks.BlockKey:
        return blocks.BlockKey(
            baseline_id=target.baseline_id,
            segment="",
            length=target.block_seconds,
            start=start,
            writer=self._writer,
        )


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


def _read(baseline: Baseline, group: Sequence[StoredBatch]) -> tuple[IntArray, list[Frame], set[int]]:
    """Times and frames of the readable batches; a damaged payload is set aside, never a reason to stop."""
    times, frames, damaged = [], [], set()
    for stored in group:
        try:
            batch = decode_payload(stored.payload)
        except PayloadDamagedError as error:
            log.error("batch %d of model version %d is set aside: %s", stored.id, stored.version_id, error)
            damaged.add(stored.id)
            continue
        times.append(batch.times_ns)
        frames.append(frame(batch, baseline))
    joined = np.concatenate(times) if times else np.zeros(0, dtype=np.int64)
    return joined, frames, damaged


def _moved(cursor: Cursor, group: Sequence[StoredBatch], now_ns: int, target: Target) -> Cursor:
    for batch in group:
        cursor = arrived(
            cursor,
            newest_event_ns=batch.t_last_ns,
            arrival_ns=to_ns(batch.received_at),
            gap_ns=target.gap_ns,
        )
    return advanced(cursor, now_ns=now_ns, lateness_ns=target.lateness_ns)


def _seen_per_row(group: Sequence[StoredBatch]) -> float:
    """Rows served per row shipped, where the sender sampled; the mean over the group's rows."""
    rows = sum(batch.accepted for batch in group)
    seen = sum(batch.accepted / (batch.sample_rate or 1.0) for batch in group)
    return seen / rows if rows else 1.0


def _write(conn: Connection, writes: _Writes) -> None:
    panes.upsert(conn, writes.panes)
    blocks.upsert(conn, writes.blocks)
    models.record_serving(conn, writes.servings)
    storage.cursors.put(conn, writes.cursor)
    batches.set_aside(conn, writes.damaged)
    if batches.mark_folded(conn, writes.folded) != len(writes.folded):
        raise FoldedTwice("a batch of this group was folded by another loop; the group is given up")
