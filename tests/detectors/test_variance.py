"""The log ratio of variances equals numpy's on raw rows, but for the one imagined row."""

import math

import numpy as np
import pytest

from detectors import variance
from detectors.profile import Profile
from detectors.types import ColumnRole, ScoreStatus
from tests.detectors.building import baseline_of, categories, data, numeric, window


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 1.2, 2.0, 50.0])
def test_the_ratio_is_numpys(scale: float) -> None:
    rng = np.random.default_rng(2)
    training, observed = rng.normal(20, 4, size=5_000), rng.normal(7, 4 * scale, size=800)
    base = numeric(training)
    profile = window(base, observed)
    by_hand = (((observed - observed.mean()) ** 2).sum() + training.var(ddof=1)) / 800 / training.var(ddof=1)
    assert variance.ratio(base, profile, "x") == pytest.approx(by_hand, rel=1e-9)
    assert variance.ratio(base, profile, "x") == pytest.approx(scale**2, rel=0.2)
    assert variance.score(base, profile, "x").statistic == pytest.approx(abs(math.log(by_hand)), rel=1e-9)


def test_it_grows_whether_the_spread_grows_or_shrinks() -> None:
    rng = np.random.default_rng(3)
    base = numeric(rng.normal(size=5_000))
    found = [
        variance.score(base, window(base, rng.normal(0, sd, 2_000)), "x").statistic
        for sd in (0.25, 0.5, 1.0, 2.0, 4.0)
    ]
    values = [value for value in found if value is not None]
    assert values[0] > values[1] > values[2] < values[3] < values[4]
    assert values[2] < 0.15


def test_panes_merged_in_any_grouping_agree() -> None:
    rng = np.random.default_rng(4)
    base = numeric(rng.normal(1e6, 1, size=3_000))
    parts = [window(base, rng.normal(1e6, 2, size=70)) for _ in range(20)]
    whole = Profile.merge(parts)
    halves = Profile.merge([Profile.merge(parts[:7]), Profile.merge(parts[7:])])
    first, second = variance.score(base, whole, "x").statistic, variance.score(base, halves, "x").statistic
    assert first == pytest.approx(second, rel=1e-9)
    assert first == pytest.approx(math.log(4), abs=0.15)


def test_a_confidence_that_froze_is_ln_n() -> None:
    rng = np.random.default_rng(5)
    base = baseline_of(data(rng.beta(8, 2, 3_000), role=ColumnRole.CONFIDENCE, dtype="float32"))
    for n in (100, 1_000):
        frozen = window(base, np.full(n, 0.8, dtype=np.float32))
        assert variance.score(base, frozen, "x").statistic == pytest.approx(math.log(n), rel=1e-12)


@pytest.mark.parametrize("level", [1e305, 1e150, 1e12, -1e300])
def test_the_rounding_of_a_huge_constant_is_no_variance(level: float) -> None:
    base = numeric(np.random.default_rng(6).normal(size=500))
    whole = Profile.merge([window(base, np.full(n, level)) for n in (333, 77, 590)])
    assert variance.score(base, whole, "x").statistic == pytest.approx(math.log(1_000), rel=1e-12)


def test_independent_windows_scatter_as_theory_says() -> None:
    rng = np.random.default_rng(7)
    base = numeric(rng.normal(size=10_000))
    logs = [math.log(variance.ratio(base, window(base, rng.normal(size=500)), "x") or 0) for _ in range(300)]
    assert np.std(logs) == pytest.approx(math.sqrt(2 / 500), rel=0.12)


def test_what_cannot_be_scored_says_so() -> None:
    base = numeric(np.arange(100.0))
    for values in (np.zeros(0), np.arange(99.0), np.full(500, np.nan), np.full(500, np.inf)):
        profile = window(base, values)
        assert variance.score(base, profile, "x").status is ScoreStatus.INSUFFICIENT_DATA
        assert variance.ratio(base, profile, "x") is None
    constant = numeric(np.full(100, 2.0))
    rows = window(constant, np.arange(200.0))
    assert variance.score(constant, rows, "x").status is ScoreStatus.NOT_APPLICABLE
    grouped = categories(["a", "b"] * 100)
    named = window(grouped, np.array(["a"] * 300, dtype=object))
    assert variance.score(grouped, named, "x").status is ScoreStatus.NOT_APPLICABLE
