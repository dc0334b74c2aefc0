"""Homogeneity of categories agrees with scipy's contingency tables."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from detectors import categorical
from detectors.types import ScoreStatus
from tests.detectors.building import categories, numeric, window


def test_the_two_sample_numbers_of_the_chisquare_example() -> None:
    # The counts of scipy.stats.chisquare's documentation, as two samples.
    found = categorical.homogeneity(np.array([16, 18, 16, 14, 12, 12]), np.array([16, 16, 16, 16, 16, 8]))
    assert found.chi_square == pytest.approx(1.6224089636, abs=1e-9)
    assert found.g == pytest.approx(1.6299560650, abs=1e-9)
    assert found.p_value == pytest.approx(0.8985262394, abs=1e-9)


def test_unpooled_tables_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        size = int(rng.integers(2, 12))
        w, b = rng.integers(30, 400, size), rng.integers(30, 400, size)
        found = categorical.homogeneity(w, b)
        chi = chi2_contingency(np.array([w, b]), correction=False)
        g = chi2_contingency(np.array([w, b]), correction=False, lambda_="log-likelihood")
        assert found.chi_square == pytest.approx(chi.statistic, rel=1e-9)
        assert found.g == pytest.approx(g.statistic, rel=1e-9)
        assert found.p_value == pytest.approx(chi.pvalue, rel=1e-9, abs=1e-300)
        assert found.cramers_v == pytest.approx(np.sqrt(chi.statistic / (w.sum() + b.sum())))
        assert found.bins == size


@pytest.mark.parametrize(
    ("w", "b", "pooled_w", "pooled_b"),
    [
        # 6 of 66 are expected and stay; 4 of 44 make too small a pool, which joins them.
        ([90, 6, 3, 1], [900, 60, 30, 10], [90, 10], [900, 100]),
        ([50, 49, 1, 0], [500, 480, 10, 10], [50, 50], [500, 500]),
        ([50, 50, 0], [500, 500, 0], [50, 50], [500, 500]),
    ],
)
def test_rare_categories_are_pooled(
    w: list[int], b: list[int], pooled_w: list[int], pooled_b: list[int]
) -> None:
    found = categorical.homogeneity(np.array(w), np.array(b))
    expected = chi2_contingency(np.array([pooled_w, pooled_b]), correction=False)
    assert found.bins == len(pooled_w)
    assert found.chi_square == pytest.approx(expected.statistic, abs=1e-9)


def test_one_unseen_category_in_many_rows_is_no_certainty() -> None:
    baseline = categories(["a", "b"] * 5_000)
    profile = window(baseline, np.array(["a", "b"] * 500 + ["new"], dtype=object))
    p = categorical.p_value(baseline, profile, "x")
    assert p is not None
    assert p > 0.5


def test_the_size_of_the_test_is_its_level() -> None:
    rng = np.random.default_rng(6)
    names = np.array(list("abcdefgh"), dtype=object)
    weights = np.array([0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.015, 0.005])
    baseline = categories(rng.choice(names, 5_000, p=weights).tolist())
    p = [
        categorical.p_value(baseline, window(baseline, rng.choice(names, 300, p=weights)), "x")
        for _ in range(300)
    ]
    # One fixed baseline: its own error shifts the level a little.
    assert 0.01 < np.mean([found is not None and found < 0.05 for found in p]) < 0.12


def test_the_statistic_does_not_depend_on_the_sample_sizes() -> None:
    baseline = categories(["a"] * 500 + ["b"] * 500)
    small, large = (
        categorical.score(
            baseline, window(baseline, np.array(["a"] * 7 * n + ["b"] * 3 * n, dtype=object)), "x"
        )
        for n in (10, 1_000)
    )
    assert small.statistic == pytest.approx(0.4, abs=0.02)
    assert large.statistic == pytest.approx(0.4, abs=0.04)


def test_what_cannot_be_scored_says_so() -> None:
    baseline = categories(["a", "b"] * 50)
    nothing = window(baseline, np.full(100, None, dtype=object))
    assert categorical.score(baseline, nothing, "x").status is ScoreStatus.INSUFFICIENT_DATA
    assert categorical.p_value(baseline, nothing, "x") is None
    number = numeric(np.arange(100.0))
    found = categorical.score(number, window(number, np.arange(50.0)), "x")
    assert found.status is ScoreStatus.NOT_APPLICABLE
