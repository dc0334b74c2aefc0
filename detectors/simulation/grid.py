"""From values to cells: each simulated column's cut points, found without a binary search for nearly every row.

Fine cell i of 0..K holds x with c(i-1) < x <= c(i): the shipped cells, with each exact point joined to the interval on its
left (of continuous rows hardly one in 10^5 stands on a cut). Fine cells keep every statistic exact; coarse cells, between
some fifty of the cuts, are what is looked at every minute.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from detectors.columns import NumericColumn
from detectors.counts import Baseline
from detectors.types import DetectorError, FloatArray, IntArray

Cells = npt.NDArray[np.int16]
Rows = npt.NDArray[np.float32]

_BUCKETS: Final = 1 << 16
_REACH: Final = np.float32(8.0)
_SCALE: Final = np.float32(_BUCKETS / 16)
_COARSE_STEPS: Final = 40
_FINE_STEPS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ruler:
    """The cells of one column: `cuts` float32 [K] rising; `first` int16 [65536]: the fine cell of every value of a bucket
    on the number line, -1 where a cut lies in it."""

    cuts: Rows
    first: Cells

    @classmethod
    def of(cls, cuts: FloatArray) -> Self:
        """The ruler of float64 cuts that float32 holds exactly."""
        narrow = cuts.astype(np.float32)
        if not np.array_equal(narrow, cuts):
            raise DetectorError("simulated columns are float32; their cuts must be too")
        # Rounding is monotone, so a value whose bucket holds no cut is on the same side of every cut as its bucket.
        held = np.bincount(_bucket(narrow), minlength=_BUCKETS)
        first = (np.cumsum(held) - held).astype(np.int16)
        first[held > 0] = -1
        return cls(cuts=narrow, first=first)

    def cells(self, values: Rows) -> Cells:
        """The fine cell of every value, int16 [n]."""
        found: Cells = self.first.take(_bucket(values))
        near = np.flatnonzero(found < 0)
        found[near] = np.searchsorted(self.cuts, values[near], side="left")
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The cells of all columns of a simulated model, all with K cuts of the same ranks.

    `coarse_cuts` int64 [J]: which cuts bound the coarse cells; `coarse` int64 [K+1]: coarse cell of a cell. `fine_cuts`,
    `fine`: the same of five times as many.
    `evidence` int64 [K+1]: of the 16 cells between minimum, the 13 evidence cuts and maximum, the one a fine cell is in.
    `deciles` int64 [9]: index of the deciles among the coarse cuts. `trained` int64 [C, K]: training rows <= cut,
    `trained_below` < cut, of `m`. `coarse_values` float64 [C, J]: the coarse cuts themselves. `spread` float64 [C].
    """

    baseline: Baseline
    rulers: tuple[Ruler, ...]
    coarse_cuts: IntArray
    coarse: IntArray
    fine_cuts: IntArray
    fine: IntArray
    evidence: IntArray
    deciles: IntArray
    trained: IntArray
    trained_below: IntArray
    m: int
    coarse_values: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, baseline: Baseline) -> Self:
        """The grid of a baseline of continuous columns with as many rows each; others are refused."""
        columns = [column for column in baseline.columns if isinstance(column, NumericColumn)]
        first = columns[0] if columns else None
        alike = first is not None and all(
            np.array_equal(c.evidence_cuts, first.evidence_cuts)
            and np.array_equal(c.decile_cuts, first.decile_cuts)
            and c.cuts.size == first.cuts.size
            for c in columns
        )
        if first is None or not alike or len(columns) < len(baseline.columns) or first.decile_cuts.size < 9:
            raise DetectorError("a simulated model has continuous columns whose cuts have the same ranks")
        size = first.cuts.size
        steps = np.linspace(0, size - 1, _COARSE_STEPS + 1).round().astype(np.int64)
        coarse_cuts = np.unique(np.concatenate([first.evidence_cuts, steps]))
        ends = np.array([0, size - 1])
        evidence_cuts = np.unique(np.concatenate([first.evidence_cuts, ends]))
        if evidence_cuts.size != 15:
            raise DetectorError("the evidence cuts of a simulated column must differ")
        fine_cuts = np.unique(np.linspace(0, size - 1, _FINE_STEPS + 1).round().astype(np.int64))
        cells = np.arange(size + 1)
        starts, stops = baseline.layout.cell_start, baseline.layout.cell_stop
        running = np.stack(
            [np.cumsum(baseline.profile.counts[a:b]) for a, b in zip(starts, stops, strict=True)]
        )
        return cls(
            baseline=baseline,
            rulers=tuple(Ruler.of(c.cuts) for c in columns),
            coarse_cuts=coarse_cuts,
            coarse=np.searchsorted(coarse_cuts, cells, side="left"),
            fine_cuts=fine_cuts,
            fine=np.searchsorted(fine_cuts, cells, side="left"),
            evidence=np.searchsorted(evidence_cuts, cells, side="left"),
            deciles=np.searchsorted(coarse_cuts, first.decile_cuts),
            trained=running[:, 1:-1:2],
            trained_below=running[:, 0:-2:2],
            m=baseline.profile.rows,
            coarse_values=np.stack([c.cuts[coarse_cuts] for c in columns]),
            spread=baseline.spread,
        )


def _bucket(values: Rows) -> npt.NDArray[np.int32]:
    shifted = np.clip(values, -_REACH + np.float32(1e-3), _REACH - np.float32(1e-3))
    shifted += _REACH
    shifted *= _SCALE
    return shifted.astype(np.int32)
