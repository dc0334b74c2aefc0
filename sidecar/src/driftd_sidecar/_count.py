"""Counting rows on cells, integer by integer as the daemon counts them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from driftd_sidecar._cells import CategoryCells, Cells, ColumnCells, NumericCells
from driftd_sidecar._frame import AnyArray, Frame, Mask

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
CONFIDENCE_SCALE = 2**32
MOMENT_CLIP = 1e150  # finite values beyond count as this in the moments, whose squares would overflow
SEGMENTS = 50  # values of tags that get panes of their own; a tag that is an id must not fill the device
_SECOND = 1_000_000_000
_HOUR = 3600


@dataclass(slots=True, kw_only=True, eq=False)
class Pane:
    """Rows of one segment ('' for all) counted in the pane from `start` on, in epoch seconds.

    `seen` rows were served for them. `slots`, rising, and `counts`, above 0, are int64; `moments` is float64 [C, 3]: n,
    mean and sum of squared deviations. `first_ns` and `last_ns` are the least and the greatest event time, `hours` the
    rows of each hour by its start.
    """

    segment: str
    start: int
    rows: int
    seen: int
    first_ns: int
    last_ns: int
    hours: dict[int, int]
    slots: IntArray
    counts: IntArray
    moments: FloatArray

    @property
    def size(self) -> int:
        """Bytes it holds in memory, nearly."""
        return 512 + self.slots.nbytes + self.counts.nbytes + self.moments.nbytes


class Counter:
    """Counts frames on one set of cells. Only one thread may use it."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._segments: set[str] = set()

    def count(self, frame: Frame, rate: float) -> list[Pane]:
        """The good rows of a frame by pane, each pane of all rows before those of its segments.

        `rate` is the share of the rows served that were kept.
        """
        index = frame.times_ns // (self.cells.pane_seconds * _SECOND)
        found: list[Pane] = []
        for number in _distinct(index[frame.good]):
            inside = frame.good & (index == number)
            start = int(number) * self.cells.pane_seconds
            found.append(self._pane("", start, frame, inside, rate))
            for segment, rows in frame.segments.items():
                part = inside & rows
                if part.any() and self._admits(segment):
                    found.append(self._pane(segment, start, frame, part, rate))
        return found

    def _admits(self, segment: str) -> bool:
        if segment not in self._segments and len(self._segments) < SEGMENTS:
            self._segments.add(segment)
        return segment in self._segments

    def _pane(self, segment: str, start: int, frame: Frame, rows: Mask, rate: float) -> Pane:
        chosen: Any = slice(None) if rows.all() else rows
        times = frame.times_ns[chosen]
        moments = np.zeros((len(self.cells.columns), 3))
        parts = [
            _count_column(column, values[chosen], moments[position], coarse=bool(segment))
            for position, (column, values) in enumerate(zip(self.cells.columns, frame.columns, strict=True))
        ]
        counts = np.concatenate(parts)
        slots = np.flatnonzero(counts)
        hour = times // (_HOUR * _SECOND)
        return Pane(
            segment=segment,
            start=start,
            rows=times.size,
            seen=round(times.size / rate),
            first_ns=int(times.min()),
            last_ns=int(times.max()),
            hours={each * _HOUR: int((hour == each).sum()) for each in _distinct(hour)},
            slots=slots,
            counts=counts[slots],
            moments=moments,
        )


def _distinct(values: IntArray) -> list[int]:
    """The distinct values [n], rising. Most often there is one, which needs no sorting."""
    if values.size and values.min() == values.max():
        return [int(values[0])]
    distinct: list[int] = np.unique(values).tolist()
    return distinct


def merged(into: Pane, other: Pane) -> None:
    """Adds the rows of `other`, of the same segment, pane and cells."""
    dense = np.zeros(1 + max(int(into.slots[-1]), int(other.slots[-1])), np.int64)
    dense[into.slots] = into.counts
    dense[other.slots] += other.counts
    into.slots = dense.nonzero()[0]
    into.counts = dense[into.slots]
    into.moments = _merged_moments(into.moments, other.moments)
    into.rows += other.rows
    into.seen += other.seen
    into.first_ns, into.last_ns = min(into.first_ns, other.first_ns), max(into.last_ns, other.last_ns)
    for hour, rows in other.hours.items():
        into.hours[hour] = into.hours.get(hour, 0) + rows


