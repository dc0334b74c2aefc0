"""Distances of bins: published numbers, scipy's, and the inequalities between them."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import chebyshev, cityblock, euclidean, jensenshannon

from detectors import psi
from detectors.distances import DISTANCES, HELLINGER, JENSEN_SHANNON, L_INFINITY, TOTAL_VARIATION, Distance
from detectors.profile import Profile, profile_rows
from detectors.types import DetectorError, ScoreStatus
from tests.detectors.building import (
    baseline_of,
    categories,
    mixed_baseline,
    mixed_columns,
    numeric,
    window,
)

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BASE_E = math.sqrt(math.log(2))

every_distance = pytest.mark.parametrize("distance", DISTANCES, ids=lambda distance: distance.name)


# The counts are Evidently's test data (it asserts a Hellinger distance of .06812), the categories {a,b,c,d} against
# {a,b,c,e} and the counts [2,2,2] against [2,2,2,1] those of NannyML's tests; the rest is worked by hand.
@pytest.mark.parametrize(
    ("distance", "observed", "training", "expected"),
    [
        (HELLINGER, [16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8], 0.0681277437),
        (TOTAL_VARIATION, [16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8], 0.0681818182),
        (JENSEN_SHANNON, [16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8], 0.0817342133),
        (JENSEN_SHANNON, [1, 1, 1, 1, 0], [1, 1, 1, 0, 1], 0.5),
        (HELLINGER, [1, 1, 1, 1, 0], [1, 1, 1, 0, 1], 0.5),
        (L_INFINITY, [2, 2, 2, 0], [2, 2, 2, 1], 1 / 7),
        (L_INFINITY, [1, 0], [0, 1], 1.0),
        (TOTAL_VARIATION, [6, 4], [5, 5], 0.1),
    ],
)
def test_published_values(
    distance: Distance, observed: list[int], training: list[int], expected: float
) -> None:
    assert distance.between(np.array(observed), np.array(training)) == pytest.approx(expected, abs=1e-10)


def test_jensen_shannon_in_base_e_is_the_other_published_number() -> None:
    found = JENSEN_SHANNON.between(np.array([16, 18, 16, 14, 12, 12]), np.array([16, 16, 16, 16, 16, 8]))
    assert found * BASE_E == pytest.approx(0.0680481962, abs=1e-10)


ORACLES: dict[str, Callable[[F64, F64], float]] = {
    "jensen_shannon": lambda p, q: float(jensenshannon(p, q, base=2)),
    "hellinger": lambda p, q: float(euclidean(np.sqrt(p), np.sqrt(q))) / math.sqrt(2),
    "total_variation": lambda p, q: float(cityblock(p, q)) / 2,
    "l_infinity": lambda p, q: float(chebyshev(p, q)),
}


@every_distance
def test_scipy_agrees(distance: Distance) -> None:
    rng = np.random.default_rng(3)
    for _ in range(1_000):
        size = int(rng.integers(2, 30))
        w, b = (rng.integers(0, 100, size) * (rng.random(size) < 0.8) for _ in range(2))
        w[0], b[-1] = w[0] + 1, b[-1] + 1
        expected = ORACLES[distance.name](w / w.sum(), b / b.sum())
        # scipy takes the root of a sum that cancels: near 0 only the square is good to 1e-15.
        assert distance.between(w, b) ** 2 == pytest.approx(expected**2, rel=1e-9, abs=1e-15)


def decile_counts(training: F64, observed: F64) -> tuple[I64, I64]:
    edges = np.unique(np.quantile(training, np.arange(1, 10) / 10, method="inverted_cdf"))
    edges = np.concatenate([[-np.inf], edges[edges < training.max()], [np.inf]])
    w, b = (
        np.bincount(np.searchsorted(edges[1:-1], values), minlength=edges.size - 1)
        for values in (observed, training)
    )
    return w.astype(np.int64), b.astype(np.int64)


@every_distance
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_the_bins_are_those_of_psi(distance: Distance, decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for _ in range(10):
        training = rng.normal(size=1_500).round(decimals)
        observed = rng.normal(0.3, 1.2, size=400).round(decimals)
        baseline = numeric(training)
        found = distance.score(baseline, window(baseline, observed), "x")
        w, b = decile_counts(training, observed)
        assert found.statistic == pytest.approx(ORACLES[distance.name](w / 400, b / 1_500), abs=1e-12)
        assert found.low == found.statistic == found.high


pairs = st.integers(2, 12).flatmap(
    lambda size: st.tuples(
        *(
            st.lists(st.integers(0, 500), min_size=size, max_size=size).filter(lambda found: sum(found) > 0)
            for _ in range(2)
        )
    )
)


@given(pairs)
def test_two_count_vectors_may_be_swapped(pair: tuple[list[int], list[int]]) -> None:
    w, b = (np.array(counts) for counts in pair)
    for distance in DISTANCES:
        assert distance.between(w, b) == pytest.approx(distance.between(b, w), abs=1e-15)
    assert psi.divergence(w.astype(float), b.astype(float)) == pytest.approx(
        psi.divergence(b.astype(float), w.astype(float)), abs=1e-12
    )


def test_a_window_and_its_baseline_may_not_because_the_bins_are_the_baselines() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=1_000), rng.normal(1, 2, size=1_000)
    one, two = numeric(first), numeric(second)
    for score in (psi.score, *(distance.score for distance in DISTANCES)):
        there, back = score(one, window(one, second), "x"), score(two, window(two, first), "x")
        assert there.statistic is not None
        assert back.statistic is not None
        assert abs(there.statistic - back.statistic) > 1e-3


# Gibbs & Su (2002); the last is Lin (1991), theorem 3, for the divergence in bits.
@given(pairs)
def test_the_distances_bound_one_another(pair: tuple[list[int], list[int]]) -> None:
    w, b = (np.array(counts) for counts in pair)
    js, hellinger, tv, largest = (distance.between(w, b) for distance in DISTANCES)
    assert all(0.0 <= value <= 1.0 for value in (js, hellinger, tv, largest))
    assert largest <= tv + 1e-12
    assert hellinger**2 - 1e-12 <= tv <= math.sqrt(2) * hellinger + 1e-12
    assert js**2 <= tv + 1e-12
    smoothed = psi.divergence(w.astype(float), b.astype(float))
    held = w + b > 0
    p, q = w[held] + 0.5, b[held] + 0.5
    tv_smoothed = np.abs(p / p.sum() - q / q.sum()).sum() / 2
    assert smoothed >= 4 * tv_smoothed**2 - 1e-12


@given(pairs)
def test_equal_shares_are_0_and_disjoint_ones_1(pair: tuple[list[int], list[int]]) -> None:
    w, b = (np.array(counts) for counts in pair)
    for distance in DISTANCES:
        assert distance.between(w, 3 * w) == pytest.approx(0.0, abs=1e-7)
    for distance in (JENSEN_SHANNON, HELLINGER, TOTAL_VARIATION):
        apart = np.concatenate([w, np.zeros_like(b)]), np.concatenate([np.zeros_like(w), b])
        assert distance.between(*apart) == pytest.approx(1.0, abs=1e-12)


@every_distance
def test_a_change_of_unit_changes_nothing(distance: Distance) -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        first, second = rng.integers(-50, 50, 300).astype(float), rng.integers(-50, 60, 300).astype(float)
        one, two = numeric(first), numeric(1000 * first + 5)
        expected = distance.score(one, window(one, second), "x").statistic
        assert distance.score(two, window(two, 1000 * second + 5), "x").statistic == expected


@every_distance
def test_columns_and_windows_are_scored_together_as_alone(distance: Distance) -> None:
    baseline, columns = mixed_baseline(), mixed_columns(seed=8, rows=900)
    profiles = [
        profile_rows(baseline, {column.name: column.values[:rows] for column in columns})
        for rows in (900, 300, 10)
    ]
    stacked = distance.kernel(
        baseline, np.stack([p.counts for p in profiles]), np.array([p.rows for p in profiles])
    )
    for row, profile in enumerate(profiles):
        for position, column in enumerate(columns):
            alone = baseline_of(mixed_columns(seed=5, rows=3_000)[position])
            part = baseline.layout.slices[position]
            only = Profile(
                rows=profile.rows, counts=profile.counts[part], moments=profile.moments[[position]]
            )
            expected = distance.score(alone, only, column.name).statistic
            found = stacked.statistic[row, position]
            assert math.isnan(found) if expected is None else found == pytest.approx(expected, abs=1e-15)


@every_distance
def test_what_cannot_be_scored_says_so(distance: Distance) -> None:
    baseline = numeric(np.arange(100.0))
    few = distance.score(baseline, window(baseline, np.arange(199.0)), "x")
    assert few.status is ScoreStatus.INSUFFICIENT_DATA
    constant = numeric(np.full(100, 1.0))
    assert distance.score(constant, window(constant, np.ones(300)), "x").status is ScoreStatus.NOT_APPLICABLE
    stays = categories(["a"] * 200)
    found = distance.score(stays, window(stays, np.array(["a"] * 300, dtype=object)), "x")
    assert (found.status, found.statistic) == (ScoreStatus.VALID, 0.0)
    with pytest.raises(DetectorError, match="same bins"):
        distance.between(np.array([1, 2]), np.array([1, 2, 3]))
    with pytest.raises(DetectorError, match="each with a row"):
        distance.between(np.array([0, 0]), np.array([1, 2]))
