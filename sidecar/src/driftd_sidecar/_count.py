"""Counting rows on cells, integer by integer as the daemon counts them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from driftd_sidecar._cells import CategoryCells, Cells, ColumnCells, NumericCells
from driftd_sidecar._frame import AnyArray, Frame, Mask
from driftd_sidecar._guide import Guide, guide_of

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
        self._guides: dict[tuple[int, int], Guide] = {}

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
        with np.errstate(invalid="ignore", over="ignore"):  # sums of what is infinite
            parts = [
                self._column(column, values[chosen], moments[position], coarse=bool(segment))
                for position, (column, values) in enumerate(
                    zip(self.cells.columns, frame.columns, strict=True)
                )
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

    def _column(
        self, column: ColumnCells, values: AnyArray, moments: FloatArray, *, coarse: bool
    ) -> IntArray:
        """The slots of one column; fills its `moments` [3], zeros before."""
        if isinstance(column, CategoryCells):
            return np.bincount(values, minlength=column.slots).astype(np.int64)
        cuts: AnyArray = column.cuts
        if values.dtype == np.float32 and column.narrow is not None:
            cuts = column.narrow
        else:
            values = values.astype(np.float64, copy=False)
        key = column.start, values.dtype.itemsize
        guide = self._guides.get(key)
        if guide is None:
            guide = self._guides[key] = guide_of(cuts)
        slots = _count_numbers(column, guide, values, moments)
        return _coarsened(column, slots) if coarse and column.coarse is not None else slots


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


def _count_numbers(column: NumericCells, guide: Guide, values: AnyArray, moments: FloatArray) -> IntArray:
    """The slots of values [n]; fills their `moments` [3], zeros before."""
    slots = np.zeros(column.slots, np.int64)
    rows = values.size
    finite = wide = values.astype(np.float64)
    total = float(wide.sum())
    if not math.isfinite(total):
        known = ~np.isnan(values)
        values, wide = values[known], wide[known]
        finite = wide[np.isfinite(wide)]
        total = float(finite.sum())
    slots[: column.cells] = guide.count(values)
    slots[column.cells] = rows - values.size
    slots[column.cells + 1] = values.size - finite.size
    if column.role == "confidence":
        bounded = wide.clip(0.0, 1.0)
        slots[column.cells + 2] = int(np.rint(bounded * CONFIDENCE_SCALE).astype(np.int64).sum())
    if finite.size:
        if values.dtype == np.float64 and max(finite.max(), -finite.min()) > MOMENT_CLIP:
            finite = finite.clip(-MOMENT_CLIP, MOMENT_CLIP)
            total = float(finite.sum())
        mean = total / finite.size
        finite -= mean
        finite *= finite
        moments[:] = finite.size, mean, float(finite.sum())
    return slots


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
