"""A second pass over training rows that say when they happened: what they teach of how columns move by nature.

The rows are counted on the finished baseline hour by hour, also where its panes are longer: the correlation time is
one of hours, and a window over the last, incomplete day is no day. Blocks are whole panes all the same.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from detectors.decision import (
    BLOCK_LENGTHS,
    BlockEvents,
    BlockStack,
    Calibration,
    CalibrationSource,
    EventIndex,
    History,
    learn,
    peaks_of,
)
from detectors.decision.peaks import Pane
from detectors.profile import Baseline, ColumnData, profile_rows
from detectors.types import DetectorError, FloatArray, IntArray
from monitor.training.options import LearningOptions, TrainingError

HOUR: Final = 3_600
MOST_NUMBERS: Final = 14_000_000
"""Groups of rows times events held, twice eight bytes each; beyond it rows are counted in longer groups."""
MOST_SLOTS: Final = 64_000_000
"""Counts held for the panes of the longest window, eight bytes each."""


def learned(
    options: LearningOptions, baseline: Baseline, data: Sequence[ColumnData], seconds: IntArray
) -> Calibration:
    """What the training rows teach, which happened at `seconds` int64 [rows] (epoch), in the order of `data`.

    Memory: some 24 bytes a row for their order, the counts of the panes of the longest window, and the events of all
    groups.
    Raises TrainingError.
    """
    index = EventIndex.of(baseline)
    windows = list(options.windows)
    length = _group_seconds(index, windows, seconds)
    starts: list[int] = []
    events: list[BlockEvents] = []

    def panes() -> Iterator[Pane]:
        for start, rows in _groups(seconds, length):
            profile = profile_rows(baseline, {column.name: column.values[rows] for column in data})
            starts.append(start)
            events.append(index.count(profile))
            yield start, profile.counts, profile.rows

    try:
        peaks = peaks_of(index, windows, panes(), pane_seconds=length)
        blocks = BlockStack(
            seconds=length,
            starts=np.array(starts, dtype=np.int64),
            events=BlockEvents(
                hits=np.stack([block.hits for block in events]),
                totals=np.stack([block.totals for block in events]),
            ),
        )
        return learn(
            index,
            windows,
            History(blocks=blocks, peaks=peaks),
            source=CalibrationSource.TRAINING,
            block_seconds=options.block_seconds,
            false_pages_per_year=options.false_pages_per_year,
            weights=_shares(options, baseline),
        )
    except DetectorError as error:
        raise TrainingError(f"--time {options.time}: {error}") from error


def _group_seconds(index: EventIndex, windows: Sequence[int], seconds: IntArray) -> int:
    """The shortest length, an hour or more, whose counts memory may hold."""
    span = int(seconds.max()) - int(seconds.min())
    lengths = [length for length in BLOCK_LENGTHS if length >= HOUR]
    slots = index.baseline.layout.length
    return next(
        (
            length
            for length in lengths
            if min(span // length + 1, seconds.size) * index.column.size <= MOST_NUMBERS
            and min(span, max(windows)) // length * slots <= MOST_SLOTS
        ),
        lengths[-1],
    )


def _groups(seconds: IntArray, length: int) -> Iterator[tuple[int, IntArray]]:
    """The start of each group of `length` seconds that holds rows, and its rows, in order of time."""
    order = np.argsort(seconds, kind="stable")
    group: IntArray = np.array(seconds[order])
    group //= length
    first = np.flatnonzero(group[1:] != group[:-1]) + 1
    for begin, end in zip([0, *first.tolist()], [*first.tolist(), group.size], strict=True):
        yield int(group[begin]) * length, order[begin:end]


def _shares(options: LearningOptions, baseline: Baseline) -> FloatArray:
    """Each column's part of the budget [C], as the daemon will divide it."""
    names = [column.name for column in baseline.columns]
    weights = np.array([0.0 if n in options.ignored else options.weights.get(n, 1.0) for n in names])
    total = float(weights.sum())
    return np.asarray(weights / total if total else weights)
