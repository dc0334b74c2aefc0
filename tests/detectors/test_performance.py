"""How right predictions are: against published intervals, scipy's tests, and a simulated year at the floor."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from detectors.performance import accuracy_p_value, error_p_value, wilson_interval


@pytest.mark.parametrize(
    ("correct", "labelled", "low", "high"),
    # Newcombe, R. G. (1998), Two-sided confidence intervals for the single proportion, Statistics in Medicine 17,
    # table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(correct: int, labelled: int, low: float, high: float) -> None:
    assert wilson_interval(correct, labelled) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_interval_stays_within_zero_and_one() -> None:
    assert wilson_interval(20, 20, level=0.99)[1] == 1.0
    assert wilson_interval(0, 20, level=0.99)[0] == 0.0
    assert wilson_interval(10, 20, level=0.99) == pytest.approx(
        tuple(stats.binomtest(10, 20).proportion_ci(0.99, method="wilson"))
    )


@pytest.mark.parametrize(
    ("correct", "labelled", "floor"), [(80, 100, 0.9), (0, 40, 0.5), (4000, 4320, 0.93), (7, 7, 1.0)]
)
def test_accuracy_is_tested_exactly(correct: int, labelled: int, floor: float) -> None:
    expected = stats.binomtest(correct, labelled, floor, alternative="less").pvalue
    assert accuracy_p_value(correct, labelled, floor) == pytest.approx(expected, rel=1e-9)
    assert accuracy_p_value(correct, labelled, 0.0) == 1.0


def test_one_mistake_is_certain_where_none_may_be() -> None:
    assert accuracy_p_value(99, 100, 1.0) == 0.0


def test_errors_are_tested_as_a_mean() -> None:
    errors = np.random.default_rng(1).exponential(3.0, 4000)
    absolute, squared = float(errors.sum()), float((errors**2).sum())
    for ceiling in (2.6, 2.8, 2.9):
        found = error_p_value(absolute, squared, 4000, ceiling)
        by_spread = stats.ttest_1samp(errors, ceiling, alternative="greater").pvalue
        assert by_spread <= found <= 3 * by_spread + 1e-12
    assert error_p_value(absolute, squared, 4000, float(errors.mean())) == 1.0
    assert error_p_value(absolute, squared, 4000, 4.0) == 1.0
    assert error_p_value(0.0, 0.0, 30, 1.0) == 1.0


@pytest.mark.parametrize(("wrong", "labelled", "ceiling"), [(30, 30, 0.95), (99, 100, 0.9), (40, 1000, 0.02)])
def test_errors_of_one_size_are_tested_as_their_share(wrong: int, labelled: int, ceiling: float) -> None:
    """Of 0 and 1 the mean absolute error is a share, and its test the exact one."""
    expected = stats.binomtest(wrong, labelled, ceiling, alternative="greater").pvalue
    found = error_p_value(float(wrong), float(wrong), labelled, ceiling)
    errors = [1.0] * wrong + [0.0] * (labelled - wrong)
    spread = wrong < labelled
    by_spread = stats.ttest_1samp(errors, ceiling, alternative="greater").pvalue if spread else 0.0
    assert found == pytest.approx(max(expected, by_spread), rel=1e-9)


_ERRORS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray[Any, Any]]] = {
    "of a bell": lambda rng, size: np.abs(rng.normal(size=size)) * math.sqrt(math.pi / 2),
    "exponential": lambda rng, size: rng.exponential(size=size),
    "with a long tail": lambda rng, size: rng.lognormal(-0.5, 1.0, size),
    "nearly always one": lambda rng, size: (rng.random(size) < 0.95) / 0.95,
    "hardly ever any": lambda rng, size: (rng.random(size) < 0.02) / 0.02,
    "all alike": lambda rng, size: 1 + 0.05 * rng.normal(size=size),
    "all alike or none": lambda rng, size: (
        (1 + 0.05 * rng.normal(size=size)) * (rng.random(size) < 0.9) / 0.9
    ),
    "large ones, mostly": lambda rng, size: rng.beta(8, 2, size) / 0.8,
}


@pytest.mark.parametrize("errors", _ERRORS)
@pytest.mark.parametrize("labelled", [30, 300])
def test_a_mean_error_at_its_ceiling_is_seldom_called_larger(errors: str, labelled: int) -> None:
    """Whatever errors are like: a thousandth of the days at most, where the level is a thousandth."""
    days, level = 40_000, 1e-3
    drawn = _ERRORS[errors](np.random.default_rng(3), (days, labelled))
    sums = zip(drawn.sum(axis=1).tolist(), (drawn**2).sum(axis=1).tolist(), strict=True)
    called = sum(error_p_value(absolute, squared, labelled, 1.0) <= level for absolute, squared in sums)
    assert called <= stats.poisson.ppf(0.9999, days * level)


def test_a_year_at_the_floor_pages_within_its_budget() -> None:
    """400 model-years of 60 labels an hour, looked at each hour over 24 hours: about the budget, 1 a year here, at most."""
    rng, years, hours = np.random.default_rng(7), 400, 8766
    level, pages = 1.0 / hours, 0
    worst = max(k for k in range(24 * 60) if accuracy_p_value(k, 24 * 60, 0.9) <= level)
    for _ in range(years):
        correct = rng.binomial(60, 0.9, hours)
        day = np.convolve(correct, np.ones(24, np.int64), "valid")
        low = day <= worst
        pages += int(low[0]) + int((low[1:] & ~low[:-1]).sum())
    assert pages / years < 1.0 + 3 * math.sqrt(1.0 / years)
    assert pages > 0  # the test is no formality
