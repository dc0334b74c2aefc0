"""W1 of scipy on raw rows lies in the certified bracket, and equals it where rows stand on cuts."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm, wasserstein_distance

from detectors import wasserstein
from detectors.profile import Profile, profile_rows
from detectors.types import ScoreStatus
from tests.detectors.building import categories, mixed_baseline, mixed_columns, numeric, window

F64 = npt.NDArray[np.float64]
SHAPES = ["normal", "rounded", "integer", "binary", "zero-inflated", "heavy", "float32"]


def draw(rng: np.random.Generator, shape: str, n: int, shift: float, scale: float) -> F64:
    values = shift + scale * rng.normal(size=n)
    match shape:
        case "rounded":
            return values.round(1)
        case "integer":
            return (3 * values).round()
        case "binary":
            return (values > 0.4).astype(np.float64)
        case "zero-inflated":
            return np.where(rng.random(n) < 0.8, 0.0, values)
        case "heavy":
            return shift + scale * rng.standard_t(2, size=n)
        case "float32":
            return values.astype(np.float32).astype(np.float64)
        case _:
            return values


def bracket(training: F64, observed: F64, cap: int = 1024) -> tuple[float, float]:
    """In the column's own unit."""
    baseline = numeric(training, cut_cap=cap)
    found = wasserstein.score(baseline, window(baseline, observed), "x")
    assert found.low is not None
    assert found.high is not None
    assert found.statistic == found.low
    sd = training.std(ddof=1)
    return found.low * sd, found.high * sd


# scipy's documentation: 5 exactly. Repeated to the rows that a baseline and a window need, the law is the same.
def test_the_example_of_scipys_documentation() -> None:
    training, observed = np.tile([0.0, 1.0, 3.0], 40), np.tile([5.0, 6.0, 8.0], 40)
    assert wasserstein_distance(training, observed) == pytest.approx(5.0, abs=1e-12)
    low, high = bracket(training, observed)
    # Beyond the training range nothing is certified but that it is at least the distance to the range's end.
    assert low == pytest.approx(wasserstein_distance(training, np.full(3, 3.0)), abs=1e-12)
    assert high == np.inf
    within = np.concatenate([training, [5.0, 6.0, 8.0]])
    low, high = bracket(within, observed)
    assert low == pytest.approx(wasserstein_distance(within, observed), abs=1e-12)
    assert high == pytest.approx(low, abs=1e-12)


@pytest.mark.parametrize("cap", [23, 64, 1024])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bracket_holds_scipys_distance(shape: str, cap: int) -> None:
    rng = np.random.default_rng(SHAPES.index(shape) + cap)
    for _ in range(120):
        n, m = int(rng.integers(30, 600)), int(rng.integers(150, 1_500))
        training = draw(rng, shape, m, 0.0, 1.0)
        observed = draw(rng, shape, n, float(rng.normal(0, 0.5)), float(rng.choice([0.3, 1.0, 2.0])))
        if training.std() == 0:
            continue
        low, high = bracket(training, observed, cap)
        expected = wasserstein_distance(training, observed)
        slack = 1e-9 * (1 + expected)
        assert low - slack <= expected <= high + slack
        # Within the range of training both ends are finite, and the value is bracketed as well.
        clipped = np.clip(observed, training.min(), training.max())
        low_inside, high_inside = bracket(training, clipped, cap)
        assert low_inside == low
        expected = wasserstein_distance(training, clipped)
        assert low_inside - slack <= expected <= high_inside + slack


@pytest.mark.parametrize("seed", range(5))
def test_infinite_rows_count_as_the_ends_of_the_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        training, observed = rng.normal(size=400), rng.normal(0.3, 1.5, size=200)
        observed[rng.random(200) < 0.1] = np.inf
        observed[rng.random(200) < 0.1] = -np.inf
        low, high = bracket(training, observed)
        clipped = np.clip(observed, training.min(), training.max())
        assert low <= wasserstein_distance(training, clipped) + 1e-12
        assert high == np.inf
        assert low == bracket(training, clipped)[0]


