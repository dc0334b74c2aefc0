r"""Wasserstein-1 (earth mover's) distance between a window and the baseline, in training standard deviations.

Detects a moved level or a changed spread of a numeric column and says how far the average row has moved: N(0,1) →
N(d,1) gives d. Blind to missing values (that is `quality`), and insensitive to small shares, unless they move far.

    W1/sd_b = ∫ |F_w(x) − F_b(x)| dx / sd_b

A profile holds counts and no sums, so F_w and F_b are known at the borders of the cells and merely monotone inside.
In the interval between two neighbouring cuts, of length h, let F rise from A to E (the exact points have no length). Then

    low  = Σ h·max(0, A_w − E_b, A_b − E_w),      high = Σ h·max(E_w − A_b, E_b − A_w)      over the intervals

hold W1 between them: `high` is reached where the rows of the two sides stand at opposite ends of their interval, `low`
(but for fractions of a row) where F_w and F_b run as close together as they may, meeting if [A, E] overlap. The
two are equal where all rows stand on cuts: for integers, booleans and whatever else has few values. For continuous
columns the gap is at most the mean length of the intervals in which rows lie, for the window's rows and the
baseline's together. The statistic is `low`.

Values outside the training range count as at its end, infinities too, so one row of 1e9 moves nothing (`quality` counts
it). Pulling values to an interval never increases W1, so `low` still holds for the raw rows, but `high` is then
infinite. Values beyond ±1e150 count as that, as they do in sd_b.

Shapes: counts int64 [..., L], rows int64 [...], results float64 [..., C]. NaN rule: missing values are in no cell.
INSUFFICIENT_DATA below 30 window rows with a value; NOT_APPLICABLE for categorical columns, for a baseline of fewer
than 30 values, and for one without spread. Window and baseline are not interchangeable: cuts and sd are the baseline's.

False alarms: none, since nothing alarms on it, and there is no p-value. With no drift E[W1/sd] is about
1.29·sqrt(1/n + 1/m) for a normal column, and grows with the tails; .1 is a usual mark.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=rng.normal(20, 2, size=10_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"x": np.clip(rng.normal(21, 2, size=2_000), 13, 27)})
>>> drifted = score(baseline, window, "x")
>>> round(drifted.low, 3), round(drifted.high, 3)
(0.499, 0.517)

References: Vallender (1974) for the integral of CDFs; Ramdas, García Trillos & Cuturi (2017).
"""

from typing import Final

import numpy as np

from detectors.columns import NumericColumn
from detectors.counts import Baseline, Profile
from detectors.ks import MIN_ROWS, Bracket
from detectors.profile import MOMENT_CLIP
from detectors.scoring import as_score, check_window, masked
from detectors.types import FloatArray, IntArray, Score, Scores

NAME: Final = "wasserstein"


def kernel(baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Scores:
    """The lower bound of W1/sd_b for a stack of windows."""
    low, _ = _bounds(baseline, counts)
    return _judged(baseline, low, baseline.layout.present(counts, rows))


def bracket(baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Bracket:
    """Both bounds of W1/sd_b; `high` is infinite where rows lie outside the training range, NaN where not VALID."""
    low, high = _bounds(baseline, counts)
    judged = _judged(baseline, low, baseline.layout.present(counts, rows))
    return Bracket(judged.statistic, np.where(judged.status, np.nan, high))


def score(baseline: Baseline, window: Profile, column: str) -> Score:
    """The score of one column, with its bracket."""
    position = check_window(baseline, window, column)
    low, high = bracket(baseline, window.counts, window.rows)
    return as_score(
        NAME,
        baseline,
        column,
        kernel(baseline, window.counts, window.rows),
        rows=int(baseline.layout.present(window.counts, window.rows)[position]),
        baseline_rows=int(baseline.present[position]),
        bracket=(float(low[position]), float(high[position])),
    )


def _judged(baseline: Baseline, distance: FloatArray, present: IntArray) -> Scores:
    inapplicable = (baseline.present < MIN_ROWS) | ~(baseline.spread > 0)
    inapplicable[baseline.layout.categorical] = True
    return masked(distance, present < MIN_ROWS, inapplicable)


def _bounds(baseline: Baseline, counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds of W1/sd_b, 0 where they make no sense: [..., C] each."""
    layout = baseline.layout
    low = np.zeros((*counts.shape[:-1], len(layout.columns)))
    high = np.zeros_like(low)
    for position in layout.numeric.tolist():
        column, start = layout.columns[position], layout.slices[position].start
        spread = float(baseline.spread[position])
        if not isinstance(column, NumericColumn) or not spread > 0:
            continue
        cells = slice(start, start + 2 * column.cuts.size + 1)
        before, after = _ends(counts[..., cells])
        trained_before, trained_after = _ends(baseline.profile.counts[cells])
        lengths = np.diff(np.clip(column.cuts, -MOMENT_CLIP, MOMENT_CLIP)) / spread
        least = np.maximum(before - trained_after, trained_before - after)
        most = np.maximum(after - trained_before, trained_after - before)
        low[..., position] = (np.maximum(least, 0.0) * lengths).sum(axis=-1)
        high[..., position] = (most * lengths).sum(axis=-1)
        beyond = counts[..., cells.start] + counts[..., cells.stop - 1]
        beyond = beyond + baseline.profile.counts[cells.start] + baseline.profile.counts[cells.stop - 1]
        huge = bool(np.abs(column.cuts[[0, -1]]).max() > MOMENT_CLIP)
        high[..., position] = np.where((beyond > 0) | huge, np.inf, high[..., position])
    # Each bound is a sum of its own: rounding must not turn an exact distance's bracket around.
    return low, np.maximum(low, high)


def _ends(cells: IntArray) -> tuple[FloatArray, FloatArray]:
    """The CDF at the start and just before the end of each interval between two cuts, [..., k−1] each."""
    running = np.cumsum(cells, axis=-1)
    shares = running / np.maximum(running[..., -1:], 1)
    return shares[..., 1:-2:2], shares[..., 2:-1:2]
