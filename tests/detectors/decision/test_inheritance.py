"""What the next version takes over, and the certified distance that decides it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from detectors.decision import (
    Bands,
    Calibration,
    ColumnLearning,
    EventIndex,
    baseline_distance,
    inherit,
    unlearned,
)
from detectors.profile import ColumnData
from detectors.types import DetectorError, FloatArray
from tests.detectors.decision.samples import SECONDS, baseline_of, categorical, numeric


def learned(index: EventIndex) -> Calibration:
    """A calibration with wide bands, its own thresholds and hour blocks."""
    start = unlearned(index, SECONDS, 60)
    wide = Bands(low=np.maximum(start.bands.low - 0.1, 0.0), high=np.minimum(start.bands.high + 0.1, 1.0))
    columns = index.starts.size
    return replace(
        start,
        bands=wide,
        thresholds=replace(start.thresholds, theta=start.thresholds.theta / 2),
        block_seconds=np.full(columns, 3_600),
        states=(ColumnLearning.LEARNED,) * columns,
    )


@pytest.mark.parametrize("rows", [400, 30_000])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5])
def test_the_distance_is_never_below_scipys_and_close_to_it(rows: int, shift: float) -> None:
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=rows), rng.normal(shift, 1.0, size=rows + 17)
    true = stats.ks_2samp(one, two, method="asymp").statistic
    bound = baseline_distance(baseline_of(numeric("x", one)), baseline_of(numeric("x", two)), "x")
    assert true - 1e-12 <= bound <= true + (1e-12 if rows == 400 else 2 / 1_000)


def test_discrete_values_are_compared_exactly() -> None:
    one = np.repeat([0.0, 1.0, 3.0], [50, 30, 20])
    two = np.repeat([0.0, 2.0, 3.0], [50, 40, 10])
    found = baseline_distance(baseline_of(numeric("x", one)), baseline_of(numeric("x", two)), "x")
    assert found == pytest.approx(0.3)


def test_missing_shares_are_compared_too() -> None:
    values = np.arange(100.0)
    holes = np.where(np.arange(100) % 2 == 0, values, np.nan)
    first, second = baseline_of(numeric("x", values)), baseline_of(numeric("x", holes))
    assert baseline_distance(first, second, "x") == pytest.approx(0.5)


def test_categories_are_compared_by_name() -> None:
    first = baseline_of(categorical("c", ["a"] * 60 + ["b"] * 40))
    second = baseline_of(categorical("c", ["b"] * 57 + ["a"] * 43))
    other = baseline_of(categorical("c", ["a"] * 60 + ["z"] * 40))
    assert baseline_distance(first, second, "c") == pytest.approx(0.17)
    assert baseline_distance(first, other, "c") == float("inf")
    assert baseline_distance(first, second, "d") == float("inf")


def test_columns_that_stayed_inherit_and_those_that_moved_learn_anew() -> None:
    rng = np.random.default_rng(4)

    def data(shift: float, extra: bool) -> list[ColumnData]:
        found = [
            numeric("same", rng.normal(size=20_000)),
            numeric("moved", rng.normal(shift, 1.0, 20_000)),
            categorical("city", rng.choice(["a", "b"], 20_000, p=[0.7, 0.3]).tolist()),
        ]
        return [numeric("new", rng.normal(size=20_000)), *found] if extra else found

    old_index = EventIndex.of(baseline_of(*data(0.0, False)))
    new_index = EventIndex.of(baseline_of(*data(0.4, True)))
    old = learned(old_index)
    found = inherit(old, old_index.baseline, new_index, block_seconds=60)
    assert [s.value for s in found.states] == ["learning", "learned", "learning", "learned"]
    assert found.block_seconds.tolist() == [60, 3_600, 60, 3_600]
    assert np.array_equal(found.thresholds.theta[:, 1], old.thresholds.theta[:, 0])
    # Only large shifts page of what is learned anew.
    assert found.thresholds.theta[:, 0].tolist() == [0.6, 0.35, 0.35, 0.35]
    fresh = unlearned(new_index, SECONDS, 60)
    median = int(new_index.starts[1]) + 6
    width = old.bands.high[6] - old.bands.low[6]
    assert width < found.bands.high[median] - found.bands.low[median] < width + 0.11
    assert np.all(found.bands.low <= fresh.bands.low)
    assert np.all(found.bands.high >= fresh.bands.high)
    changed = (found.bands.low != fresh.bands.low) | (found.bands.high != fresh.bands.high)
    assert np.logical_or.reduceat(changed, new_index.starts).tolist() == [False, True, False, True]


def test_a_band_follows_its_category_when_the_order_of_names_changes() -> None:
    old_index = EventIndex.of(baseline_of(categorical("c", ["a"] * 510 + ["b"] * 490)))
    new_index = EventIndex.of(baseline_of(categorical("c", ["b"] * 510 + ["a"] * 490)))
    start = learned(old_index)
    high: FloatArray = start.bands.high.copy()
    high[0] = 0.95  # a
    old = replace(start, bands=Bands(low=start.bands.low, high=high))
    found = inherit(old, old_index.baseline, new_index, block_seconds=60)
    # b first, then a: 0.95 - 0.51 above the new 0.49, and the distance of 0.02.
    assert found.bands.high[1] == pytest.approx(0.49 + 0.44 + 0.02)
    assert found.bands.high[0] < 0.8


@pytest.mark.parametrize(
    "state", [ColumnLearning.LEARNING, ColumnLearning.MISMATCH, ColumnLearning.UNLEARNED]
)
def test_what_was_not_learned_is_not_inherited(state: ColumnLearning) -> None:
    index = EventIndex.of(baseline_of(numeric("x", np.arange(500.0))))
    found = inherit(replace(learned(index), states=(state,)), index.baseline, index, block_seconds=60)
    assert found.states == (ColumnLearning.LEARNING,)


def test_another_baselines_calibration_is_refused() -> None:
    index = EventIndex.of(baseline_of(numeric("x", np.arange(500.0))))
    other = baseline_of(categorical("c", ["a"] * 100))
    with pytest.raises(DetectorError, match="another baseline"):
        inherit(learned(index), other, index, block_seconds=60)
