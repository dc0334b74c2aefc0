"""What a detector must not depend on: the unit of the values, and where it holds, which sample is called the baseline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors import ks, mean_shift, registry
from detectors.profile import Baseline, Profile
from detectors.registry import Detector
from detectors.types import ColumnType, Score, ScoreStatus
from tests.detectors.building import categories, numeric, window

F64 = npt.NDArray[np.float64]

NUMERIC = [found for found in registry.DETECTORS.values() if ColumnType.NUMERIC in found.column_types]
# Integers up to 2^13 stay integers a thousandfold and 5 more, so that no rounding is in the way.
samples = hnp.arrays(np.float64, st.integers(200, 260), elements=st.integers(-4_000, 4_000).map(float))
words = st.lists(st.sampled_from("abcd"), min_size=200, max_size=240)


def scored(detector: Detector, baseline: Baseline, values: F64) -> Score:
    """The score of rows that came in 20 equal stretches, for those detectors that ask."""
    if detector.name != mean_shift.NAME:
        return detector.score(baseline, window(baseline, values), "x")
    clusters = [window(baseline, part) for part in np.array_split(values, 20)]
    return mean_shift.score(baseline, Profile.merge(clusters), "x", clusters=clusters)


def of_numbers(training: F64, values: F64, detector: Detector) -> float | None:
    return scored(detector, numeric(training, cut_cap=5_000), values).statistic


@pytest.mark.parametrize("detector", NUMERIC, ids=lambda found: found.name)
@settings(max_examples=10)
@given(samples, samples)
def test_a_change_of_unit_changes_no_statistic(detector: Detector, training: F64, values: F64) -> None:
    before = of_numbers(training, values, detector)
    after = of_numbers(1_000 * training + 5, 1_000 * values + 5, detector)
    assert after == (None if before is None else pytest.approx(before, rel=1e-9, abs=1e-12))


@settings(max_examples=10)
@given(samples, samples)
def test_any_increasing_transformation_leaves_d_as_it_is(training: F64, values: F64) -> None:
    cubed = of_numbers(training**3, values**3, registry.DETECTORS[ks.NAME])
    assert cubed == of_numbers(training, values, registry.DETECTORS[ks.NAME])


@settings(max_examples=20)
@given(samples, samples)
def test_d_is_the_same_from_either_side(one: F64, two: F64) -> None:
    detector = registry.DETECTORS[ks.NAME]
    assert of_numbers(one, two, detector) == pytest.approx(of_numbers(two, one, detector), abs=1e-15)


@settings(max_examples=20)
@given(words, words)
def test_homogeneity_is_the_same_from_either_side(one: list[str], two: list[str]) -> None:
    """Where both know the same categories: what only one has is unseen to the other, and known to itself."""
    one, two = [*one, *"abcd"], [*two, *"abcd"]
    there, back = (
        registry.DETECTORS["categorical"]
        .score(base := categories(first), window(base, np.array(second, dtype=object)), "x")
        .statistic
        for first, second in ((one, two), (two, one))
    )
    assert there == pytest.approx(back, rel=1e-9, abs=1e-12)


# Bins, deviations and ranges are the baseline's: these are not distances between two samples, and their texts say so.
@pytest.mark.parametrize(
    "name",
    [
        "psi",
        "jensen_shannon",
        "hellinger",
        "total_variation",
        "l_infinity",
        "wasserstein",
        "mean_shift",
        "variance_ratio",
        "out_of_range_rate",
    ],
)
def test_the_others_are_measured_from_the_baseline(name: str) -> None:
    rng = np.random.default_rng(4)
    narrow, broad = rng.normal(size=300), rng.normal(0.7, 2.0, size=300)
    detector = registry.DETECTORS[name]
    there, back = of_numbers(narrow, broad, detector), of_numbers(broad, narrow, detector)
    assert there is not None
    assert back is not None
    assert abs(there - back) > 1e-3


@pytest.mark.parametrize("detector", registry.DETECTORS.values(), ids=registry.DETECTORS.keys())
def test_no_detector_reads_a_window_of_its_own_training_rows_as_drift(detector: Detector) -> None:
    training = np.random.default_rng(6).normal(size=1_000)
    kinds: dict[ColumnType, Callable[[], tuple[Baseline, npt.NDArray[Any]]]] = {
        ColumnType.NUMERIC: lambda: (numeric(training), training),
        ColumnType.CATEGORICAL: lambda: (
            categories(["a", "b"] * 500),
            np.array(["a", "b"] * 500, dtype=object),
        ),
    }
    for kind in detector.column_types & kinds.keys():
        baseline, rows = kinds[kind]()
        found = scored(detector, baseline, rows)
        assert found.status is ScoreStatus.VALID
        # One imagined deviation in 1000 rows is all that the variance ratio adds.
        assert found.statistic == pytest.approx(0.0, abs=1e-12 if detector.name != "variance_ratio" else 1e-3)
