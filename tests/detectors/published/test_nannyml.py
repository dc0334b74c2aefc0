"""Our numbers beside those that NannyML prints, on the data sets it ships (read as files; the package is never imported).

The numbers are those of NannyML's documentation, `docs/example_notebooks`, and of its `tests/drift`. Where definitions
differ, this says how, and compares what is the same:

- KS of tables printed before its version 0.8 is scipy's on the raw rows, as ours. Later ones print an estimate on
  m // 500 quantile bins of the reference: it lies below D, by less than one bin.
- Jensen-Shannon of a continuous column is over equal-width bins chosen by Doane's rule, ours over the baseline's
  deciles: the formula is compared on Doane's bins. Categories are binned alike.
- chi2 is the statistic of the contingency table, ours (Cohen's w) that divided by n_e. Of a 2 x 2 table it prints the one
  with Yates' continuity correction, which ours leaves out.
- Wasserstein is in the column's unit, ours in deviations of the baseline.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from detectors import categorical, ks, wasserstein
from detectors.distances import HELLINGER, JENSEN_SHANNON, L_INFINITY
from detectors.profile import Baseline
from detectors.types import ColumnType, Score
from tests.components import require_published
from tests.detectors.building import baseline_of, data, numeric, window

Array = npt.NDArray[Any]


@cache
def _table(name: str) -> pd.DataFrame:
    path = require_published("nannyml") / "datasets" / "data" / f"{name}.csv"
    return pd.read_csv(path)


def reference(table: str, column: str) -> Array:
    return _table(f"{table}_reference")[column].to_numpy()


def chunks(table: str, column: str, size: int, part: str = "analysis") -> list[Array]:
    values = _table(f"{table}_{part}")[column].to_numpy()
    return np.split(values, range(size, len(values), size))


def grouped(values: Array) -> Baseline:
    return baseline_of(data(values.astype(object), type=ColumnType.CATEGORICAL, dtype="string"))


def labels(values: Array) -> Array:
    return values.astype(object)


def chi_square(baseline: Baseline, values: Array) -> float:
    score = categorical.score(baseline, window(baseline, labels(values)), "x")
    assert score.statistic is not None
    n, m = score.rows, score.baseline_rows
    return score.statistic**2 * n * m / (n + m)


def ends(score: Score) -> tuple[float, float]:
    assert score.low is not None
    assert score.high is not None
    return score.low, score.high


# "Tutorial - Drift - Model Outputs - Binary Classification": y_pred_proba, D to 1e-5, p to 1e-3.
PROBABILITY = [
    (0.02530, 0.006),
    (0.01230, 0.494),
    (0.01642, 0.170),
    (0.01058, 0.685),
    (0.01408, 0.325),
    (0.13070, 0.0),
    (0.12730, 0.0),
    (0.13110, 0.0),
    (0.11970, 0.0),
    (0.13752, 0.0),
]


def test_d_and_p_of_its_predicted_probabilities() -> None:
    baseline = numeric(reference("synthetic_sample", "y_pred_proba"))
    for values, (distance, p) in zip(
        chunks("synthetic_sample", "y_pred_proba", 5_000), PROBABILITY, strict=True
    ):
        profile = window(baseline, values)
        score = ks.score(baseline, profile, "x")
        assert score.statistic == pytest.approx(distance, abs=1e-9)  # multiples of 1/50 000, printed in full
        assert score.low == score.high
        assert ks.p_value(baseline, profile, "x") == pytest.approx(p, abs=5.1e-4)


# "Tutorial - Drift - Model Outputs - Regression": y_pred, D to 1e-6.
PRICE = [
    (0.009183, 0.743),
    (0.016350, 0.107),
    (0.010800, 0.544),
    (0.010183, 0.620),
    (0.010650, 0.562),
    (0.202883, 0.0),
    (0.207350, 0.0),
    (0.204683, 0.0),
    (0.207133, 0.0),
    (0.215883, 0.0),
]


def test_d_of_its_predicted_prices_exactly_with_all_cuts_and_bracketed_with_the_usual_ones() -> None:
    training = reference("regression_synthetic", "y_pred").astype(np.float64)
    exact, usual = numeric(training, cut_cap=20_000), numeric(training)
    for values, (distance, p) in zip(chunks("regression_synthetic", "y_pred", 6_000), PRICE, strict=True):
        profile = window(exact, values.astype(np.float64))
        score = ks.score(exact, profile, "x")
        assert score.low == score.high
        assert score.statistic == pytest.approx(distance, abs=5.1e-7)
        assert ks.p_value(exact, profile, "x") == pytest.approx(p, abs=5.1e-4)
        low, high = ends(ks.score(usual, window(usual, values.astype(np.float64)), "x"))
        assert low - 5.1e-7 <= distance <= high + 5.1e-7
        assert high - low < 1 / 1_000


# "Tutorial - Drift - Univariate": debt_to_income_ratio, the estimate of D and the Jensen-Shannon distance.
RATIO = [
    (0.01576, 0.0316611),
    (0.01268, 0.0300113),
    (0.01734, 0.0311286),
    (0.01280, 0.0294644),
    (0.01918, 0.0308095),
    (0.00824, 0.0286811),
    (0.01058, 0.0436276),
    (0.01002, 0.0292533),
    (0.01068, 0.0306276),
    (0.00680, 0.0283303),
]


def test_its_estimate_of_d_lies_below_d_by_less_than_one_of_its_bins() -> None:
    training = reference("synthetic_car_loan", "debt_to_income_ratio")
    baseline = numeric(training)
    bins = len(training) // 500
    for values, (estimate, _) in zip(
        chunks("synthetic_car_loan", "debt_to_income_ratio", 5_000), RATIO, strict=True
    ):
        low, high = ends(ks.score(baseline, window(baseline, values), "x"))
        assert high < low + 1e-3
        assert high >= estimate
        assert low < estimate + 1 / bins


def test_jensen_shannon_on_its_bins() -> None:
    training = reference("synthetic_car_loan", "debt_to_income_ratio")
    edges = np.histogram_bin_edges(training, bins="doane")
    before = np.append(np.histogram(training, edges)[0], 0)
    for values, (_, distance) in zip(
        chunks("synthetic_car_loan", "debt_to_income_ratio", 5_000), RATIO, strict=True
    ):
        counted = np.histogram(values, edges)[0]
        now = np.append(counted, values.size - counted.sum())
        assert JENSEN_SHANNON.between(now, before) == pytest.approx(distance, abs=5.1e-8)


# "Tutorial - Drift - Model Inputs - Univariate Statistical": salary_range, chi2 to 1e-6 and p to 1e-3.
SALARY = {
    "reference": [
        (2.898781, 0.407),
        (3.144391, 0.370),
        (2.451881, 0.484),
        (4.062620, 0.255),
        (2.413988, 0.491),
        (3.796063, 0.284),
        (3.228836, 0.358),
        (1.393300, 0.707),
        (0.304785, 0.959),
        (2.987581, 0.394),
    ],
    "analysis": [
        (1.033683, 0.793),
        (5.762412, 0.124),
        (2.653961, 0.448),
        (0.070843, 0.995),
        (1.005422, 0.800),
        (455.622094, 0.0),
        (428.633384, 0.0),
        (453.247444, 0.0),
        (438.259970, 0.0),
        (474.891775, 0.0),
    ],
}


@pytest.mark.parametrize("part", list(SALARY))
def test_chi_square_and_p_of_its_salary_ranges(part: str) -> None:
    baseline = grouped(reference("synthetic_sample", "salary_range"))
    found = chunks("synthetic_sample", "salary_range", 5_000, part)
    for values, (expected, p) in zip(found, SALARY[part], strict=True):
        assert chi_square(baseline, values) == pytest.approx(expected, abs=5.1e-7)
        assert categorical.p_value(baseline, window(baseline, labels(values)), "x") == pytest.approx(
            p, abs=5.1e-4
        )


# "Tutorial - Drift - Model Outputs - Binary Classification": y_pred, chi2 of a 2 x 2 table.
DECISION = [
    7.442383,
    1.800169,
    1.728529,
    1.589612,
    0.060896,
    12.512107,
    11.393384,
    9.813532,
    3.786524,
    27.990040,
]


def test_chi_square_of_two_categories_is_theirs_without_the_continuity_correction() -> None:
    training = reference("synthetic_sample", "y_pred")
    baseline = grouped(training)
    for values, corrected in zip(chunks("synthetic_sample", "y_pred", 5_000), DECISION, strict=True):
        total = training.size + values.size
        ones = training.sum() + values.sum()
        # Yates takes total/2 from |ad − bc|: the root of chi2 falls by this much.
        step = total / 2 * np.sqrt(total / training.size / values.size / ones / (total - ones))
        found = (np.sqrt(chi_square(baseline, values)) - step) ** 2
        assert found == pytest.approx(corrected, abs=5.1e-7)


# tests/drift/test_univariate_drift_methods.py, rounded there to two digits, with its seeds.
def test_categories_of_its_own_tests() -> None:
    legacy = np.random.RandomState(1)
    training = legacy.choice(["a", "b", "c", "d"], 10_000)
    observed = legacy.choice(["a", "b", "c", "e"], 1_000)
    baseline = grouped(training)
    profile = window(baseline, labels(observed))
    for distance in (JENSEN_SHANNON, HELLINGER):
        assert distance.score(baseline, profile, "x").statistic == pytest.approx(0.5, abs=5e-3)


@pytest.mark.parametrize(
    ("now", "expected"), [("aabbccd", 0.14), ("aabbcc", 0.0), ("bbbbb", 0.67)], ids=["new", "same", "total"]
)
def test_l_infinity_of_its_own_tests(now: str, expected: float) -> None:
    baseline = grouped(np.array(list("aabbcc") * 20))
    found = L_INFINITY.score(baseline, window(baseline, np.array(list(now) * 100, dtype=object)), "x")
    assert found.statistic == pytest.approx(expected, abs=5e-3)


def test_few_distinct_numbers_of_its_own_tests() -> None:
    """It treats six distinct numbers as categories; so must whoever compares."""
    legacy = np.random.RandomState(1)
    training = legacy.choice(np.linspace(0, 2, 6), 10_000)
    observed = legacy.choice(np.linspace(0, 2, 3), 1_000)
    baseline = grouped(training.astype(str))
    profile = window(baseline, observed.astype(str).astype(object))
    assert JENSEN_SHANNON.score(baseline, profile, "x").statistic == pytest.approx(0.73, abs=5e-3)
    assert HELLINGER.score(baseline, profile, "x").statistic == pytest.approx(0.72, abs=5e-3)


def test_wasserstein_of_its_own_tests() -> None:
    legacy = np.random.RandomState(1)
    training, observed = legacy.normal(0, 1, 10_000), legacy.normal(1, 1, 1_000)
    deviation = training.std(ddof=1)
    # With a cell between any two training values only rows beyond their range are not exact, and there is one.
    baseline = numeric(np.append(training, observed.max()), cut_cap=20_000)
    low, high = ends(wasserstein.score(baseline, window(baseline, observed), "x"))
    assert low * deviation == pytest.approx(1.01, abs=5.5e-3)
    assert high * deviation == pytest.approx(1.01, abs=5.5e-3)
