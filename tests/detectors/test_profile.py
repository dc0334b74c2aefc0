"""Profiles count every row once, add up in any order, and lie where the layout says."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import (
    CategoricalColumn,
    ColumnData,
    Layout,
    NumericColumn,
    Profile,
    TensorMap,
    build_baseline,
    profile_rows,
)
from detectors.types import ColumnRole, DetectorError
from tests.detectors.building import baseline_of, data, mixed_baseline, mixed_columns, numeric, window

BASELINE = mixed_baseline()
ROWS = {column.name: column.values for column in mixed_columns(seed=6, rows=1_000)}


def part(start: int, stop: int) -> Profile:
    return profile_rows(BASELINE, {name: values[start:stop] for name, values in ROWS.items()})


WHOLE = part(0, 1_000)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1_000), max_size=6), st.randoms(use_true_random=False))
def test_parts_merge_to_the_whole_in_any_order(cuts: list[int], random: Random) -> None:
    borders = [0, *sorted(cuts), 1_000]
    parts = [part(a, b) for a, b in pairwise(borders)]
    random.shuffle(parts)
    merged = Profile.merge(parts)
    assert merged.rows == WHOLE.rows
    assert merged.counts.tolist() == WHOLE.counts.tolist()
    n, mean, m2 = WHOLE.moments.T
    spread = np.sqrt(m2 / np.maximum(n, 1))
    assert merged.moments[:, 0].tolist() == n.tolist()
    assert (np.abs(merged.moments[:, 1] - mean) <= 1e-12 * (np.abs(mean) + spread)).all()
    assert (np.abs(merged.moments[:, 2] - m2) <= 1e-9 * m2).all()


def test_the_order_of_rows_changes_no_count() -> None:
    order = np.random.default_rng(1).permutation(1_000)
    shuffled = profile_rows(BASELINE, {name: values[order] for name, values in ROWS.items()})
    assert shuffled.counts.tolist() == WHOLE.counts.tolist()
    np.testing.assert_array_equal(shuffled.moments, WHOLE.moments)


def test_every_row_is_in_one_slot_of_every_column() -> None:
    layout = BASELINE.layout
    for column, part_of, missing in zip(layout.columns, layout.slices, layout.missing, strict=True):
        values = WHOLE.counts[part_of.start : missing + 1]
        assert values.sum() == 1_000, column.name


def test_a_window_is_a_difference_of_sums() -> None:
    first, second = part(0, 400), part(400, 1_000)
    assert (WHOLE.counts - first.counts).tolist() == second.counts.tolist()


def test_slots_lie_where_the_contract_says() -> None:
    baseline = baseline_of(
        data(np.array([1.0, 2.0] * 50), name="n"),
        data(np.array([0.25, 0.5] * 50), name="c", role=ColumnRole.CONFIDENCE),
    )
    layout = baseline.layout
    assert layout.slices == (slice(0, 7), slice(7, 15))
    rows = {"n": np.array([0.0, 1.0, np.nan, np.inf]), "c": np.array([0.25, 2.0, np.nan, -np.inf])}
    counts = profile_rows(baseline, rows).counts
    assert counts[:7].tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert counts[7:].tolist() == [1, 1, 0, 0, 1, 1, 1, 2**30 + 2**32]
    assert layout.present(counts, 4).tolist() == [3, 3]


def test_index_arrays_point_at_their_slots() -> None:
    layout = BASELINE.layout
    for position, (column, slots) in enumerate(zip(layout.columns, layout.slices, strict=True)):
        if isinstance(column, NumericColumn):
            at = layout.numeric.tolist().index(position)
            size = 2 * column.cuts.size + 1
            assert layout.cell_start[at] == slots.start
            assert layout.cell_stop[at] == layout.missing[position] == slots.start + size
            assert layout.non_finite[at] == slots.start + size + 1
            assert layout.is_cell[slots].tolist() == [True] * size + [False] * (
                slots.stop - slots.start - size
            )
        else:
            at = layout.categorical.tolist().index(position)
            assert layout.category_start[at] == slots.start
            assert layout.category_stop[at] == layout.missing[position] == slots.stop - 1
            assert not layout.is_cell[slots].any()
    (confidence,) = layout.confidence.tolist()
    assert layout.columns[confidence].role is ColumnRole.CONFIDENCE
    assert layout.fixed_sum.tolist() == [layout.slices[confidence].stop - 1]


def test_moments_are_those_of_the_finite_values() -> None:
    values = ROWS["gappy"]
    present = values[np.isfinite(values)]
    n, mean, m2 = WHOLE.moments[BASELINE.layout.position("gappy")]
    assert (n, mean, m2) == pytest.approx((present.size, present.mean(), present.var() * present.size))


def test_huge_values_overflow_no_moment() -> None:
    baseline = numeric(np.arange(100.0))
    moments = window(baseline, np.array([1e308, -1e308, 1.0])).moments
    assert np.isfinite(moments).all()


def test_an_expired_huge_value_leaves_no_trace_in_a_merge() -> None:
    # A running float sum of 1, 2, 3 returns 0.0 after 1e300 came and went.
    baseline = numeric(np.arange(100.0))
    panes = [window(baseline, np.array([value])) for value in (1e300, 1.0, 2.0, 3.0)]
    assert Profile.merge(panes[1:]).moments[0].tolist() == [3.0, 2.0, 2.0]


def test_confidence_sums_are_integers_whatever_the_order() -> None:
    values = np.random.default_rng(3).random(10_000).astype(np.float32)
    baseline = baseline_of(data(values, role=ColumnRole.CONFIDENCE, dtype="float32"))
    slot = int(baseline.layout.fixed_sum[0])
    whole = window(baseline, values).counts[slot]
    halves = window(baseline, values[::2]).counts[slot] + window(baseline, values[1::2]).counts[slot]
    assert whole == halves == sum(round(float(v) * 2**32) for v in values)


def test_names_beyond_the_baseline_are_ignored_and_absent_ones_named() -> None:
    baseline = numeric(np.arange(100.0))
    assert profile_rows(baseline, {"x": np.zeros(3), "y": np.zeros(9)}).rows == 3
    with pytest.raises(DetectorError, match="lack the columns x"):
        profile_rows(baseline, {"y": np.zeros(3)})


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(DetectorError, match="'gappy' has 5 rows where others have 1000"):
        profile_rows(BASELINE, ROWS | {"gappy": np.zeros(5)})
    with pytest.raises(DetectorError, match="differ in length"):
        baseline_of(data(np.zeros(100), name="a"), data(np.zeros(101), name="b"))


def test_merging_nothing_or_different_layouts_is_refused() -> None:
    with pytest.raises(DetectorError, match="at least one profile"):
        Profile.merge([])
    with pytest.raises(DetectorError, match="different layouts"):
        Profile.merge([WHOLE, Profile.zeros(numeric(np.arange(100.0)).layout)])


def test_a_baseline_names_its_errors() -> None:
    column = data(np.arange(100.0))
    tensor = TensorMap(name="input", datatype="FP32", kind="input", columns=("x", "", "z"))
    with pytest.raises(DetectorError, match="tensor 'input' feeds unknown columns z; the baseline has x"):
        build_baseline([column], 60, [tensor], None, "test")
    with pytest.raises(DetectorError, match="pane_seconds is 0"):
        build_baseline([column], 0, (), None, "test")
    with pytest.raises(DetectorError, match="named twice: x"):
        baseline_of(column, column)
    with pytest.raises(DetectorError, match="at least one column"):
        build_baseline(list[ColumnData](), 60, (), None, "test")
    with pytest.raises(DetectorError, match="no column 'y'; the baseline has x"):
        baseline_of(column).layout.position("y")


def test_segments_use_fewer_cuts() -> None:
    column = baseline_of(data(np.random.default_rng(1).normal(size=5_000)), cut_cap=64).columns[0]
    assert isinstance(column, NumericColumn)
    assert column.cuts.size <= 64


def test_a_layout_of_categories_alone_has_no_cells() -> None:
    column = CategoricalColumn(
        name="x",
        role=ColumnRole.FEATURE,
        type=BASELINE.columns[BASELINE.layout.position("region")].type,
        dtype="string",
        categories=("a",),
        others=frozenset({"b"}),
        others_truncated=False,
    )
    layout = Layout.of([column])
    assert (layout.length, layout.numeric.size, bool(layout.is_cell.any())) == (4, 0, False)
    assert layout.lookups == ({"a": 0, "b": 1},)
