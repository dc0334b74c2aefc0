"""Thresholds in a column's own units: how large a D is a shift by so much?

D of a distribution against itself moved by `shift` is max |F(x) − F(x − shift)|. F is known at the baseline's cuts
and taken as rising evenly between them, which is off by at most the share of a cell; the maximum is looked for at
the cuts and at the cuts moved by the shift, where it lies for such an F.
"""

import numpy as np

from detectors.counts import Baseline
from detectors.profile import NumericColumn
from detectors.types import DetectorError


def distance_of_shift(baseline: Baseline, column: int, shift: float) -> float:
    """The D, 0 to 1, of moving a numeric column of the baseline by `shift` (> 0), in the column's unit.

    For 10 000 standard normal values and a shift of one standard deviation theory says 2 Φ(1/2) − 1 = .3829:

    >>> from detectors.profile import ColumnData, build_baseline
    >>> from detectors.types import ColumnRole, ColumnType
    >>> values = np.random.default_rng(3).normal(size=10_000)
    >>> data = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64", values=values)
    >>> round(distance_of_shift(build_baseline([data], 60, (), None, "docs"), 0, 1.0), 2)
    0.38
    """
    described = baseline.columns[column]
    if not isinstance(described, NumericColumn):
        raise DetectorError(
            f"column {described.name!r} has categories, no unit; give its threshold as ks or psi"
        )
    if not (np.isfinite(shift) and shift > 0.0):
        raise DetectorError(
            f"column {described.name!r}: a shift of {shift}; give a number of its units above 0"
        )
    cells = baseline.profile.counts[baseline.layout.slices[column]][: 2 * described.cuts.size + 1]
    total = int(cells.sum())
    if total == 0:
        raise DetectorError(f"column {described.name!r} has no value in training; a shift says nothing of it")
    cumulative = np.cumsum(cells) / total
    if described.cuts.size == 1 or float(described.cuts[-1] - described.cuts[0]) <= shift:
        return 1.0
    # From just below the first cut, where nothing lies, so that a step there counts as one.
    below = np.nextafter(described.cuts[0], -np.inf)
    points = np.concatenate([[below], described.cuts])
    shares = np.concatenate([[cumulative[0]], cumulative[1::2]])
    at = np.unique(np.concatenate([described.cuts, described.cuts + shift]))
    here = np.interp(at, points, shares, left=0.0, right=1.0)
    moved = np.interp(at - shift, points, shares, left=0.0, right=1.0)
    return float(np.abs(here - moved).max())