def by_column(cells: Cells, pane: Pane) -> Iterable[tuple[ColumnCells, IntArray, IntArray]]:
    """Each column with its filled slots, counted from its first one, and their counts."""
    start = 0
    for column in cells.columns:
        size = slots_of(column, coarse=bool(pane.segment))
        first, last = np.searchsorted(pane.slots, [start, start + size])
        yield column, pane.slots[first:last] - start, pane.counts[first:last]
        start += size


def slots_of(column: ColumnCells, *, coarse: bool) -> int:
    """How many slots a column has."""
    if isinstance(column, CategoryCells) or not coarse or column.coarse is None:
        return column.slots
    return column.slots - column.cells + 2 * column.coarse.size + 1


def _count_column(column: ColumnCells, values: AnyArray, moments: FloatArray, *, coarse: bool) -> IntArray:
    """The slots of one column; fills its `moments` [3], zeros before."""
    if isinstance(column, CategoryCells):
        return np.bincount(values, minlength=column.slots).astype(np.int64)
    slots = _count_numbers(column, np.sort(values), moments)
    return _coarsened(column, slots) if coarse and column.coarse is not None else slots


def _count_numbers(column: NumericCells, ordered: AnyArray, moments: FloatArray) -> IntArray:
    slots = np.zeros(column.slots, np.int64)
    present, non_finite = _count_sorted(ordered, column, slots[: column.cells])
    slots[column.cells] = ordered.size - present
    slots[column.cells + 1] = non_finite
    if column.role == "confidence":
        bounded = np.clip(ordered[:present].astype(np.float64), 0.0, 1.0)
        slots[column.cells + 2] = int(np.rint(bounded * CONFIDENCE_SCALE).astype(np.int64).sum())
    _fill_moments(ordered[:present], non_finite, moments)
    return slots


def _count_sorted(ordered: AnyArray, column: NumericCells, cells: IntArray) -> tuple[int, int]:
    """Counts sorted values [n], NaN last, into `cells` [2k+1] of zeros: how many are present, and how many infinite.

    The edges are searched in the values, which is some twenty times cheaper than the cell of every value.
    """
    keys: AnyArray = column.cuts
    if ordered.dtype == np.float32 and column.narrow is not None:
        keys = column.narrow
    else:
        ordered = ordered.astype(np.float64, copy=False)
    present = ordered.size
    if math.isnan(ordered[-1]):
        present = int(ordered.searchsorted(ordered.dtype.type(np.nan)))
    below = ordered.searchsorted(keys)
    cells[0] = below[0]
    np.subtract(below[1:], below[:-1], out=cells[2:-1:2])
    cells[-1] = present - below[-1]
    # Most exact points of a continuous column hold no row: search the far edge only of those that do.
    held = (ordered.take(below, mode="clip") == keys).nonzero()[0]
    at = ordered.searchsorted(keys[held], side="right") - below[held]
    cells[2 * held + 1] = at
    cells[2 * held + 2] -= at
    if present == 0 or not (math.isinf(ordered[0]) or math.isinf(ordered[present - 1])):
        return present, 0
    return present, int(np.isinf(ordered[:present]).sum())


def _fill_moments(present: AnyArray, non_finite: int, moments: FloatArray) -> None:
    finite = present[np.isfinite(present)] if non_finite else present
    if finite.size == 0:
        return
    wide = finite.astype(np.float64)
    if wide[0] < -MOMENT_CLIP or wide[-1] > MOMENT_CLIP:  # they are sorted
        wide = np.clip(wide, -MOMENT_CLIP, MOMENT_CLIP)
    mean = float(wide.sum()) / wide.size
    wide -= mean
    moments[:] = wide.size, mean, float((wide * wide).sum())


def _merged_moments(one: FloatArray, other: FloatArray) -> FloatArray:
    """Of all rows of both, [C, 3] each (Chan, Golub & LeVeque 1982)."""
    n = one[:, 0] + other[:, 0]
    weight = other[:, 0] / np.maximum(n, 1.0)
    apart = other[:, 1] - one[:, 1]
    mean = one[:, 1] + apart * weight
    spread = one[:, 2] + other[:, 2] + apart * apart * one[:, 0] * weight
    return np.stack([n, mean, spread], axis=-1)


def _coarsened(column: NumericCells, slots: IntArray) -> IntArray:
    """The slots on the coarse cuts: points stay, what lies between them becomes one interval."""
    assert column.coarse is not None
    points = 2 * column.coarse + 1
    starts = np.empty(2 * points.size + 1, np.int64)
    starts[0], starts[1::2], starts[2::2] = 0, points, points + 1
    return np.concatenate([np.add.reduceat(slots[: column.cells], starts), slots[column.cells :]])
