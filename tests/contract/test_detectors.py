"""What every registered detector keeps, on every kind of column."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from detectors import registry
from detectors.profile import Column, Profile, profile_rows
from detectors.registry import Detector
from detectors.types import DetectorError, Score, ScoreStatus
from tests.detectors.building import mixed_baseline, mixed_columns, numeric, window

BASELINE = mixed_baseline()
SAME = {column.name: column.values for column in mixed_columns(seed=77, rows=2_000)}

every_detector = pytest.mark.parametrize(
    "detector", registry.DETECTORS.values(), ids=registry.DETECTORS.keys()
)
every_column = pytest.mark.parametrize("column", BASELINE.columns, ids=lambda column: column.name)


def nulls(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.full(values.shape, None, dtype=object)


def broken(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As far from training as the column's type allows."""
    if values.dtype.kind == "O":
        return np.full(values.shape, "never seen in training " * 5, dtype=object)
    if values.dtype.kind == "f":
        return np.full(values.shape, 1e305)
    return np.full(values.shape, 999, dtype=np.int64)


VARIANTS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "same": lambda values: values,
    "nulls": nulls,
    "broken": broken,
    "none": lambda values: values[:0],
    "one": lambda values: values[:1],
}


def check_shape_of(score: Score, detector: Detector, column: str) -> None:
    assert (score.detector, score.column) == (detector.name, column)
    if score.status is ScoreStatus.VALID:
        assert score.statistic is not None
        assert math.isfinite(score.statistic)
        assert score.rows > 0
        assert score.baseline_rows > 0
        if score.low is not None:
            assert score.high is not None
            assert score.low <= score.statistic <= score.high
    else:
        assert (score.statistic, score.low, score.high, score.p_value) == (None, None, None, None)


@every_detector
@every_column
@pytest.mark.parametrize("rows", list(VARIANTS))
def test_a_score_is_a_number_or_says_why_not(detector: Detector, column: Column, rows: str) -> None:
    profile = profile_rows(BASELINE, {name: VARIANTS[rows](array) for name, array in SAME.items()})
    check_shape_of(detector.score(BASELINE, profile, column.name), detector, column.name)


@every_detector
@every_column
def test_no_rows_are_never_fine(detector: Detector, column: Column) -> None:
    found = detector.score(BASELINE, Profile.zeros(BASELINE.layout), column.name)
    assert found.status is not ScoreStatus.VALID


@every_detector
@every_column
def test_only_null_rows_have_no_value_statistic(detector: Detector, column: Column) -> None:
    profile = profile_rows(BASELINE, {name: nulls(values) for name, values in SAME.items()})
    found = detector.score(BASELINE, profile, column.name)
    if found.status is ScoreStatus.VALID:
        assert detector.name.endswith("_rate")
    if detector.name == "missing_rate":
        trained = BASELINE.layout.position(column.name)
        assert found.statistic == 1 - BASELINE.profile.counts[BASELINE.layout.missing[trained]] / 3_000


@every_detector
@every_column
def test_columns_of_another_type_are_not_applicable(detector: Detector, column: Column) -> None:
    profile = profile_rows(BASELINE, SAME)
    found = detector.score(BASELINE, profile, column.name)
    if column.type not in detector.column_types:
        assert found.status is ScoreStatus.NOT_APPLICABLE


@every_detector
def test_a_detector_reads_some_column(detector: Detector) -> None:
    profile = profile_rows(BASELINE, SAME)
    found = {detector.score(BASELINE, profile, column.name).status for column in BASELINE.columns}
    # The mean needs the window's clusters, which a bare profile does not have.
    expected = ScoreStatus.INSUFFICIENT_DATA if detector.name == "mean_shift" else ScoreStatus.VALID
    assert expected in found


@every_detector
@every_column
def test_the_statistic_grows_with_drift(detector: Detector, column: Column) -> None:
    same = detector.score(BASELINE, profile_rows(BASELINE, SAME), column.name)
    moved = {name: broken(values) for name, values in SAME.items()}
    profile = profile_rows(BASELINE, moved)
    drifted = detector.score(BASELINE, profile, column.name)
    if detector.name in ("missing_rate", "non_finite_rate") or same.statistic is None:
        return
    if detector.name == "variance_ratio" and profile.moments[BASELINE.layout.position(column.name), 0] == 0:
        # 1e305 is infinite as float32, and infinities have no variance.
        assert drifted.status is ScoreStatus.INSUFFICIENT_DATA
        return
    assert drifted.statistic is not None
    assert drifted.statistic >= same.statistic


@every_detector
@every_column
def test_the_order_of_rows_changes_no_score(detector: Detector, column: Column) -> None:
    order = np.random.default_rng(0).permutation(2_000)
    first = detector.score(BASELINE, profile_rows(BASELINE, SAME), column.name)
    shuffled = {name: values[order] for name, values in SAME.items()}
    assert detector.score(BASELINE, profile_rows(BASELINE, shuffled), column.name) == first


@every_detector
def test_scoring_changes_neither_baseline_nor_window(detector: Detector) -> None:
    profile = profile_rows(BASELINE, SAME)
    before = [array.tobytes() for array in (profile.counts, profile.moments, BASELINE.profile.counts)]
    derived = [array.tobytes() for array in (BASELINE.cell_counts, BASELINE.cell_rows, BASELINE.psi_counts)]
    for column in BASELINE.columns:
        detector.score(BASELINE, profile, column.name)
    assert before == [array.tobytes() for array in (profile.counts, profile.moments, BASELINE.profile.counts)]
    assert derived == [a.tobytes() for a in (BASELINE.cell_counts, BASELINE.cell_rows, BASELINE.psi_counts)]


@every_detector
def test_unknown_columns_and_foreign_windows_are_refused(detector: Detector) -> None:
    with pytest.raises(DetectorError, match="no column 'nope'"):
        detector.score(BASELINE, profile_rows(BASELINE, SAME), "nope")
    other = numeric(np.arange(100.0))
    with pytest.raises(DetectorError, match="count the window on this baseline"):
        detector.score(BASELINE, window(other, np.arange(10.0)), "age")
