r"""Shift of a column's mean, in standard deviations of the training values.

Detects a moved level of a numeric column, and says by how much in the column's own unit; above all for the
confidence. Blind to a change of shape around an unmoved mean; a few huge values can move it (`ks` cannot be
moved so). The statistic is d = |mean_w − mean_b| / sd_b of the finite values, sd_b² = M2/(m − 1).

The interval treats the window's clusters (stretches of `cluster_seconds`) and not its rows as independent:

    var(mean_w) = G/(G−1) · Σ n_i² (mean_i − mean_w)² / N²,   mean_w − mean_b ± t(G−1) · sqrt(var(mean_w) + sd_b²/m)

with G non-empty clusters of n_i rows, N = Σ n_i: a plain z interval on rows that come in batches of ten is wrong
52 % of the time at a nominal 5 %, clustered by the hour 4.5 %. It is approximate (18 % under a strong
autocorrelation of .99 a minute), so it is shown, and no page rests on it.

Shapes: moments float64 [..., C, 3] (n, mean, M2), clusters int64 [..., C], results float64 [..., C]. NaN rule: missing and
infinite values are in no moment; finite values count as at most ±1e150. INSUFFICIENT_DATA below 12 non-empty
clusters; NOT_APPLICABLE for categorical columns, and for a baseline without spread or of one value.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=rng.normal(20, 2, size=10_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> hours = [profile_rows(baseline, {"x": rng.normal(21, 2, size=100)}) for _ in range(24)]
>>> shift = interval(baseline, hours, "x")
>>> round(shift.difference, 2), round(shift.low, 2), round(shift.high, 2)
(1.02, 0.94, 1.1)

References: Künsch (1989) for dependent rows; Liang & Zeger (1986) for the clustered variance; Chan, Golub &
LeVeque (1982) for the moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.counts import Baseline, Profile
from detectors.scoring import as_score, check_window, masked
from detectors.types import DetectorError, FloatArray, IntArray, Score, Scores

NAME: Final = "mean_shift"
MIN_CLUSTERS: Final = 12
CLUSTERS_PER_WINDOW: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The shift of the mean in the column's unit, mean_w − mean_b, with its 95 % interval.

    `effective_rows` is how many independent rows would be as telling as the window's `rows` dependent ones.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    rows: int
    clusters: int
    effective_rows: float


def cluster_seconds(pane_seconds: int, window_seconds: int) -> int:
    """How long a cluster lasts: a 24th of the window, rounded up to whole panes, at least one pane.

    >>> cluster_seconds(60, 86_400), cluster_seconds(60, 900), cluster_seconds(60, 3_600)
    (3600, 60, 180)
    """
    wanted = -(-window_seconds // CLUSTERS_PER_WINDOW)
    return pane_seconds * max(1, -(-wanted // pane_seconds))


def kernel(baseline: Baseline, moments: FloatArray, clusters: IntArray) -> Scores:
    """The shift of every column for a stack of windows, from their merged moments [..., C, 2 or 3]: n and mean.

    `clusters` [..., C] are the clusters of each window with at least one finite value.
    """
    sd = baseline.spread
    flat: npt.NDArray[np.bool_] = ~(sd > 0)
    shift = np.abs(moments[..., 1] - baseline.profile.moments[:, 1]) / np.where(flat, 1.0, sd)
    empty = moments[..., 0] < 1
    return masked(shift, (clusters < MIN_CLUSTERS) | empty, flat)


def score(baseline: Baseline, window: Profile, column: str, *, clusters: Sequence[Profile] = ()) -> Score:
    """The score of one column; without its clusters a window's rows prove nothing, so it is INSUFFICIENT_DATA.

    `low` and `high` stay None: the interval is a statistical one, see `interval`.
    """
    position = check_window(baseline, window, column)
    held = np.zeros(len(baseline.columns), dtype=np.int64)
    for cluster in clusters:
        held += cluster.moments[:, 0] > 0
    return as_score(
        NAME,
        baseline,
        column,
        kernel(baseline, window.moments, held),
        rows=int(window.moments[position, 0]),
        baseline_rows=int(baseline.profile.moments[position, 0]),
    )


def interval(
    baseline: Baseline, clusters: Sequence[Profile], column: str, *, level: float = 0.95
) -> Interval | None:
    """The clustered t interval of one column, or None where the score would not be VALID."""
    if not 0 < level < 1:
        raise DetectorError(f"level is {level}; a confidence level lies between 0 and 1")
    position = baseline.layout.position(column)
    parts = np.array([cluster.moments[position] for cluster in clusters if cluster.moments[position, 0] > 0])
    sd = float(baseline.spread[position])
    if len(parts) < MIN_CLUSTERS or not sd > 0:
        return None
    n, mean, m2 = parts.T
    total = float(n.sum())
    centre = float((n * mean).sum() / total)
    groups = len(parts)
    clustered = groups / (groups - 1) * float(((n * (mean - centre)) ** 2).sum()) / total**2
    independent = float(m2.sum() + (n * (mean - centre) ** 2).sum()) / total**2
    trained_n, trained_mean, _ = baseline.profile.moments[position]
    error = float(np.sqrt(clustered + sd**2 / trained_n))
    difference = centre - float(trained_mean)
    reach = float(special.stdtrit(groups - 1, (1 + level) / 2)) * error
    return Interval(
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        standard_error=error,
        rows=int(total),
        clusters=groups,
        effective_rows=total * independent / clustered if clustered > 0 else total,
    )


def p_value(baseline: Baseline, clusters: Sequence[Profile], column: str) -> float | None:
    """Two-sided p of the shift by the clustered t statistic; None where the score would not be VALID."""
    found = interval(baseline, clusters, column)
    if found is None:
        return None
    return float(2 * special.stdtr(found.clusters - 1, -abs(found.difference) / found.standard_error))
