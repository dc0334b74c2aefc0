r"""Four distances between the shares of a window and of the baseline over the bins of `psi`: for display only.

They detect what `psi` detects, a redistribution of rows over fixed bins, on scales that readers know from elsewhere,
each in [0, 1] and 0 for equal shares. With p and q the shares of the window and the baseline, u = (p + q)/2,

    jensen_shannon  sqrt(½ Σ p·log2(p/u) + ½ Σ q·log2(q/u))   in base 2; in base e it is sqrt(ln 2) = .833 of that
    hellinger       sqrt(½ Σ (√p − √q)²)
    total_variation ½ Σ |p − q|                               the share of rows that must move
    l_infinity      max |p − q|                               the largest change of one bin

Blind to movement inside a bin (so for a continuous column each is a lower bound of the distance of the two laws), to
the order of bins, and to missing values (that is `quality`). An empty bin is no difficulty, hence no smoothing.
Two vectors of counts may be swapped; a window and its baseline may not, because the bins are the baseline's.

Shapes: counts int64 [..., L], rows int64 [...], results float64 [..., C]. NaN rule: missing values are in no bin, ±inf are
in the end bins. INSUFFICIENT_DATA below 200 window rows with a value; NOT_APPLICABLE where the baseline has fewer than
100 values, or one bin (a constant column: `ks` sees it move).

False alarms: none, since nothing alarms on them, and there is no p-value. With no drift they are not 0 but of the order
sqrt((B−1)/n_e), n_e = n·m/(n+m): Hellinger² averages (B−1)/(8·n_e), so .041 for ten bins at n = 720, m = 10 000.
.1 is a usual mark for the Jensen-Shannon distance.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=rng.normal(size=10_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"x": rng.normal(0.5, 1, size=2_000)})
>>> [round(distance.score(baseline, window, "x").statistic, 3) for distance in DISTANCES]
[0.207, 0.173, 0.203, 0.127]

References: Lin (1991) and Endres & Schindelin (2003) for Jensen-Shannon; Hellinger (1909); Gibbs & Su (2002) for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import xlogy

from detectors.counts import Baseline, Profile
from detectors.psi import MIN_BASELINE_ROWS, MIN_ROWS
from detectors.scoring import as_score, check_window, masked
from detectors.types import DetectorError, FloatArray, IntArray, Score, Scores

Combine = Callable[[FloatArray, IntArray], FloatArray]
"""Sums (or takes the largest of) the terms [..., S] of each column's bins, which begin at starts [C]: [..., C]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A distance of shares: `terms(p, q)` per bin, brought together per column by `combine`, then `finish`ed."""

    name: str
    terms: Callable[[FloatArray, FloatArray], FloatArray]
    combine: Combine
    finish: Callable[[FloatArray], FloatArray]

    def kernel(self, baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Scores:
        """The distance of every column for a stack of windows."""
        layout = baseline.layout
        present = layout.present(counts, rows)
        w = np.add.reduceat(counts, layout.psi_edges, axis=-1)[..., layout.psi_bins]
        p = w / np.maximum(present, 1)[..., layout.psi_column]
        q = baseline.psi_counts / np.maximum(baseline.present, 1)[layout.psi_column]
        inapplicable = (baseline.present < MIN_BASELINE_ROWS) | (layout.psi_spans == 1)
        return masked(self._of(p, q, layout.psi_start), present < MIN_ROWS, inapplicable)

    def score(self, baseline: Baseline, window: Profile, column: str) -> Score:
        """The score of one column; exact for its bins, so `low == statistic == high`."""
        position = check_window(baseline, window, column)
        scores = self.kernel(baseline, window.counts, window.rows)
        value = float(scores.statistic[position])
        return as_score(
            self.name,
            baseline,
            column,
            scores,
            rows=int(baseline.layout.present(window.counts, window.rows)[position]),
            baseline_rows=int(baseline.present[position]),
            bracket=(value, value),
        )

    def between(self, window_bins: IntArray, baseline_bins: IntArray) -> float:
        """The distance of two count vectors [B] over the same bins, each with at least one row.

        >>> import numpy as np
        >>> round(TOTAL_VARIATION.between(np.array([6, 4]), np.array([50, 50])), 12)
        0.1
        """
        if window_bins.shape != baseline_bins.shape or not (
            window_bins.sum() > 0 and baseline_bins.sum() > 0
        ):
            raise DetectorError("a distance needs two count vectors over the same bins, each with a row")
        p, q = window_bins / window_bins.sum(), baseline_bins / baseline_bins.sum()
        return float(self._of(p, q, np.zeros(1, dtype=np.int64))[0])

    def _of(self, p: FloatArray, q: FloatArray, starts: IntArray) -> FloatArray:
        return self.finish(self.combine(self.terms(p, q), starts))


def _sum(terms: FloatArray, starts: IntArray) -> FloatArray:
    total: FloatArray = np.add.reduceat(terms, starts, axis=-1)
    return total


def _largest(terms: FloatArray, starts: IntArray) -> FloatArray:
    largest: FloatArray = np.maximum.reduceat(terms, starts, axis=-1)
    return largest


def _information(p: FloatArray, q: FloatArray) -> FloatArray:
    u = np.where(p + q > 0, (p + q) / 2, 1.0)
    bits: FloatArray = (xlogy(p, p / u) + xlogy(q, q / u)) / (2 * np.log(2))
    return bits


def _root(total: FloatArray) -> FloatArray:
    """The square root; rounding may leave a total of equal shares just below 0, or of disjoint ones above 1."""
    root: FloatArray = np.sqrt(np.clip(total, 0.0, 1.0))
    return root


JENSEN_SHANNON: Final = Distance(name="jensen_shannon", terms=_information, combine=_sum, finish=_root)
HELLINGER: Final = Distance(
    name="hellinger", terms=lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2 / 2, combine=_sum, finish=_root
)
TOTAL_VARIATION: Final = Distance(
    name="total_variation",
    terms=lambda p, q: np.abs(p - q) / 2,
    combine=_sum,
    finish=lambda total: np.minimum(total, 1.0),
)
L_INFINITY: Final = Distance(
    name="l_infinity", terms=lambda p, q: np.abs(p - q), combine=_largest, finish=lambda largest: largest
)
DISTANCES: Final = (JENSEN_SHANNON, HELLINGER, TOTAL_VARIATION, L_INFINITY)
