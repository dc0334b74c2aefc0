r"""Homogeneity of categories between a window and the baseline.

Detects changed shares of a categorical column's categories, of `other` and of `unseen`. Blind to missing values (that
is `quality`) and to shifts among the categories pooled as too rare. The test is the one of two samples, not of
goodness of fit: the baseline is a sample too. With e the counts expected if both had one distribution,

    χ² = Σ (c − e)²/e,    G = 2 Σ c·ln(c/e),    w = sqrt(χ²/n_e),    V = sqrt(χ²/(n + m)),    n_e = n·m/(n + m)

The statistic is Cohen's w, which does not depend on the two sample sizes; Cramér's V of the 2 × B table does, and is
there for comparison. Categories with an expected count below 5 on either side are pooled; if the pool is
still below 5 it joins the smallest of the others.

Shapes: counts int64 [..., L], rows int64 [...], results float64 [..., C]. NaN rule: missing values are in no category.
INSUFFICIENT_DATA below 30 window rows with a value, NOT_APPLICABLE for numeric columns and below 30 baseline values.

False alarms: with no drift χ² follows χ²(B−1), so E[w²] = (B−1)/n_e is bias; w = .1 is small and .3 medium.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="region", role=ColumnRole.FEATURE, type=ColumnType.CATEGORICAL, dtype="string",
...                       values=rng.choice(["eu", "us", "asia"], size=3_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"region": rng.choice(["eu", "us"], size=300)})
>>> round(score(baseline, window, "region").statistic, 2)
0.74

References: Pearson (1900); Cramér (1946); Cohen (1988) for w.
"""

from typing import Final, NamedTuple

import numpy as np

from detectors.counts import Baseline, Profile
from detectors.scoring import as_score, check_window, masked
from detectors.types import FloatArray, IntArray, Score, Scores

NAME: Final = "categorical"
MIN_ROWS: Final = 30
"""Values needed on either side."""
MIN_EXPECTED: Final = 5.0


class Homogeneity(NamedTuple):
    """The test of one pair of samples: χ², G, the bins left after pooling, and the two sample sizes."""

    chi_square: float
    g: float
    bins: int
    n: int
    m: int

    @property
    def w(self) -> float:
        """Cohen's w, sqrt(χ²/n_e)."""
        return float(np.sqrt(self.chi_square * (self.n + self.m) / (self.n * self.m)))

    @property
    def cramers_v(self) -> float:
        """Cramér's V of the 2 × B table."""
        return float(np.sqrt(self.chi_square / (self.n + self.m)))

    @property
    def p_value(self) -> float:
        """P(χ² at least as large) for independent rows of one distribution."""
        # Imported when a reader asks: scipy.stats is half of a daemon's start-up time.
        from scipy.stats import chi2

        return float(chi2.sf(self.chi_square, self.bins - 1)) if self.bins > 1 else 1.0


def kernel(baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Scores:
    """Cohen's w of every categorical column for a stack of windows."""
    layout = baseline.layout
    present = layout.present(counts, rows)
    w = np.zeros(present.shape)
    for position, start, stop in zip(
        layout.categorical.tolist(),
        layout.category_start.tolist(),
        layout.category_stop.tolist(),
        strict=True,
    ):
        chi_square, _, _ = _statistics(counts[..., start:stop], baseline.profile.counts[start:stop])
        n, m = present[..., position].astype(np.float64), float(baseline.present[position])
        w[..., position] = np.sqrt(chi_square * (n + m) / np.maximum(n * m, 1.0))
    inapplicable = baseline.present < MIN_ROWS
    inapplicable[layout.numeric] = True
    return masked(w, present < MIN_ROWS, inapplicable)


def score(baseline: Baseline, window: Profile, column: str) -> Score:
    """The score of one column."""
    position = check_window(baseline, window, column)
    return as_score(
        NAME,
        baseline,
        column,
        kernel(baseline, window.counts, window.rows),
        rows=int(baseline.layout.present(window.counts, window.rows)[position]),
        baseline_rows=int(baseline.present[position]),
    )


def p_value(baseline: Baseline, window: Profile, column: str) -> float | None:
    """The p-value of χ² after pooling; None where the score is not VALID."""
    if score(baseline, window, column).statistic is None:
        return None
    part = baseline.layout.slices[baseline.layout.position(column)]
    categories = slice(part.start, part.stop - 1)
    return homogeneity(window.counts[categories], baseline.profile.counts[categories]).p_value


def homogeneity(window: IntArray, baseline: IntArray) -> Homogeneity:
    """Test two count vectors [B], each with at least one row, after pooling what is too rare.

    >>> import numpy as np
    >>> test = homogeneity(np.array([16, 18, 16, 14, 12, 12]), np.array([16, 16, 16, 16, 16, 8]))
    >>> round(test.chi_square, 7), round(test.g, 7), round(test.p_value, 7), test.bins
    (1.622409, 1.6299561, 0.8985262, 6)
    """
    chi_square, g, bins = _statistics(window, baseline)
    return Homogeneity(float(chi_square), float(g), int(bins), int(window.sum()), int(baseline.sum()))


def _statistics(window: IntArray, baseline: IntArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """χ², G and the bins left, [...] each, of counts [..., B] against [B]; 0 where a side has no row."""
    w, b = _pooled(window.astype(np.float64), np.broadcast_to(baseline, window.shape).astype(np.float64))
    n, m = w.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    both = w + b
    chi_square = np.zeros(window.shape[:-1])
    g = np.zeros(window.shape[:-1])
    for sample, size in ((w, n), (b, m)):
        expected = both * size / np.maximum(n + m, 1.0)
        safe = np.where(expected > 0, expected, 1.0)
        chi_square += np.where(expected > 0, (sample - expected) ** 2 / safe, 0.0).sum(axis=-1)
        g += 2 * (sample * np.log(np.where(sample > 0, sample / safe, 1.0))).sum(axis=-1)
    return chi_square, g, (both > 0).sum(axis=-1)


def _pooled(w: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts with one more bin for the pool; pooled bins are left empty."""
    both = w + b
    n, m = w.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    least = np.minimum(n, m) / np.maximum(n + m, 1.0)
    rare = both * least < MIN_EXPECTED
    pool = np.stack([np.where(rare, side, 0.0).sum(axis=-1) for side in (w, b)])
    kept = np.where(rare, 0.0, np.stack([w, b]))
    # A pool that is rare itself joins the smallest bin that is not, if there is one.
    frequent = ~rare.all(axis=-1)
    joins = frequent & (pool.sum(axis=0) * least[..., 0] < MIN_EXPECTED)
    smallest = np.where(rare, np.inf, both).argmin(axis=-1)
    target = (np.arange(both.shape[-1]) == smallest[..., np.newaxis]) & joins[..., np.newaxis]
    kept = kept + np.where(target, pool[..., np.newaxis], 0.0)
    rest = np.where(joins, 0.0, pool)[..., np.newaxis]
    pooled = np.concatenate([kept, rest], axis=-1)
    return pooled[0], pooled[1]
