"""Raw values become countable ones the same way in training and in production."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from detectors.columns import (
    CATEGORY_CAP,
    OTHERS_CAP,
    CategoricalColumn,
    can_represent,
    canonical_text,
    category_counts,
)
from detectors.profile import NumericColumn, build_column
from detectors.types import ColumnRole, ColumnType, DetectorError
from tests.detectors.building import baseline_of, categories, data, numeric, window


@pytest.mark.parametrize(
    ("cuts", "dtype", "exact"),
    [
        ([0.5], "float16", True),
        ([0.1], "float32", False),
        ([0.1], "float64", True),
        ([16_777_216.0], "float32", True),
        ([16_777_217.0], "float32", False),
        ([1e39], "float32", False),
        ([70_000.0], "float16", False),
        ([0.0, 1.0], "bool", True),
        ([2.0], "bool", False),
        ([1.5], "int64", False),
        ([-1.0], "uint8", False),
        ([255.0], "uint8", True),
        ([256.0], "uint8", False),
        ([2.0**63], "int64", False),
        ([-(2.0**63)], "int64", True),
        ([2.0**63], "uint64", True),
        ([2.0**64], "uint64", False),
        ([1.0], "string", False),
    ],
)
def test_a_dtype_represents_cuts_or_not(cuts: list[float], dtype: str, exact: bool) -> None:
    assert can_represent(np.array(cuts), dtype) is exact


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2, 2, 1], dtype=np.int64),
        np.array([1.0, 2.0, 2.0, 1.0]),
        np.array(["1", "2", "2", "1"]),
        np.array(["1", "2", "2", "1"], dtype=object),
        np.array([1, 2.0, "2", 1.0], dtype=object),
    ],
)
def test_a_category_is_one_text_in_every_dtype(values: npt.NDArray[Any]) -> None:
    assert category_counts("c", values) == ({"1": 2, "2": 2}, 0)


def test_true_and_one_are_two_categories() -> None:
    counts, missing = category_counts(
        "c", np.array([True, 1, 1.0, False, 0, None, float("nan"), ""], dtype=object)
    )
    assert (counts, missing) == ({"true": 1, "1": 2, "false": 1, "0": 1}, 3)


def test_ids_beyond_2_to_53_are_distinct_categories() -> None:
    ids = np.array([2**53, 2**53 + 1], dtype=np.int64)
    assert category_counts("c", ids)[0] == {"9007199254740992": 1, "9007199254740993": 1}


def test_a_category_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(DetectorError, match=r"column 'c'.*not list"):
        canonical_text("c", [1])


def test_the_fifty_most_frequent_categories_have_a_slot_each() -> None:
    values = [f"c{i:03d}" for i in range(80) for _ in range(1 if i % 2 else 3)]
    column = categories(values).columns[0]
    assert isinstance(column, CategoricalColumn)
    expected = [f"c{i:03d}" for i in range(0, 80, 2)] + [f"c{i:03d}" for i in range(1, 20, 2)]
    assert column.categories == tuple(expected)
    assert len(column.categories) == CATEGORY_CAP
    assert column.others == {f"c{i:03d}" for i in range(21, 80, 2)}


def test_forgotten_categories_are_other_and_never_unseen() -> None:
    baseline = categories([str(i) for i in range(OTHERS_CAP + CATEGORY_CAP + 1)])
    column = baseline.columns[0]
    assert isinstance(column, CategoricalColumn)
    assert column.others_truncated
    slots = window(baseline, np.array(["never seen"], dtype=object)).counts
    assert slots[CATEGORY_CAP : CATEGORY_CAP + 3].tolist() == [1, 0, 0]
    assert baseline.profile.counts[CATEGORY_CAP + 1] == 0


@pytest.mark.parametrize("values", [[2**53] * 100, [-(2**53)] * 100, [float(2**60)] * 100, [2**64 - 1] * 100])
def test_integers_that_collide_are_refused_naming_the_fix(values: list[Any]) -> None:
    dtype = "uint64" if values[0] == 2**64 - 1 else "int64"
    with pytest.raises(DetectorError, match=r"column 'x'.*declare the column categorical"):
        numeric(np.array(values), dtype=dtype)


def test_objects_hide_no_colliding_integers() -> None:
    with pytest.raises(DetectorError, match="declare the column categorical"):
        numeric(np.array([None, 2**53 + 1] * 50, dtype=object), dtype="int64")


def test_the_largest_safe_integer_is_a_cut() -> None:
    column = numeric(np.array([2**53 - 1] * 100), dtype="int64").columns[0]
    assert isinstance(column, NumericColumn)
    assert column.cuts.tolist() == [float(2**53 - 1)]


def test_text_is_counted_in_code_points() -> None:
    words = np.array(["", "ab", "äö", "👍👍", None] * 20, dtype=object)
    baseline = baseline_of(data(words, type=ColumnType.TEXT, dtype="int64"))
    column = baseline.columns[0]
    assert isinstance(column, NumericColumn)
    assert column.cuts.tolist() == [0.0, 2.0]
    assert baseline.profile.counts.tolist() == [0, 20, 0, 60, 0, 20, 0]
    assert window(baseline, np.array([2, 0])).counts.tolist() == [0, 1, 0, 1, 0, 0, 0]


def test_nulls_make_integers_and_booleans_floats_and_are_missing() -> None:
    for kind, dtype in ((ColumnType.BOOLEAN, "bool"), (ColumnType.NUMERIC, "int64")):
        baseline = baseline_of(data(np.array([0, 1] * 50), type=kind, dtype=dtype))
        objects = window(baseline, np.array([True, None, False, 1], dtype=object))
        floats = window(baseline, np.array([1.0, np.nan, 0.0, 1.0]))
        assert objects.counts.tolist() == floats.counts.tolist() == [0, 1, 0, 2, 0, 1, 0]


@pytest.mark.parametrize(
    ("kind", "dtype", "role", "values", "message"),
    [
        (
            ColumnType.NUMERIC,
            "string",
            ColumnRole.FEATURE,
            np.zeros(100),
            "'string' is not numeric; use one of bool",
        ),
        (
            ColumnType.NUMERIC,
            "float64",
            ColumnRole.FEATURE,
            np.array(["1"] * 100),
            "send numbers or declare it cat",
        ),
        (
            ColumnType.NUMERIC,
            "float64",
            ColumnRole.FEATURE,
            np.array(["1"] * 100, dtype=object),
            "holds text",
        ),
        (ColumnType.NUMERIC, "float64", ColumnRole.FEATURE, np.zeros((100, 2)), "one dimension"),
        (
            ColumnType.NUMERIC,
            "float64",
            ColumnRole.FEATURE,
            np.zeros(99),
            "99 training rows; .* at least 100",
        ),
        (ColumnType.TEXT, "int64", ColumnRole.FEATURE, np.array([b"x"] * 100, dtype=object), "not bytes"),
        (ColumnType.CATEGORICAL, "string", ColumnRole.CONFIDENCE, np.zeros(100), "a confidence is numeric"),
    ],
)
def test_a_column_that_cannot_be_counted_is_refused(
    kind: ColumnType, dtype: str, role: ColumnRole, values: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(DetectorError, match=message):
        build_column("x", role, kind, dtype, values)
