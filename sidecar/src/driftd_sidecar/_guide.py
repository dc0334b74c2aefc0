"""From values to their cells without sorting them: a table says where to look, a comparison decides.

Each value falls into a bucket by a map that never decreases, so cuts in lower buckets are less than the value and
those in higher ones greater: only the cuts in its own bucket are left to compare with. This guide table (Chen & Asau
1974) costs the same for few values as for many, where sorting them and searching the cuts in them is dear for few, and
on CPUs with a slow AVX-512 (AMD's Zen 4) for many too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
_FINEST = 8  # buckets per cut: more fit no small cache


class _Map(Protocol):
    def __call__(self, values: AnyArray) -> AnyArray:
        """The bucket of each value [n], which must not be NaN, as integers; one below 0 stands for 0."""
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
    origin: int
    shift: int

    def __call__(self, values: AnyArray) -> AnyArray:
        at = values.clip(self.low, self.high).view(_bits_of(values.dtype))
        at -= self.origin
        at >>= self.shift
        return at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mirrored:
    """Buckets that grow with the distance from 0, to both sides of the one at 0."""

    distance: _ByBits
    middle: int

    def __call__(self, values: AnyArray) -> AnyArray:
        at = self.distance(np.abs(values))
        np.negative(at, out=at, where=values < 0)
        at += self.middle
        return at


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guide:
    """Counts values of one dtype in the 2k+1 cells around k cut points: below the first, on it, above it and so on.

    `cuts` are the cut points and as many NaN as there are cuts in a bucket; `starts` has the number of cuts in all
    lower buckets. `strides` find the last cut of a bucket that is not above a value, by halves.
    """

    cells: int
    cuts: AnyArray
    starts: AnyArray
    strides: tuple[int, ...]
    bucket: _Map

    def count(self, values: AnyArray) -> IntArray:
        """The number of values [n], none of them NaN, in each cell [2k+1]. Infinite ones are in an end cell."""
        at = self.starts.take(self.bucket(values), mode="clip")
        for stride in self.strides:
            at += (values >= self.cuts[stride:].take(at, mode="clip")) * self.starts.dtype.type(stride)
        cut = self.cuts.take(at, mode="clip")
        at += at
        at += (values >= cut).view(np.uint8) + (values > cut).view(np.uint8)  # before it, on it, past it
        return np.bincount(at, minlength=self.cells).astype(np.int64, copy=False)


def guide_of(cuts: AnyArray) -> Guide:
    """The guide to rising finite cut points float32 or float64 [k], for values of the same dtype."""
    best, fewest = next(_maps(cuts, 1)), cuts.size.bit_length()
    fineness = 1
    while fewest and fineness <= _FINEST:
        for each in _maps(cuts, fineness):
            steps = (int(np.bincount(np.maximum(each(cuts), 0)).max()) - 1).bit_length()
            if steps < fewest:
                best, fewest = each, steps
        fineness *= 2
    buckets = np.maximum(best(cuts), 0)
    starts = buckets.searchsorted(np.arange(int(buckets[-1]) + 1))
    return Guide(
        cells=2 * cuts.size + 1,
        cuts=np.concatenate([cuts, np.full(1 << fewest, np.nan, cuts.dtype)]),
        starts=starts.astype(np.uint16 if 2 * cuts.size < 2**16 else np.int32),
        strides=tuple(1 << step for step in reversed(range(fewest))),
        bucket=best,
    )


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
        distance = _by_bits(distances, buckets // 2)
        yield _Mirrored(distance=distance, middle=int(distance(distances[-1:])[0]))


def _by_bits(cuts: AnyArray, buckets: int) -> _ByBits:
    """Of rising cuts above 0: the first bucket ends right below the first of them."""
    bits = _bits_of(cuts.dtype)
    first, last = cuts[[0, -1]].view(bits).tolist()
    shift = ((last - first) // buckets).bit_length()
    start = first >> shift << shift
    return _ByBits(
        low=np.array([max(0, start - 1)], bits).view(cuts.dtype)[0],
        high=cuts[-1],
        origin=max(0, start - (1 << shift)),
        shift=shift,
    )


def _bits_of(dtype: np.dtype[Any]) -> type[np.signedinteger[Any]]:
    return np.int32 if dtype.itemsize == 4 else np.int64
