"""The shift of the mean, and an interval that does not take rows of a batch for independent."""

import numpy as np
import pytest

from detectors import mean_shift
from detectors.profile import Baseline, Profile
from detectors.types import DetectorError, ScoreStatus
from tests.detectors.building import categories, numeric, window


def hours(baseline: Baseline, seed: int, *, shift: float = 0.0, batch_spread: float = 0.0) -> list[Profile]:
    rng = np.random.default_rng(seed)
    batches = rng.normal(shift, 1, (24, 10)) * batch_spread if batch_spread else np.full((24, 10), shift)
    return [window(baseline, np.repeat(level, 10) + rng.normal(size=100)) for level in batches]


def baseline(seed: int = 0) -> Baseline:
    return numeric(np.random.default_rng(seed).normal(size=20_000))


def test_the_statistic_is_in_standard_deviations_and_has_no_sign() -> None:
    rng = np.random.default_rng(1)
    training = rng.normal(20, 4, size=5_000)
    base = numeric(training)
    clusters = [window(base, rng.normal(18, 4, 200)) for _ in range(24)]
    merged = Profile.merge(clusters)
    found = mean_shift.score(base, merged, "x", clusters=clusters)
    expected = abs(merged.moments[0, 1] - training.mean()) / training.std(ddof=1)
    assert found.statistic == pytest.approx(expected, rel=1e-9)
    assert found.statistic == pytest.approx(0.5, abs=0.06)
    interval = mean_shift.interval(base, clusters, "x")
    assert interval is not None
    assert interval.difference < 0


@pytest.mark.parametrize("batch_spread", [0.0, 1.0])
def test_the_interval_keeps_its_level_for_batched_rows(batch_spread: float) -> None:
    # Known from simulation: hour-clustered t has 4.3 to 6.3 % for independent rows, 4.5 % for batches of ten.
    base = baseline()
    outside = 0
    for seed in range(200):
        found = mean_shift.interval(base, hours(base, seed, batch_spread=batch_spread), "x")
        assert found is not None
        outside += not found.low <= 0 <= found.high
    assert outside <= 22


def test_rows_of_a_batch_are_worth_fewer_rows() -> None:
    base = baseline()
    alone = mean_shift.interval(base, hours(base, 3), "x")
    batched = mean_shift.interval(base, hours(base, 3, batch_spread=2.0), "x")
    assert alone is not None
    assert batched is not None
    assert batched.rows == alone.rows == 2_400
    assert batched.effective_rows < 0.4 * batched.rows
    assert alone.effective_rows > 0.4 * alone.rows


def test_p_falls_with_the_shift() -> None:
    base = baseline()
    none, some = (mean_shift.p_value(base, hours(base, 4, shift=shift), "x") for shift in (0.0, 0.3))
    assert none is not None
    assert some is not None
    assert none > 0.01 > 1e-6 > some


def test_fewer_than_twelve_clusters_with_values_are_insufficient() -> None:
    base = baseline()
    clusters = hours(base, 5)[:11] + [window(base, np.full(50, np.nan)) for _ in range(13)]
    merged = Profile.merge(clusters)
    found = mean_shift.score(base, merged, "x", clusters=clusters)
    assert found.status is ScoreStatus.INSUFFICIENT_DATA
    assert mean_shift.interval(base, clusters, "x") is None
    assert mean_shift.p_value(base, clusters, "x") is None


def test_columns_without_spread_or_without_numbers_do_not_apply() -> None:
    constant = numeric(np.full(100, 2.0))
    clusters = [window(constant, np.full(10, 3.0)) for _ in range(12)]
    found = mean_shift.score(constant, Profile.merge(clusters), "x", clusters=clusters)
    assert found.status is ScoreStatus.NOT_APPLICABLE
    grouped = categories(["a", "b"] * 50)
    rows = window(grouped, np.array(["a"], dtype=object))
    assert mean_shift.score(grouped, rows, "x").status is ScoreStatus.NOT_APPLICABLE


def test_a_level_outside_0_and_1_is_refused() -> None:
    with pytest.raises(DetectorError, match="level is 95"):
        mean_shift.interval(baseline(), [], "x", level=95)
