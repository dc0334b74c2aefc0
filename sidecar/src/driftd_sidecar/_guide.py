"""From values to their cells without sorting them: a table says where to look, a comparison decides.

Each value falls into a bucket by a map that never decreases, so cuts in lower buckets are less than the value and
those in higher ones greater: only the cuts in its own bucket are left to compare with. This guide table (Chen & Asau
1974) costs the same for few values as for many, where sorting them and searching the cuts in them is dear for few, and
on CPUs with a slow AVX-512 (AMD's Zen 4) for many too. Columns are counted several at a time, since a call of numpy
costs as much as a hundred values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
_FINEST = 8  # buckets per cut: more fit no small cache


class _Map(Protocol):
    """From values [n] to buckets; what is stacked has fields [columns, 1] and takes values [columns, n]."""

    def __call__(self, values: AnyArray) -> AnyArray:
        """The buckets, integers from 0, of values that must not be NaN."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evenly:
    """Buckets of equal width."""

    low: Any
    high: Any
    scale: Any

    def __call__(self, values: AnyArray) -> AnyArray:
        at = values.clip(self.low, self.high)
        at -= self.low
        at *= self.scale
        return at.astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByBits:
    """Buckets that grow with the value, for long tails: the bits of floats above 0 rise with them.

    Whatever is below `low` is in the first.
    """

    low: Any
    high: Any
    origin: Any
    shift: Any

    def __call__(self, values: AnyArray) -> AnyArray:
        at: AnyArray = values.clip(self.low, self.high).view(self.origin.dtype)
        at -= self.origin
        at >>= self.shift
        return at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mirrored:
    """Buckets that grow with the distance from 0, to both sides of the one at 0."""

    low: Any
    high: Any
    origin: Any
    shift: Any
    middle: Any

    def __call__(self, values: AnyArray) -> AnyArray:
        distance = _ByBits(low=self.low, high=self.high, origin=self.origin, shift=self.shift)
        at = distance(np.abs(values))
        np.negative(at, out=at, where=values < 0)
        at += self.middle
        return at


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale:
    """The cuts of one column [k], rising, and their best map: none of its buckets has more than 2**steps of them."""

    cuts: AnyArray
    steps: int
    bucket: _Map

    @property
    def kind(self) -> tuple[object, ...]:
        """Columns with the same can be counted together."""
        return self.cuts.dtype, self.steps, type(self.bucket)


def scale_of(cuts: AnyArray) -> Scale:
    """The scale of finite cut points float32 or float64, for values of the same dtype."""
    best: Scale | None = None
    fineness = 1
    while fineness <= _FINEST and (best is None or best.steps):
        for bucket in _maps(cuts, fineness):
            steps = (int(np.bincount(bucket(cuts)).max()) - 1).bit_length()
            if best is None or steps < best.steps:
                best = Scale(cuts=cuts, steps=steps, bucket=bucket)
        fineness *= 2
    assert best is not None
    return best


class Guide:
    """Counts columns of one kind, each in the 2k+1 cells around its cuts: below the first, on it, above it and so on."""

    def __init__(self, scales: Sequence[Scale]) -> None:
        self._bucket = _stacked([scale.bucket for scale in scales])
        # How many cuts there are in lower buckets, one table after the other, and likewise the cuts, each column's
        # followed by as many NaN as a search in its last bucket may see.
        starts: list[IntArray] = []
        cuts: list[AnyArray] = []
        first: list[list[int]] = []
        self._cells: list[slice] = []
        at = 0
        for scale in scales:
            last = scale.bucket(np.array([np.inf], scale.cuts.dtype))
            first.append([sum(map(len, starts))])
            starts.append(at + scale.bucket(scale.cuts).searchsorted(np.arange(int(last[0]) + 1)))
            cuts += [scale.cuts, np.full(1 << scale.steps, np.nan, scale.cuts.dtype)]
            self._cells.append(slice(2 * at, 2 * (at + scale.cuts.size) + 1))
            at += scale.cuts.size + (1 << scale.steps)
        self._first = np.array(first, np.int32)
        self._cuts: AnyArray = np.concatenate(cuts)
        self._starts: AnyArray = np.concatenate(starts).astype(np.uint16 if 2 * at < 2**16 else np.int32)
        self._strides = [1 << step for step in reversed(range(scales[0].steps))]

    def count(self, values: AnyArray) -> list[IntArray]:
        """The number of values [columns, n], none NaN, in each cell [2k+1]. Infinite ones are in an end cell."""
        buckets = self._bucket(values)
        buckets += self._first
        at: AnyArray = self._starts.take(buckets, mode="clip")
        for stride in self._strides:  # for the last cut of the bucket that is not above the value, by halves
            at += (values >= self._cuts[stride:].take(at, mode="clip")) * at.dtype.type(stride)
        cut = self._cuts.take(at, mode="clip")
        at += at
        at += (values >= cut).view(np.uint8) + (values > cut).view(np.uint8)  # before it, on it, past it
        counts = np.bincount(at.ravel(), minlength=2 * self._cuts.size).astype(np.int64, copy=False)
        return [counts[cells] for cells in self._cells]


def _stacked(maps: Sequence[Any]) -> _Map:
    """Maps of one class as one for as many columns."""
    kind = type(maps[0])
    stacked: _Map = kind(
        **{field.name: np.array([[getattr(each, field.name)] for each in maps]) for field in fields(kind)}
    )
    return stacked


def _maps(cuts: AnyArray, fineness: int) -> Iterator[_Map]:
    """Maps into about `fineness` buckets per cut."""
    buckets = fineness << cuts.size.bit_length()
    kind = cuts.dtype.type
    most = float(np.finfo(kind).max)
    low, high = max(float(cuts[0]), -most / 4), min(float(cuts[-1]), most / 4)  # their distance is finite
    scale = (buckets - 1) / (high - low) if high > low else 0.0
    yield _Evenly(low=kind(low), high=kind(high), scale=kind(min(scale, most)))
    if cuts[-1] > 0:
        yield _by_bits(cuts[cuts > 0], buckets)
    if cuts[0] < 0:
        distances = np.sort(np.abs(cuts[cuts != 0]))
        to = _by_bits(distances, buckets // 2)
        middle = to(distances[-1:])[0]
        yield _Mirrored(low=to.low, high=to.high, origin=to.origin, shift=to.shift, middle=middle)


def _by_bits(cuts: AnyArray, buckets: int) -> _ByBits:
    """Of rising cuts above 0: the first bucket ends right below the first of them."""
    bits = np.int32 if cuts.dtype.itemsize == 4 else np.int64
    first, last = cuts[[0, -1]].view(bits).tolist()
    shift = ((last - first) // buckets).bit_length()
    start = first >> shift << shift
    return _ByBits(
        low=np.array([max(1, start - 1)], bits).view(cuts.dtype)[0],  # not 0, which may have the sign bit
        high=cuts[-1],
        origin=bits(max(0, start - (1 << shift))),
        shift=bits(shift),
    )
