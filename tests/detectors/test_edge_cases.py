"""What breaks naive drift code, each with its defined result, from the counts to the verdict."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from detectors import categorical, ks, mean_shift, psi, quality, registry, variance, wasserstein
from detectors.decision import (
    PRESET_A,
    EventIndex,
    Evidence,
    Verdict,
    Windows,
    decide,
    effect_holds,
    effects,
    resolve_thresholds,
)
from detectors.distances import DISTANCES
from detectors.profile import Baseline, Profile, build_column, profile_rows
from detectors.types import ColumnRole, ColumnState, ColumnType, DetectorError, Score, ScoreStatus
from tests.detectors.building import baseline_of, categories, data, numeric, window

Array = npt.NDArray[Any]
DAY = 86_400
RNG = np.random.default_rng(31)
TRAINING = RNG.normal(20, 2, size=5_000)
SAME = RNG.normal(20, 2, size=10_000)


def scores(baseline: Baseline, profile: Profile) -> dict[str, Score]:
    return {name: found.score(baseline, profile, "x") for name, found in registry.DETECTORS.items()}


def windows_of(baseline: Baseline, profile: Profile) -> Windows:
    counts, rows = profile.counts[np.newaxis], np.array([profile.rows])
    return Windows(
        seconds=np.array([DAY]),
        counts=counts,
        rows=rows,
        ks=ks.kernel(baseline, counts, rows).statistic,
        psi=psi.kernel(baseline, counts, rows).statistic,
    )


def judged(baseline: Baseline, profile: Profile, evidence: float = 0.0) -> tuple[Verdict, bool | None]:
    """The verdict on a window of a day, with `evidence` in every bet, and whether its effect holds."""
    index = EventIndex.of(baseline)
    found = effects(index, windows_of(baseline, profile), resolve_thresholds([DAY], ["x"], PRESET_A))
    start = Evidence.zeros(index)
    state = Evidence(r=np.full_like(start.r, evidence), starts=start.starts, since=start.since)
    return decide(index, found, state, false_pages_per_year=0.1)[0], effect_holds(found)[0]


def statistic(found: Score) -> float:
    assert found.statistic is not None
    return found.statistic


def test_an_all_null_window_is_no_value_statistic_but_a_missing_rate_that_pages() -> None:
    baseline = numeric(TRAINING)
    profile = window(baseline, np.full(1_000, np.nan))
    found = scores(baseline, profile)
    valid = {name: score.statistic for name, score in found.items() if score.status is ScoreStatus.VALID}
    assert valid == {"missing_rate": 1.0, "non_finite_rate": 0.0, "out_of_range_rate": 0.0}
    events = EventIndex.of(baseline).count(profile)
    assert events.totals[:13].tolist() == [0] * 13
    assert (events.hits[13], events.totals[13]) == (1_000, 1_000)
    assert judged(baseline, profile)[1] is True
    verdict, _ = judged(baseline, profile, evidence=2.0)
    assert verdict.state is ColumnState.DRIFT
    assert verdict.effect is not None
    assert verdict.effect.detector == "missing"


def test_an_all_null_window_of_categories_too() -> None:
    baseline = categories(["a", "b"] * 500)
    profile = window(baseline, np.full(1_000, None, dtype=object))
    for score in (psi.score, categorical.score, *(distance.score for distance in DISTANCES)):
        assert score(baseline, profile, "x").status is ScoreStatus.INSUFFICIENT_DATA
    assert quality.UNSEEN.score(baseline, profile, "x").statistic == 0.0
    assert judged(baseline, profile, evidence=2.0)[0].state is ColumnState.DRIFT


@pytest.mark.parametrize("values", [np.zeros(0), np.array([20.0]), np.full(29, 20.0)], ids=["0", "1", "29"])
def test_too_few_rows_are_insufficient_and_never_stable(values: Array) -> None:
    baseline = numeric(TRAINING)
    profile = window(baseline, values)
    found = scores(baseline, profile)
    assert all(
        score.status is not ScoreStatus.VALID for name, score in found.items() if not name.endswith("_rate")
    )
    rates = {name: score.statistic for name, score in found.items() if score.status is ScoreStatus.VALID}
    expected = {"missing_rate": 0.0, "non_finite_rate": 0.0, "out_of_range_rate": 0.0}
    assert rates == (expected if values.size else {})
    for evidence in (0.0, 5.0):
        verdict, holds = judged(baseline, profile, evidence)
        assert (verdict.state, holds) == (ColumnState.INSUFFICIENT_DATA, None)


def test_a_constant_column_that_stays_divides_by_nothing() -> None:
    baseline = numeric(np.full(1_000, 3.5))
    profile = window(baseline, np.full(500, 3.5))
    found = scores(baseline, profile)
    assert (found["ks"].statistic, found["ks"].low, found["ks"].high) == (0.0, 0.0, 0.0)
    inapplicable = {name for name, score in found.items() if score.status is ScoreStatus.NOT_APPLICABLE}
    assert inapplicable >= {"psi", "mean_shift", "wasserstein", "variance_ratio", "jensen_shannon"}
    verdict, holds = judged(baseline, profile)
    assert (verdict.state, holds) == (ColumnState.STABLE, False)


def test_a_constant_column_that_gets_a_new_constant_has_d_1() -> None:
    baseline = numeric(np.full(1_000, 3.5))
    profile = window(baseline, np.full(500, math.nextafter(3.5, 4)))
    assert ks.score(baseline, profile, "x").statistic == 1.0
    assert quality.OUT_OF_RANGE.score(baseline, profile, "x").statistic == 1.0
    verdict, holds = judged(baseline, profile, evidence=2.0)
    assert (verdict.state, holds) == (ColumnState.DRIFT, True)


def test_a_column_that_freezes_within_its_range_is_drift_by_every_statistic_of_shape() -> None:
    baseline = numeric(TRAINING)
    profile = window(baseline, np.full(1_000, np.median(TRAINING)))
    found = scores(baseline, profile)
    assert statistic(found["ks"]) == pytest.approx(0.5, abs=1e-3)
    assert statistic(found["total_variation"]) == pytest.approx(0.9, abs=1e-3)
    assert statistic(found["variance_ratio"]) == pytest.approx(math.log(1_000), rel=1e-9)
    assert 3 < statistic(found["psi"]) < 10
    # E|X − median| of a normal column is sqrt(2/π) deviations.
    assert statistic(found["wasserstein"]) == pytest.approx(math.sqrt(2 / math.pi), rel=0.05)
    assert found["out_of_range_rate"].statistic == 0.0
    assert judged(baseline, profile, evidence=2.0)[0].state is ColumnState.DRIFT


def test_one_nan_among_10_000_rows_is_one_row_less() -> None:
    baseline = numeric(TRAINING)
    spoilt = SAME.copy()
    spoilt[123] = np.nan
    without = scores(baseline, window(baseline, np.delete(SAME, 123)))
    found = scores(baseline, window(baseline, spoilt))
    for name in ("ks", "psi", "wasserstein", "variance_ratio", "jensen_shannon", "l_infinity"):
        assert found[name] == without[name]
        assert found[name].rows == 9_999
    assert found["missing_rate"].statistic == 1e-4
    assert judged(baseline, window(baseline, spoilt))[0].state is ColumnState.STABLE


@pytest.mark.parametrize("level", [1e4, -1e4, 1e308, np.inf, -np.inf])
def test_everything_outside_the_training_range_is_counted_not_dropped(level: float) -> None:
    baseline = numeric(TRAINING)
    profile = window(baseline, np.full(1_000, level))
    found = scores(baseline, profile)
    assert (found["ks"].statistic, found["ks"].high) == (1.0, 1.0)
    assert found["out_of_range_rate"].statistic == 1.0
    assert found["non_finite_rate"].statistic == float(np.isinf(level))
    assert 3 < statistic(found["psi"]) < 10
    assert statistic(found["total_variation"]) == pytest.approx(0.9, abs=1e-3)
    # All rows count as at the end of the range; what lies beyond is not certified.
    end = TRAINING.max() if level > 0 else TRAINING.min()
    farthest = abs(end - TRAINING.mean()) / TRAINING.std(ddof=1)
    assert statistic(found["wasserstein"]) == pytest.approx(farthest, rel=0.02)
    assert found["wasserstein"].high == np.inf
    assert judged(baseline, profile, evidence=2.0)[0].state is ColumnState.DRIFT


def test_an_outlier_hides_no_shift_of_two_deviations() -> None:
    baseline = numeric(TRAINING)
    shifted = RNG.normal(24, 2, size=1_000)
    spoilt = np.append(shifted[:-1], 1e9)
    plain, found = scores(baseline, window(baseline, shifted)), scores(baseline, window(baseline, spoilt))
    assert statistic(plain["ks"]) == pytest.approx(0.6827, abs=0.04)
    for name in ("ks", "total_variation", "l_infinity"):
        assert abs(statistic(found[name]) - statistic(plain[name])) <= 0.001 + 1e-12
    for name in ("psi", "jensen_shannon", "hellinger", "wasserstein"):
        assert found[name].statistic == pytest.approx(plain[name].statistic, rel=0.01)
    assert found["out_of_range_rate"].statistic == pytest.approx(
        statistic(plain["out_of_range_rate"]), abs=0.0011
    )
    assert judged(baseline, window(baseline, spoilt), evidence=2.0)[0].state is ColumnState.DRIFT


def test_ten_thousand_categories_are_fifty_and_the_rest() -> None:
    names = np.array([f"c{i}" for i in range(10_000)], dtype=object)
    training = np.concatenate([names, np.repeat(names[:100], 50)])
    baseline = categories(training.tolist())
    assert baseline.layout.length == 50 + 3
    part = baseline.layout.slices[0]
    assert int(baseline.profile.counts[part].sum()) == training.size
    same = window(baseline, RNG.choice(training, size=5_000))
    assert statistic(psi.score(baseline, same, "x")) < 0.05
    assert quality.UNSEEN.score(baseline, same, "x").statistic == 0.0
    assert judged(baseline, same)[0].state is ColumnState.STABLE
    fresh = window(baseline, np.array([f"new{i}" for i in range(5_000)], dtype=object))
    assert quality.UNSEEN.score(baseline, fresh, "x").statistic == 1.0
    assert statistic(psi.score(baseline, fresh, "x")) > 3
    assert judged(baseline, fresh, evidence=2.0)[0].state is ColumnState.DRIFT


def test_one_unseen_category_in_a_million_is_neither_drift_nor_p_0() -> None:
    baseline = categories(["a"] * 6_000 + ["b"] * 4_000)
    counts = baseline.profile.counts * 100
    counts[baseline.layout.category_stop[0] - 1] = 1
    profile = Profile(rows=1_000_001, counts=counts, moments=np.zeros((1, 3)))
    assert statistic(psi.score(baseline, profile, "x")) < 0.01
    p = categorical.p_value(baseline, profile, "x")
    assert p is not None
    assert p > 0.9
    assert judged(baseline, profile)[0].state is ColumnState.STABLE


def test_mixed_labels_have_one_text_each() -> None:
    mixed = np.array(["a", 123, True, None] * 100, dtype=object)
    baseline = baseline_of(data(mixed, type=ColumnType.CATEGORICAL, dtype="string"))
    same = window(baseline, np.array(["a", "123", "true", ""] * 100, dtype=object))
    assert same.counts.tolist() == baseline.profile.counts.tolist() == [100, 100, 100, 0, 0, 100]
    assert psi.score(baseline, same, "x").statistic == 0.0
    python_text = window(baseline, np.array(["True"] * 300, dtype=object))
    assert quality.UNSEEN.score(baseline, python_text, "x").statistic == 1.0


def test_codes_that_look_like_numbers_stay_the_text_they_are() -> None:
    baseline = categories(["007", "7", "1e3", "1000"] * 100)
    assert baseline.profile.counts.tolist() == [100, 100, 100, 100, 0, 0, 0]
    stripped = window(baseline, np.array([7, 7, 1000, 1000] * 100, dtype=np.int64))
    # Zeros lost on the way turn two codes into two others: shares move, though every value is known.
    assert quality.UNSEEN.score(baseline, stripped, "x").statistic == 0.0
    assert registry.get("total_variation").score(baseline, stripped, "x").statistic == 0.5
    assert judged(baseline, stripped, evidence=2.0)[0].state is ColumnState.DRIFT
    with pytest.raises(DetectorError, match="holds text; send numbers or declare it categorical"):
        numeric(np.array(["007", "7"] * 50, dtype=object))


def test_ids_above_2_to_53_are_refused_as_numbers_and_distinct_as_categories() -> None:
    ids = 2**53 + np.arange(200, dtype=np.int64) % 2
    with pytest.raises(DetectorError, match="declare the column categorical"):
        build_column("id", ColumnRole.FEATURE, ColumnType.NUMERIC, "int64", ids)
    baseline = baseline_of(data(ids, type=ColumnType.CATEGORICAL, dtype="int64"))
    next_one = window(baseline, np.full(300, 2**53 + 2, dtype=np.int64))
    assert quality.UNSEEN.score(baseline, next_one, "x").statistic == 1.0


def test_1e300_is_a_value_like_any_other_and_overflows_nothing() -> None:
    training = np.append(TRAINING, [1e300, -1e300])
    baseline = numeric(training)
    profile = window(baseline, np.append(SAME, [1e300, 1e300]))
    found = scores(baseline, profile)
    assert found["out_of_range_rate"].statistic == 0.0
    for name in ("ks", "psi", "wasserstein", "variance_ratio", "jensen_shannon"):
        assert math.isfinite(statistic(found[name]))
    assert statistic(found["ks"]) < 0.03
    clusters = np.full(1, 24)
    assert np.isfinite(mean_shift.kernel(baseline, profile.moments, clusters).statistic).all()
    ordinary = numeric(TRAINING)
    huge = window(ordinary, np.full(1_000, 1e300))
    assert ks.score(ordinary, huge, "x").statistic == 1.0
    assert mean_shift.kernel(ordinary, huge.moments, clusters).statistic[0] > 1e100
    assert variance.score(ordinary, huge, "x").statistic == pytest.approx(math.log(1_000))


def test_denormals_are_told_apart() -> None:
    tiny = 5e-324
    baseline = numeric(np.repeat([0.0, tiny, 2 * tiny, 1e-310], 50))
    assert baseline.profile.counts[1:8:2].tolist() == [50, 50, 50, 50]
    profile = window(baseline, np.full(300, tiny))
    assert ks.score(baseline, profile, "x").statistic == 0.5
    # Their squares are 0: without a spread nothing is measured in deviations.
    assert wasserstein.score(baseline, profile, "x").status is ScoreStatus.NOT_APPLICABLE
    assert variance.score(baseline, profile, "x").status is ScoreStatus.NOT_APPLICABLE


def test_minus_zero_is_zero() -> None:
    baseline = numeric(np.repeat([-0.0, 1.0], 100))
    profile = window(baseline, np.repeat([0.0, 1.0], 200))
    assert (profile.counts[: 2 * 2 + 1] == 2 * baseline.profile.counts[:5]).all()
    found = scores(baseline, profile)
    zeros = {name for name, score in found.items() if score.statistic == 0.0}
    assert zeros >= {"ks", "psi", "wasserstein", "total_variation", "out_of_range_rate"}
    named = baseline_of(data(np.repeat([-0.0, 1.0], 100), type=ColumnType.CATEGORICAL, dtype="float64"))
    assert named.profile.counts.tolist() == window(named, np.repeat([0.0, 1.0], 100)).counts.tolist()


def test_99_training_rows_are_no_baseline_and_100_are() -> None:
    with pytest.raises(DetectorError, match="99 training rows; a baseline needs at least 100, better 1000"):
        baseline_of(data(np.arange(99.0)))
    baseline = baseline_of(data(np.arange(100.0)))
    assert judged(baseline, window(baseline, np.arange(100.0).repeat(3)))[0].state is ColumnState.STABLE


@pytest.mark.parametrize("evidence", [0.0, 0.5, 5.0, 1e250])
def test_a_statistic_that_is_no_number_never_reads_as_fine(evidence: float) -> None:
    baseline = numeric(TRAINING)
    profile = window(baseline, SAME)
    index = EventIndex.of(baseline)
    limits = resolve_thresholds([DAY], ["x"])
    nan = np.full((1, 1), np.nan)
    unknown = Windows(
        seconds=np.array([DAY]),
        counts=profile.counts[np.newaxis],
        rows=np.array([profile.rows]),
        ks=nan,
        psi=nan,
    )
    found = effects(index, unknown, limits)
    start = Evidence.zeros(index)
    state = Evidence(r=np.full_like(start.r, evidence), starts=start.starts, since=start.since)
    verdict = decide(index, found, state, false_pages_per_year=0.1)[0]
    assert verdict.state is ColumnState.INSUFFICIENT_DATA
    assert effect_holds(found) == (None,)
    poisoned = Evidence(r=np.full_like(start.r, np.nan), starts=start.starts, since=start.since)
    with pytest.raises(DetectorError, match="not a number"):
        decide(index, found, poisoned, false_pages_per_year=0.1)


def test_moments_that_are_no_number_are_insufficient_for_every_detector_that_reads_them() -> None:
    baseline = numeric(TRAINING)
    good = window(baseline, SAME)
    bad = Profile(rows=good.rows, counts=good.counts, moments=np.full((1, 3), np.nan))
    assert variance.kernel(baseline, bad.moments).status.tolist() == [1]
    assert mean_shift.kernel(baseline, bad.moments, np.array([24])).status.tolist() == [1]
    assert ks.score(baseline, bad, "x") == ks.score(baseline, good, "x")


def test_a_dtype_guessed_anew_per_window_changes_nothing() -> None:
    baseline = baseline_of(data(np.arange(200) % 7, dtype="int64"))
    whole = np.arange(700) % 7
    expected = profile_rows(baseline, {"x": whole}).counts.tolist()
    for values in (whole.astype(np.float64), whole.astype(np.int8), whole.astype(object)):
        assert profile_rows(baseline, {"x": values}).counts.tolist() == expected


def test_more_rows_flag_nothing_by_themselves() -> None:
    baseline = numeric(TRAINING)
    few = window(baseline, SAME[:1_000])
    many = Profile(rows=few.rows * 10_000, counts=few.counts * 10_000, moments=few.moments)
    assert ks.score(baseline, many, "x").statistic == ks.score(baseline, few, "x").statistic
    assert psi.score(baseline, many, "x").statistic == pytest.approx(
        psi.score(baseline, few, "x").statistic, abs=1e-3
    )
    assert judged(baseline, many)[0].state is ColumnState.STABLE
