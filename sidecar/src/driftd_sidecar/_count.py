"""Counting rows on cells, integer by integer as the daemon counts them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from driftd_sidecar._cells import CategoryCells, Cells, ColumnCells
from driftd_sidecar._frame import AnyArray, Frame, Mask
from driftd_sidecar._numbers import NumberCounter

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
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
        self._numbers = NumberCounter(cells.columns)
        self._counts = np.zeros(cells.length, np.int64)

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
        counts = self._slots([values[chosen] for values in frame.columns], moments)
        if segment:
            counts = np.concatenate([_coarsened(column, counts) for column in self.cells.columns])
        slots = (counts != 0).nonzero()[0]  # numpy has a fast way for truth values only
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

    def _slots(self, columns: Sequence[AnyArray], moments: FloatArray) -> IntArray:
        """Slots that hold until this is called again; fills the moments, zeros before."""
        counts = self._counts
        counts.fill(0)
        self._numbers.count(columns, counts, moments)
        for column, values in zip(self.cells.columns, columns, strict=True):
            if isinstance(column, CategoryCells):
                counts[column.start : column.start + column.slots] = np.bincount(
                    values, minlength=column.slots
                )
        return counts


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
    into.slots = (dense != 0).nonzero()[0]
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


def _merged_moments(one: FloatArray, other: FloatArray) -> FloatArray:
    """Of all rows of both, [C, 3] each (Chan, Golub & LeVeque 1982)."""
    n = one[:, 0] + other[:, 0]
    weight = other[:, 0] / np.maximum(n, 1.0)
    apart = other[:, 1] - one[:, 1]
    mean = one[:, 1] + apart * weight
    spread = one[:, 2] + other[:, 2] + apart * apart * one[:, 0] * weight
    return np.stack([n, mean, spread], axis=-1)


def _coarsened(column: ColumnCells, counts: IntArray) -> IntArray:
    """A column's slots on the coarse cuts: points stay, what lies between them becomes one interval."""
    slots = counts[column.start : column.start + column.slots]
    if isinstance(column, CategoryCells) or column.coarse is None:
        return slots
    points = 2 * column.coarse + 1
    starts = np.empty(2 * points.size + 1, np.int64)
    starts[0], starts[1::2], starts[2::2] = 0, points, points + 1
    return np.concatenate([np.add.reduceat(slots[: column.cells], starts), slots[column.cells :]])
