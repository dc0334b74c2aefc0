"""PSI of published numbers, its bins, its bias and its bound on D."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from detectors import psi
from detectors.types import ScoreStatus
from tests.detectors.building import categories, numeric, window

F64 = npt.NDArray[np.float64]


# Shares worked by hand from the definition; the third pair is Evidently's test data.
@pytest.mark.parametrize(
    ("observed", "training", "expected"),
    [
        ([0.6, 0.4], [0.5, 0.5], 0.0405465108),
        ([0.35, 0.25, 0.4], [0.4, 0.3, 0.3], 0.0445608547),
        ([16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8], 0.0372183816),
    ],
)
def test_published_values(observed: list[float], training: list[float], expected: float) -> None:
    assert psi.divergence(np.array(observed), np.array(training), smoothing=0.0) == pytest.approx(
        expected, abs=1e-10
    )


# Yurdakul & Naranjo (2020): (1/n + 1/m)·χ²(B−1) quantile.
@pytest.mark.parametrize(
    ("n", "m", "bins", "level", "critical"),
    [
        (1000, 1000, 10, 0.05, 0.0338380),
        (500, 500, 10, 0.05, 0.0676759),
        (100, 100, 10, 0.05, 0.3383796),
        (1000, 1000, 20, 0.05, 0.0602870),
        (1440, 10_000, 10, 0.05, 0.0134410),
        (1440, 10_000, 10, 0.001, 0.022147),
    ],
)
def test_p_values_without_tolerance_are_yurdakuls(
    n: int, m: int, bins: int, level: float, critical: float
) -> None:
    assert psi.tolerant_p(critical, n, m, bins, tolerance=0.0) == pytest.approx(level, rel=1e-3)


@pytest.mark.parametrize(("shift", "expected"), [(0.1, 0.0096), (0.25, 0.0598), (0.5, 0.2377), (1.0, 0.9261)])
def test_normal_shifts_on_deciles(shift: float, expected: float) -> None:
    grid = (np.arange(400_000) + 0.5) / 400_000
    baseline = numeric(norm.ppf(grid))
    found = psi.score(baseline, window(baseline, norm.ppf(grid) + shift), "x")
    assert found.statistic == pytest.approx(expected, abs=2e-4)


def by_hand(training: F64, observed: F64) -> float:
    edges = np.unique(np.quantile(training, np.arange(1, 10) / 10, method="inverted_cdf"))
    edges = edges[edges < training.max()]
    bins = np.concatenate([[-np.inf], edges, [np.inf]])
    counts = [
        np.array([((v > lo) & (v <= hi)).sum() for lo, hi in pairwise(bins)]) for v in (observed, training)
    ]
    return psi.divergence(counts[0].astype(np.float64), counts[1].astype(np.float64))


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_bins_are_right_closed_deciles_of_the_baseline(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for _ in range(10):
        training = rng.normal(size=1_500).round(decimals)
        observed = rng.normal(0.3, 1.2, size=400).round(decimals)
        baseline = numeric(training)
        found = psi.score(baseline, window(baseline, observed), "x")
        assert found.statistic == pytest.approx(by_hand(training, observed), abs=1e-12)


counts_of = st.lists(st.integers(0, 500), min_size=2, max_size=12).filter(lambda found: sum(found) > 0)


@given(st.data())
def test_psi_is_at_least_four_times_d_squared_on_the_same_cells(data: st.DataObject) -> None:
    w = np.array(data.draw(counts_of), dtype=np.float64)
    b = np.array(
        data.draw(
            st.lists(st.integers(0, 500), min_size=len(w), max_size=len(w)).filter(
                lambda found: sum(found) > 0
            )
        ),
        dtype=np.float64,
    )
    held = w + b > 0
    p, q = (w[held] + 0.5), (b[held] + 0.5)
    distance = np.abs(np.cumsum(p / p.sum() - q / q.sum())).max()
    assert psi.divergence(w, b) >= 4 * distance**2 - 1e-12


def test_the_bias_without_drift_is_the_one_of_theory() -> None:
    rng = np.random.default_rng(17)
    baseline = numeric(rng.normal(size=10_000))
    found = [psi.score(baseline, window(baseline, rng.normal(size=400)), "x").statistic for _ in range(300)]
    expected = 9 * (1 / 400 + 1 / 10_000)
    assert np.mean(np.array(found, dtype=np.float64)) == pytest.approx(expected, rel=0.1)
    critical = chi2.ppf(0.95, 9) * (1 / 400 + 1 / 10_000)
    assert 0.01 < np.mean(np.array(found, dtype=np.float64) > critical) < 0.1


def test_an_empty_bin_stays_finite_and_one_unseen_row_stays_small() -> None:
    baseline = categories(["a"] * 6_000 + ["b"] * 4_000)
    clean = window(baseline, np.array(["a"] * 600 + ["b"] * 400, dtype=object))
    one_new = window(baseline, np.array(["a"] * 600 + ["b"] * 399 + ["new"], dtype=object))
    assert psi.score(baseline, clean, "x").statistic == pytest.approx(0.0, abs=1e-6)
    found = psi.score(baseline, one_new, "x").statistic
    assert found is not None
    assert 0 < found < 0.01


def test_an_outlier_moves_no_bin() -> None:
    rng = np.random.default_rng(2)
    training, observed = rng.normal(size=5_000), rng.normal(1, 1, size=1_000)
    baseline = numeric(training)
    spoilt = np.append(observed[:-1], 1e9)
    first = psi.score(baseline, window(baseline, observed), "x").statistic
    second = psi.score(baseline, window(baseline, spoilt), "x").statistic
    assert first is not None
    assert first > 0.5
    assert second == pytest.approx(first, rel=0.02)


def test_what_cannot_be_scored_says_so() -> None:
    constant = numeric(np.full(100, 1.0))
    assert psi.score(constant, window(constant, np.ones(300)), "x").status is ScoreStatus.NOT_APPLICABLE
    baseline = numeric(np.arange(100.0))
    few = window(baseline, np.arange(199.0))
    assert psi.score(baseline, few, "x").status is ScoreStatus.INSUFFICIENT_DATA
    assert psi.p_value(baseline, few, "x") is None
    nothing = window(baseline, np.full(500, np.nan))
    assert psi.score(baseline, nothing, "x").status is ScoreStatus.INSUFFICIENT_DATA


def test_a_single_category_that_stays_is_valid_and_zero() -> None:
    baseline = categories(["a"] * 200)
    profile = window(baseline, np.array(["a"] * 300, dtype=object))
    found = psi.score(baseline, profile, "x")
    assert (found.status, found.statistic) == (ScoreStatus.VALID, 0.0)
    assert psi.p_value(baseline, profile, "x") == 1.0
