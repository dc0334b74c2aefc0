r"""Ratio of a column's variance to that of the training values, on a logarithmic scale.

Detects a spread that grew or shrank, above all of the predictions and of the confidence: a model that answers the same
to everything loses its variance while its mean may stay. Blind to a moved level, and to a change of shape at equal
variance (`ks` sees both). A few huge values can move it.

    |ln(s²_w / s²_b)|,    s²_w = (M2_w + s²_b)/n,    s²_b = M2_b/(m − 1)

of the finite values. One imagined deviation of the training's size in s²_w keeps the logarithm finite where all n values are
equal, at ln(n): the more rows agree, the more it means. It is to a variance what +½ is to a bin of `psi`; for n
in the thousands it changes nothing that one sees. `ratio` gives s²_w/s²_b, which says in which direction.

Shapes: moments float64 [..., C, 3] (n, mean, M2), results float64 [..., C]. NaN rule: missing and infinite values are
in no moment; finite values count as at most ±1e150. INSUFFICIENT_DATA below 100 finite values; NOT_APPLICABLE for
categorical columns and for a baseline without spread.

False alarms: none, since nothing alarms on it. ln(1.5) = .405 is worth a look. There is no p-value: the F test for two
variances is wrong for anything but independent normal rows (Box 1953). With no drift, independent rows of kurtosis k
have a standard deviation of sqrt((k − 1)(1/n + 1/m)): .065 for a normal column at n = 500, m = 10 000.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=rng.normal(20, 2, size=10_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"x": rng.normal(20, 1, size=2_000)})
>>> round(score(baseline, window, "x").statistic, 2), round(ratio(baseline, window, "x"), 2)
(1.34, 0.26)

References: Box (1953); Chan, Golub & LeVeque (1982) for the moments.
"""

from typing import Final

import numpy as np

from detectors.counts import Baseline, Profile
from detectors.scoring import as_score, check_window, masked
from detectors.types import FloatArray, Score, Scores

NAME: Final = "variance_ratio"
MIN_ROWS: Final = 100
"""Finite values in the window."""
_ROUNDING: Final = 2.0**-48
"""Equal values x leave deviations of up to this times x from a mean that is rounded (and merged)."""


def kernel(baseline: Baseline, moments: FloatArray) -> Scores:
    """The absolute log ratio of every column for a stack of windows, from their merged moments."""
    flat = ~(baseline.spread > 0)
    ratios = np.where(flat | (moments[..., 0] < 1), 1.0, _ratios(baseline, moments))
    return masked(np.abs(np.log(ratios)), moments[..., 0] < MIN_ROWS, flat)


def score(baseline: Baseline, window: Profile, column: str) -> Score:
    """The score of one column; `rows` are its finite values."""
    position = check_window(baseline, window, column)
    return as_score(
        NAME,
        baseline,
        column,
        kernel(baseline, window.moments),
        rows=int(window.moments[position, 0]),
        baseline_rows=int(baseline.profile.moments[position, 0]),
    )


def ratio(baseline: Baseline, window: Profile, column: str) -> float | None:
    """s²_w/s²_b of one column, below 1 where the spread shrank; None where the score is not VALID."""
    if score(baseline, window, column).statistic is None:
        return None
    return float(_ratios(baseline, window.moments)[baseline.layout.position(column)])


def _ratios(baseline: Baseline, moments: FloatArray) -> FloatArray:
    n, mean, m2 = moments[..., 0], moments[..., 1], moments[..., 2]
    noise = np.maximum(n, 1.0) * (_ROUNDING * mean) ** 2
    trained = np.where(baseline.spread > 0, baseline.spread, 1.0)
    with np.errstate(over="ignore"):  # infinite is not VALID
        scaled = (np.sqrt(np.where(m2 > noise, m2, 0.0)) / trained) ** 2
    ratios: FloatArray = (scaled + 1.0) / np.maximum(n, 1.0)
    return ratios
