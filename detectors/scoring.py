"""From a kernel's row of numbers to one column's `Score`, the same for every detector."""

import numpy as np
import numpy.typing as npt

from detectors.counts import Baseline, Profile
from detectors.types import (
    NOT_APPLICABLE,
    STATUSES,
    VALID,
    DetectorError,
    FloatArray,
    Score,
    Scores,
)


def masked(
    statistic: FloatArray, insufficient: npt.NDArray[np.bool_], inapplicable: npt.NDArray[np.bool_]
) -> Scores:
    """Scores with NaN and a status wherever a condition holds; what can never apply outranks what lacks rows.

    All three have the shape of `statistic` or broadcast to it. A statistic that is no finite number in spite of both
    conditions (overflowed moments) is INSUFFICIENT_DATA too: it must neither read as fine nor stop other columns.
    """
    status = (insufficient | ~np.isfinite(statistic)).view(np.int8)  # True is INSUFFICIENT
    np.copyto(status, np.int8(NOT_APPLICABLE), where=inapplicable)
    return Scores(np.where(status, np.nan, statistic), status)


def check_window(baseline: Baseline, window: Profile, column: str) -> int:
    """The column's position, after checking that the window was counted on this baseline's layout."""
    if window.counts.shape != (baseline.layout.length,):
        raise DetectorError(
            f"the window has {window.counts.shape} counts, the baseline {baseline.layout.length}; "
            "count the window on this baseline"
        )
    return baseline.layout.position(column)


def as_score(
    detector: str,
    baseline: Baseline,
    column: str,
    scores: Scores,
    *,
    rows: int,
    baseline_rows: int,
    bracket: tuple[float, float] | None = None,
) -> Score:
    """One column of an unstacked kernel result [C] as a `Score`."""
    position = baseline.layout.position(column)
    status = STATUSES[scores.status[position]]
    if status is not STATUSES[VALID]:
        return Score(detector=detector, column=column, status=status, rows=rows, baseline_rows=baseline_rows)
    low, high = bracket or (None, None)
    return Score(
        detector=detector,
        column=column,
        status=status,
        statistic=float(scores.statistic[position]),
        low=low,
        high=high,
        rows=rows,
        baseline_rows=baseline_rows,
    )
