"""D equals scipy's on raw rows where it is exact, and is bracketed where it is not."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ks_2samp

from detectors import ks
from detectors.profile import Profile, profile_rows
from detectors.types import ScoreStatus
from tests.detectors.building import baseline_of, categories, data, numeric, window

F64 = npt.NDArray[np.float64]


def repeated(values: F64) -> F64:
    """At least 30 rows of the same distribution: D does not change, and the score becomes VALID."""
    return np.tile(values, -(-30 // len(values)))


def distance(training: F64, observed: F64) -> float:
    baseline = numeric(training, cut_cap=20_000)
    found = ks.score(baseline, window(baseline, repeated(observed)), "x")
    assert found.statistic == found.low == found.high
    assert found.statistic is not None
    return found.statistic


# scipy test_stats.py, TestKSTwoSamples.
@pytest.mark.parametrize(
    ("observed", "training", "expected"),
    [
        ([0.0], [1.0], 1.0),
        ([1.01, 2.01], [1.0, 2.0, 3.0], 1 / 3),
        ([0.99, 1.99], [1.0, 2.0, 3.0], 2 / 3),
        (np.linspace(1, 100, 100), np.linspace(1, 100, 110) + 20.1, 232 / 1100),
        (np.linspace(1, 100, 100), np.linspace(1, 100, 110) + 19.9, 229 / 1100),
        (
            [2.0] * 3 + [3.0] * 4 + [5.0] * 5 + [6.0] * 4,
            [3.0] * 3 + [4.0] * 4 + [6.0] * 5 + [7.0] * 4,
            5 / 16,
        ),
        (
            [2.0] * 3 + [3.0] * 4 + [5.0] * 10 + [6.0] * 4,
            [3.0] * 10 + [4.0] * 2 + [6.0] * 10 + [7.0] * 4,
            190 / 546,
        ),
        (np.linspace(1, 200, 10_000) - 1 / (4 * 1.1e6), np.linspace(2, 100, 110), 55_275 / 110_000),
    ],
)
def test_d_of_scipys_own_cases(observed: list[float], training: list[float], expected: float) -> None:
    assert distance(np.array(training), np.array(observed)) == pytest.approx(expected, abs=1e-12)


def test_d_and_p_of_scipys_normal_samples() -> None:
    rng = np.random.RandomState(123456)
    observed, training = rng.normal(size=3_000), rng.normal(size=3_001) * 1.5
    baseline = numeric(training, cut_cap=4_000)
    assert ks.score(baseline, window(baseline, observed), "x").statistic == pytest.approx(
        0.11292880151060758, abs=1e-12
    )


def test_p_values_agree_with_the_exact_ones() -> None:
    rng = np.random.default_rng(11)
    training, observed = rng.normal(size=1_000), rng.normal(0.15, 1, size=400)
    baseline = numeric(training)
    exact = ks_2samp(observed, training, method="exact").pvalue
    found = ks.p_value(baseline, window(baseline, observed), "x")
    assert found == pytest.approx(exact, rel=0.05)


def draw(rng: np.random.Generator, kind: str, n: int, shift: float) -> F64:
    values = rng.normal(shift, 1, n)
    match kind:
        case "rounded":
            return np.round(values, 1)
        case "integer":
            return np.round(values * 3)
        case "binary":
            return (values > 0.4).astype(np.float64)
        case "zero-inflated":
            return np.where(rng.random(n) < 0.8, 0.0, values)
        case "float32":
            return values.astype(np.float32).astype(np.float64)
        case "infinite":
            values[rng.random(n) < 0.05] = np.inf
            values[rng.random(n) < 0.05] = -np.inf
            return values
        case _:
            return values


KINDS = ["continuous", "rounded", "integer", "binary", "zero-inflated", "float32"]


@pytest.mark.parametrize("kind", [*KINDS, "infinite"])
def test_d_equals_scipys_on_raw_rows(kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind) if kind in KINDS else 99)
    for _ in range(40):
        n, m = int(rng.integers(30, 900)), int(rng.integers(100, 1_000))
        observed = draw(rng, kind, n, float(rng.normal(0, 0.5)))
        training = draw(rng, "continuous" if kind == "infinite" else kind, m, 0.0)
        baseline = numeric(training, dtype="float32" if kind == "float32" else "float64")
        expected = ks_2samp(observed, training, method="asymp").statistic
        found = ks.score(baseline, window(baseline, observed), "x")
        assert found.statistic == pytest.approx(expected, abs=1e-12)
        assert found.low == found.high


@pytest.mark.parametrize("cap", [23, 64, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bracket_holds_scipys_d_within_1_over_k(kind: str, cap: int) -> None:
    rng = np.random.default_rng(cap)
    for _ in range(15):
        n, m = int(rng.integers(30, 900)), int(rng.integers(300, 2_000))
        observed, training = draw(rng, kind, n, float(rng.normal(0, 0.5))), draw(rng, kind, m, 0.0)
        baseline = numeric(training, cut_cap=cap)
        found = ks.score(baseline, window(baseline, observed), "x")
        expected = ks_2samp(observed, training, method="asymp").statistic
        assert found.low is not None
        assert found.high is not None
        assert found.low - 1e-12 <= expected <= found.high + 1e-12
        assert found.high - found.low < 1 / ((cap - 3) // 20 * 20)


def test_infinities_among_the_training_values_widen_the_bracket_that_still_holds() -> None:
    rng = np.random.default_rng(8)
    for _ in range(40):
        training, observed = draw(rng, "infinite", 500, 0.0), draw(rng, "infinite", 200, 0.3)
        baseline = numeric(training)
        found = ks.score(baseline, window(baseline, observed), "x")
        expected = ks_2samp(observed, training, method="asymp").statistic
        assert found.low is not None
        assert found.high is not None
        assert found.low - 1e-12 <= expected <= found.high + 1e-12


samples = hnp.arrays(np.float64, st.integers(30, 80), elements=st.integers(-50, 50).map(float))


@settings(max_examples=60)
@given(samples, samples)
def test_a_change_of_unit_changes_nothing(training: F64, observed: F64) -> None:
    assert distance(training, observed) == distance(1000 * training + 5, 1000 * observed + 5)


@settings(max_examples=60)
@given(samples, samples)
def test_the_order_of_rows_changes_nothing(training: F64, observed: F64) -> None:
    assert distance(training, observed) == distance(np.flip(training), np.flip(observed))


def test_columns_and_windows_are_scored_together_as_alone() -> None:
    rng = np.random.default_rng(21)
    columns = [rng.normal(size=2_000).round(int(d)) for d in rng.integers(0, 6, size=60)]
    for values in columns[::7]:
        values[rng.random(2_000) < 0.1] = np.nan
    baseline = baseline_of(*(data(values, name=f"c{i}") for i, values in enumerate(columns)))
    profiles = []
    for _ in range(3):
        rows = {
            f"c{i}": np.where(rng.random(500) < 0.02 * (i % 3), np.nan, rng.normal(0.1, 1, 500))
            for i in range(60)
        }
        profiles.append(profile_rows(baseline, rows))
    stacked = ks.kernel(
        baseline, np.stack([p.counts for p in profiles]), np.array([p.rows for p in profiles])
    )
    for row, profile in enumerate(profiles):
        for position, column in enumerate(baseline.columns):
            alone = baseline_of(data(columns[position]))
            part = baseline.layout.slices[position]
            only = Profile(
                rows=profile.rows, counts=profile.counts[part], moments=profile.moments[[position]]
            )
            expected = ks.score(alone, only, "x").statistic
            assert stacked.statistic[row, position] == expected, column.name


def test_products_beyond_63_bits_stay_exact() -> None:
    baseline = numeric(np.arange(100.0))
    counts = np.zeros(baseline.layout.length, dtype=np.int64)
    counts[1:201:2] = 2**56
    rows = 100 * 2**56
    huge = Profile(rows=rows, counts=counts, moments=np.zeros((1, 3)))
    assert ks.score(baseline, huge, "x").statistic == 0.0
    counts[1] += 10 * 2**56
    shifted = Profile(rows=rows + 10 * 2**56, counts=counts, moments=np.zeros((1, 3)))
    assert ks.score(baseline, shifted, "x").statistic == pytest.approx(11 / 110 - 1 / 100, abs=1e-15)


def test_what_cannot_be_scored_says_so() -> None:
    baseline = numeric(np.arange(100.0))
    for values in (np.zeros(0), np.zeros(29), np.full(1_000, np.nan)):
        found = ks.score(baseline, window(baseline, values), "x")
        assert (found.status, found.statistic) == (ScoreStatus.INSUFFICIENT_DATA, None)
        assert ks.p_value(baseline, window(baseline, values), "x") is None
    grouped = categories(["a"] * 100)
    found = ks.score(grouped, window(grouped, np.array(["a"] * 50, dtype=object)), "x")
    assert found.status is ScoreStatus.NOT_APPLICABLE
    absent = numeric(np.full(100, np.nan))
    assert ks.score(absent, window(absent, np.arange(50.0)), "x").status is ScoreStatus.NOT_APPLICABLE


def test_a_constant_column_that_moves_has_d_1() -> None:
    assert distance(np.full(100, 3.0), np.full(100, 3.0)) == 0.0
    assert distance(np.full(100, 3.0), np.full(100, 3.0001)) == 1.0


def test_float32_production_of_a_float32_model_does_not_drift_from_float64_training() -> None:
    baseline = numeric(np.full(100, 0.1), dtype="float32")
    same = window(baseline, np.full(100, 0.1, dtype=np.float32))
    also = window(baseline, np.full(100, 0.1))
    assert ks.score(baseline, same, "x").statistic == ks.score(baseline, also, "x").statistic == 0.0
