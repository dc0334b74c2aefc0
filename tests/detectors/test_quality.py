"""Shares of bad rows against the baseline's."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from detectors import quality
from detectors.types import ScoreStatus
from tests.detectors.building import categories, numeric, window


def test_each_kind_of_bad_row_is_its_own_share() -> None:
    training = np.arange(1_000.0)
    training[:100] = np.nan
    baseline = numeric(training)
    profile = window(baseline, np.array([np.nan, np.nan, np.inf, -np.inf, 50.0, 5_000.0, 200.0, 200.0]))
    found = [
        shift.score(baseline, profile, "x").statistic
        for shift in (quality.MISSING, quality.NON_FINITE, quality.OUT_OF_RANGE)
    ]
    assert found == pytest.approx([2 / 8 - 0.1, 2 / 8, 4 / 8])
    assert quality.UNSEEN.score(baseline, profile, "x").status is ScoreStatus.NOT_APPLICABLE


def test_unseen_is_new_and_not_merely_rare() -> None:
    baseline = categories([f"c{i // 3}" for i in range(300)])
    profile = window(baseline, np.array(["c1", "c99", "never", None], dtype=object))
    assert quality.UNSEEN.score(baseline, profile, "x").statistic == 0.25
    assert quality.MISSING.score(baseline, profile, "x").statistic == 0.25
    assert quality.OUT_OF_RANGE.score(baseline, profile, "x").status is ScoreStatus.NOT_APPLICABLE


def test_a_healed_feed_has_a_negative_shift() -> None:
    baseline = numeric(np.array([np.nan, 1.0]))
    assert quality.MISSING.score(baseline, window(baseline, np.ones(10)), "x").statistic == -0.5


def test_no_rows_are_insufficient_for_every_kind() -> None:
    baseline = numeric(np.arange(100.0))
    empty = window(baseline, np.zeros(0))
    for shift in (quality.MISSING, quality.NON_FINITE, quality.OUT_OF_RANGE):
        assert shift.score(baseline, empty, "x").status is ScoreStatus.INSUFFICIENT_DATA
        assert shift.p_value(baseline, empty, "x") is None


def test_a_value_in_a_column_without_training_values_is_no_longer_missing() -> None:
    baseline = numeric(np.full(100, np.nan))
    profile = window(baseline, np.array([1.0, np.nan]))
    assert quality.MISSING.score(baseline, profile, "x").statistic == -0.5
    assert quality.OUT_OF_RANGE.score(baseline, profile, "x").statistic == 0.5


@pytest.mark.parametrize(("bad", "rows"), [(0, 20), (1, 1), (5, 50), (30, 200)])
def test_p_values_are_fishers(bad: int, rows: int) -> None:
    training = np.arange(300.0)
    training[:15] = np.nan
    baseline = numeric(training)
    observed = np.full(rows, 50.0)
    observed[:bad] = np.nan
    expected = fisher_exact(np.array([[bad, rows - bad], [15, 285]]), alternative="greater").pvalue
    assert quality.MISSING.p_value(baseline, window(baseline, observed), "x") == pytest.approx(
        expected, rel=1e-9
    )