samples = hnp.arrays(np.float64, st.integers(30, 80), elements=st.integers(-50, 50).map(float))


@settings(max_examples=150)
@given(samples, samples)
def test_rows_that_stand_on_cuts_give_the_distance_itself(training: F64, observed: F64) -> None:
    everywhere = np.concatenate([np.arange(-50.0, 51.0), training])
    low, high = bracket(everywhere, observed)
    expected = wasserstein_distance(everywhere, observed)
    assert low == pytest.approx(expected, abs=1e-9)
    assert high == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(samples, samples)
def test_a_change_of_unit_changes_nothing(training: F64, observed: F64) -> None:
    everywhere = np.concatenate([np.arange(-50.0, 51.0), training])
    one, two = numeric(everywhere), numeric(1024 * everywhere + 5)
    first = wasserstein.score(one, window(one, observed), "x").statistic
    second = wasserstein.score(two, window(two, 1024 * observed + 5), "x").statistic
    assert first == pytest.approx(second, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5, 1.0])
def test_a_normal_column_moved_by_d_deviations_has_d(shift: float) -> None:
    grid = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    baseline = numeric(grid)
    observed = np.clip(grid + shift, grid.min(), grid.max())
    found = wasserstein.score(baseline, window(baseline, observed), "x")
    assert found.low is not None
    assert found.high is not None
    assert shift - 0.03 < found.low < shift < found.high + 1e-3
    assert found.high - found.low < 0.05


def test_window_and_baseline_may_not_be_swapped() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=500), rng.normal(0.5, 3, size=500)
    one, two = numeric(first), numeric(second)
    there = wasserstein.score(one, window(one, second), "x").statistic
    back = wasserstein.score(two, window(two, first), "x").statistic
    assert there is not None
    assert back is not None
    assert abs(there - back) > 0.1


def test_windows_are_scored_together_as_alone() -> None:
    baseline, columns = mixed_baseline(), mixed_columns(seed=8, rows=900)
    profiles: list[Profile] = [
        profile_rows(baseline, {column.name: column.values[:rows] for column in columns})
        for rows in (900, 300, 10)
    ]
    counts, rows = np.stack([p.counts for p in profiles]), np.array([p.rows for p in profiles])
    stacked = wasserstein.bracket(baseline, counts, rows)
    for row, profile in enumerate(profiles):
        alone = wasserstein.bracket(baseline, profile.counts, profile.rows)
        np.testing.assert_array_equal(stacked.low[row], alone.low)
        np.testing.assert_array_equal(stacked.high[row], alone.high)
        for position, column in enumerate(columns):
            statistic = wasserstein.score(baseline, profile, column.name).statistic
            assert np.isnan(alone.low[position]) if statistic is None else statistic == alone.low[position]


def test_values_as_large_as_floats_get_stay_finite() -> None:
    training = np.concatenate([1.7e308 * np.linspace(-1, 1, 50), np.arange(100.0)])
    baseline = numeric(training)
    found = wasserstein.score(baseline, window(baseline, np.full(100, 1.7e308)), "x")
    assert found.statistic is not None
    assert 0 < found.statistic < 10
    assert found.high == np.inf


def test_what_cannot_be_scored_says_so() -> None:
    baseline = numeric(np.arange(100.0))
    for values in (np.zeros(0), np.zeros(29), np.full(1_000, np.nan)):
        found = wasserstein.score(baseline, window(baseline, values), "x")
        assert (found.status, found.statistic) == (ScoreStatus.INSUFFICIENT_DATA, None)
    constant = numeric(np.full(100, 2.0))
    assert wasserstein.score(constant, window(constant, np.full(50, 3.0)), "x").status is (
        ScoreStatus.NOT_APPLICABLE
    )
    grouped = categories(["a", "b"] * 100)
    rows = window(grouped, np.array(["a"] * 50, dtype=object))
    assert wasserstein.score(grouped, rows, "x").status is ScoreStatus.NOT_APPLICABLE
