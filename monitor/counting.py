"""Counting: rows become counts per segment and pane, on the cells of the baseline of their model version."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.counts import Layout
from detectors.decision import EventIndex
from detectors.profile import Baseline, Profile, profile_rows
from detectors.types import IntArray
from monitor.bases import Base
from monitor.ingest.batch import Batch, decode_payload
from monitor.ingest.counted import (
    COUNTS_CODEC,
    CountedBatch,
    CountedPane,
    OtherBaselineError,
    add_up,
    counted_on,
    decode_counts,
)
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.frame import frame
from monitor.segments import Segments
from monitor.watermark import NANOSECONDS
from storage.batches import NewBatch, StoredBatch

HOUR: Final = 3_600

Frame = Mapping[str, npt.NDArray[Any]]

log = logging.getLogger("driftd.fold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Onto:
    """What rows are counted on: a baseline, and the tags whose values make segments, counted on its coarse view."""

    baseline_id: int
    base: Base
    segment_keys: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """By which its counts are known."""
        return self.base.whole.baseline.fingerprint

    @property
    def pane_seconds(self) -> int:
        """The length of its panes, and of the blocks as they are stored."""
        return self.base.whole.baseline.pane_seconds

    def layout_of(self, segment: str) -> Layout:
        """The layout on which a segment is counted."""
        return self.base.of(segment).baseline.layout


def count(onto: Onto, segments: Segments, batches: Sequence[Batch], seen_per_row: float) -> CountedBatch:
    """All rows of the batches (at least one) first, then each segment's; `seen_per_row` were served for each row."""
    times = np.concatenate([batch.times_ns for batch in batches])
    values = frame(batches, onto.base.whole.baseline)
    found: list[tuple[str, EventIndex, slice | npt.NDArray[Any]]] = [("", onto.base.whole, slice(None))]
    found += [
        (segment, onto.base.coarse, rows)
        for key in onto.segment_keys
        for segment, rows in segments.rows_of(
            onto.baseline_id, key, [value for batch in batches for value in batch.tag_values(key)]
        )
    ]
    panes = tuple(
        CountedPane(
            segment=segment, start=start, rows_seen=round(profile.rows * seen_per_row), profile=profile
        )
        for segment, index, rows in found
        for start, profile in profiles_by_pane(
            index.baseline, times[rows], {name: column[rows] for name, column in values.items()}
        ).items()
    )
    return CountedBatch(fingerprint=onto.fingerprint, panes=panes, hours=rows_by_hour(times))


def count_stored(
    onto: Onto, segments: Segments, group: Sequence[StoredBatch]
) -> tuple[CountedBatch, set[int]]:
    """Everything in a group of stored batches, and the ids of those set aside: nothing can be made of their payload.

    A damaged batch is never a reason to stop. Batches that came as counts must be of this baseline (`by_baseline`).
    """
    raw = [stored for stored in group if stored.codec != COUNTS_CODEC]
    readable, set_aside = read_batches(raw)

    def parts() -> Iterator[CountedBatch]:
        if readable:
            yield count(onto, segments, readable, seen_per_row(raw))
        for stored in group:
            if stored.codec == COUNTS_CODEC:
                try:
                    counted = decode_counts(stored.payload, onto.fingerprint, onto.layout_of)
                except (PayloadDamagedError, OtherBaselineError) as error:
                    _tell(stored, error)
                    set_aside.add(stored.id)
                else:
                    yield _admitted(onto, segments, counted)

    return add_up(onto.fingerprint, parts()), set_aside


def by_baseline(group: Sequence[StoredBatch], current: str) -> dict[str, list[StoredBatch]]:
    """The batches by the fingerprint of the baseline they are counted on: that of `current` for all that came as rows.

    Counts that cannot be read are with `current` as well, for whoever counts them to set aside.
    """
    found: dict[str, list[StoredBatch]] = {}
    for stored in group:
        fingerprint = current
        if stored.codec == COUNTS_CODEC:
            with contextlib.suppress(PayloadDamagedError):
                fingerprint = counted_on(stored.payload)
        found.setdefault(fingerprint, []).append(stored)
    return found


def read_batches(group: Sequence[StoredBatch]) -> tuple[list[Batch], set[int]]:
    """The readable ones of batches that came as rows, and the ids of the others."""
    readable, damaged = [], set()
    for stored in group:
        try:
            readable.append(decode_payload(stored.payload, written_here=stored.written_here))
        except PayloadDamagedError as error:
            _tell(stored, error)
            damaged.add(stored.id)
    return readable, damaged


def seen_per_row(group: Sequence[StoredBatch | NewBatch]) -> float:
    """Rows served per row shipped, where the sender sampled; the mean over the group's rows."""
    rows = sum(batch.accepted for batch in group)
    seen = sum(batch.accepted / (batch.sample_rate or 1.0) for batch in group)
    return seen / rows if rows else 1.0


def profiles_by_pane(baseline: Baseline, times_ns: IntArray, values: Frame) -> dict[int, Profile]:
    """Rows counted by the pane of their event time, oldest first.

    `times_ns` is int64 [N], event time in nanoseconds UTC; `values` maps every baseline column to an array of
    length N.
    """
    return {
        start: profile_rows(baseline, rows)
        for start, rows in _by_pane(times_ns, values, baseline.pane_seconds)
    }


def rows_by_hour(times_ns: IntArray) -> dict[int, int]:
    """How many rows happened in each hour, by its start: of the rows themselves, for a pane may be a day."""
    if times_ns.size == 0:
        return {}
    first, last = _span(times_ns, HOUR)
    if first == last:
        return {first * HOUR: int(times_ns.size)}
    counted = np.bincount(times_ns // (HOUR * NANOSECONDS) - first)
    return {(first + int(hour)) * HOUR: int(counted[hour]) for hour in np.flatnonzero(counted)}


def _by_pane(times_ns: IntArray, values: Frame, pane_seconds: int) -> list[tuple[int, Frame]]:
    """Rows grouped by the pane of their event time, oldest pane first."""
    if times_ns.size == 0:
        return []
    first, last = _span(times_ns, pane_seconds)
    if first == last:
        return [(first * pane_seconds, values)]
    index = times_ns // (pane_seconds * NANOSECONDS)
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    return [
        (int(index[rows[0]]) * pane_seconds, {name: column[rows] for name, column in values.items()})
        for rows in np.split(order, cuts)
    ]


def _span(times_ns: IntArray, seconds: int) -> tuple[int, int]:
    """The first and the last slice of that length in which rows happened: most groups are in one, found without a division."""
    length = seconds * NANOSECONDS
    return int(times_ns.min()) // length, int(times_ns.max()) // length


def _admitted(onto: Onto, segments: Segments, counted: CountedBatch) -> CountedBatch:
    """Without the segments that rows would not be counted in either: of other tags, or beyond what a baseline may have."""
    panes = tuple(
        pane
        for pane in counted.panes
        if not pane.segment
        or (
            pane.segment.partition("=")[0] in onto.segment_keys
            and segments.admits(onto.baseline_id, pane.segment)
        )
    )
    return CountedBatch(fingerprint=counted.fingerprint, panes=panes, hours=counted.hours)


def _tell(stored: StoredBatch, error: Exception) -> None:
    log.error("batch %d of model version %d is set aside: %s", stored.id, stored.version_id, error)
