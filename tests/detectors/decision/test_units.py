"""Shifts in a column's own unit, against scipy's D of the values and their moved copies."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detectors.decision.units import distance_of_shift
from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType, DetectorError


def baseline(values: np.ndarray) -> Baseline:
    kind = ColumnType.CATEGORICAL if values.dtype == object else ColumnType.NUMERIC
    dtype = "string" if values.dtype == object else "float64"
    data = ColumnData(name="x", role=ColumnRole.FEATURE, type=kind, dtype=dtype, values=values)
    return build_baseline([data], 60, (), None, "test")


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_the_distance_between_the_values_and_their_moved_copies(seed: int, shift: float) -> None:
    values = np.random.default_rng(seed).normal(10.0, 1.0, 6000)
    expected = ks_2samp(values, values + shift).statistic
    assert distance_of_shift(baseline(values), 0, shift) == pytest.approx(expected, abs=3 / 1000)


@pytest.mark.parametrize(("d", "distance"), [(0.1, 0.0399), (0.25, 0.0995), (0.5, 0.1974), (1.0, 0.3829)])
def test_the_dictionary_of_normal_shifts(d: float, distance: float) -> None:
    """N(0,1) against N(d,1): D = 2 Phi(d/2) - 1."""
    values = np.random.default_rng(4).normal(size=50_000)
    assert distance_of_shift(baseline(values), 0, d) == pytest.approx(distance, abs=0.008)


def test_the_unit_does_not_matter() -> None:
    values = np.random.default_rng(5).gamma(2.0, 1.0, 4000)
    one = distance_of_shift(baseline(values), 0, 0.7)
    assert distance_of_shift(baseline(values * 1000 + 5), 0, 700.0) == pytest.approx(one, abs=1e-9)


def test_beyond_the_range_everything_has_moved() -> None:
    assert distance_of_shift(baseline(np.arange(200.0)), 0, 500.0) == 1.0
    assert distance_of_shift(baseline(np.full(200, 7.0)), 0, 0.1) == 1.0


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan"), float("inf")])
def test_a_shift_that_is_none_is_refused(shift: float) -> None:
    with pytest.raises(DetectorError, match="above 0"):
        distance_of_shift(baseline(np.arange(200.0)), 0, shift)


def test_categories_have_no_unit() -> None:
    with pytest.raises(DetectorError, match="ks or psi"):
        distance_of_shift(baseline(np.array(["a", "b"] * 100, dtype=object)), 0, 1.0)
