"""The p-value of D against published critical values and the exact law of two small samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detectors import ks
from tests.detectors.building import numeric, window


def exact_p(n: int, m: int, distance: Fraction) -> float:
    """P(D >= distance) for continuous columns: lattice paths that keep within it (Hodges 1958), in integers."""
    allowed = math.ceil(distance * n * m)
    paths = [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            if abs(i * m - j * n) >= allowed:
                paths[j] = 0
            elif i == 0:
                paths[j] = 1 if j == 0 else paths[j - 1]
            else:
                paths[j] += paths[j - 1] if j else 0
    total = math.comb(n + m, n)
    return (total - paths[m]) / total


# Rohatgi (1976), table 9: P(D > d) <= alpha < P(D >= d).
@pytest.mark.parametrize(
    ("n", "m", "critical", "alpha"),
    [
        (6, 7, Fraction(29, 42), 0.05),
        (4, 10, Fraction(7, 10), 0.05),
        (7, 10, Fraction(43, 70), 0.05),
        (9, 10, Fraction(31, 45), 0.01),
        (5, 15, Fraction(11, 15), 0.02),
    ],
)
def test_the_exact_law_has_rohatgis_critical_values(n: int, m: int, critical: Fraction, alpha: float) -> None:
    next_larger = critical + Fraction(1, math.lcm(n, m))
    assert exact_p(n, m, next_larger) <= alpha < exact_p(n, m, critical)


# scipy test_stats.py, TestKSTwoSamples: the exact mode's p-values (it ignores ties, as the law of continuous columns does).
@pytest.mark.parametrize(
    ("n", "m", "distance", "p"),
    [
        (1, 1, Fraction(1), 1.0),
        (2, 3, Fraction(1, 3), 1.0),
        (2, 3, Fraction(2, 3), 0.6),
        (16, 16, Fraction(5, 16), 0.4262934613454952),
        (21, 26, Fraction(190, 546), 0.0919245790168125),
        (100, 110, Fraction(232, 1100), 0.015739183865607353),
        (100, 110, Fraction(229, 1100), 0.017803803861026313),
    ],
)
def test_the_exact_law_has_scipys_p_values(n: int, m: int, distance: Fraction, p: float) -> None:
    assert exact_p(n, m, distance) == pytest.approx(p, rel=1e-12)


# Samples of one size n, alpha = .05: reject at D >= k/n, which has this probability.
EQUAL_SIZES = [
    (5, 5, 0.00794),
    (8, 6, 0.01865),
    (10, 7, 0.01234),
    (15, 8, 0.02625),
    (20, 9, 0.03354),
    (25, 10, 0.03561),
]


@pytest.mark.parametrize(("n", "k", "p"), EQUAL_SIZES)
def test_the_exact_law_has_the_critical_values_of_equal_samples(n: int, k: int, p: float) -> None:
    assert exact_p(n, n, Fraction(k, n)) == pytest.approx(p, abs=5e-6)
    assert exact_p(n, n, Fraction(k - 1, n)) > 0.05


# The detector scores n >= 30 against m >= 30, as a rule m >= 1000. The approximation ignores that D lies on a lattice,
# which is coarse where n and m share divisors.
@pytest.mark.parametrize(
    ("n", "m", "least", "most"),
    [
        (30, 1_000, 0.90, 1.10),
        (50, 1_000, 0.80, 1.10),
        (200, 1_000, 0.90, 1.10),
        (200, 300, 0.90, 1.10),
        (50, 300, 0.80, 1.10),
        (30, 100, 0.75, 1.10),
        (31, 97, 0.90, 1.20),
        (100, 100, 0.65, 1.10),
    ],
)
@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-6])
def test_p_values_err_from_the_exact_law_by_what_the_text_says(
    n: int, m: int, least: float, most: float, level: float
) -> None:
    lattice = math.lcm(n, m)
    distance = math.sqrt(-math.log(level / 2) / 2 * (n + m) / (n * m))
    nearest = Fraction(math.ceil(distance * lattice), lattice)
    assert least < ks.smirnov_p(float(nearest), n, m) / exact_p(n, m, nearest) < most


# scipy test_stats.py, TestKSTwoSamples: exact p-values, for the cases of at least 30 rows.
@pytest.mark.parametrize(
    ("distance", "p"), [(232 / 1100, 0.015739183865607353), (229 / 1100, 0.017803803861026313)]
)
def test_p_values_of_scipys_own_cases(distance: float, p: float) -> None:
    assert ks.smirnov_p(distance, 100, 110) == pytest.approx(p, rel=0.06)


def test_the_p_value_of_scipys_smallest_case_is_far_below_what_its_test_asserts() -> None:
    """linspace(1, 200, 10 000) against linspace(2, 100, 110): 4.2188474935755949e-15 there is what 1 - P leaves of 6e-26."""
    distance = Fraction(55_275, 110_000)
    exact = exact_p(10_000, 110, distance)
    assert exact < 1e-25
    assert ks.smirnov_p(float(distance), 10_000, 110) == pytest.approx(exact, rel=0.2)


# Smirnov (1948): P(D > c/sqrt(n_e)) -> alpha.
@pytest.mark.parametrize(
    ("alpha", "c"),
    [
        (0.10, 1.223848),
        (0.05, 1.358099),
        (0.025, 1.480207),
        (0.01, 1.627624),
        (0.005, 1.730818),
        (0.001, 1.949475),
    ],
)
def test_p_values_approach_smirnovs_table(alpha: float, c: float) -> None:
    n = 20_000_000
    assert ks.smirnov_p(c / np.sqrt(n / 2), n, n) == pytest.approx(alpha, rel=2e-3)


# scipy test_stats.py, test_some_code_paths' normals: D to the last digit, and p far below 1e-15, where an exact mode
# that computes 1 - P has nothing left. scipy asserts 3.3149311398483503e-49 for the limit law.
def test_p_values_do_not_floor_at_the_precision_of_1() -> None:
    rng = np.random.RandomState(123456)
    observed, training = rng.normal(size=10_000), rng.normal(size=10_001) * 1.5
    baseline = numeric(training, cut_cap=12_000)
    profile = window(baseline, observed)
    found = ks.score(baseline, profile, "x").statistic
    p = ks.p_value(baseline, profile, "x")
    assert found == pytest.approx(0.10597913208679133, abs=1e-14)
    assert p is not None
    assert 1e-49 < p < 3.3149311398483503e-49
    assert p == pytest.approx(float(ks_2samp(observed, training, method="asymp").pvalue), rel=1e-6)
