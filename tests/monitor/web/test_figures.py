"""Charts tell the truth: shares against counts of the raw rows, edges that are round, thinning that hides no drift."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.profile import Baseline, ColumnData, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnState, ColumnType
from monitor.scores import DamagedEvaluation, decode_series, decode_states
from monitor.web.figures import BARS, BINS, POINTS, _round_edges, bars, chart, points
from monitor.web.svg import Bar


def one(kind: ColumnType, dtype: str, values: npt.NDArray[np.generic]) -> Baseline:
    data = ColumnData(name="x", role=ColumnRole.FEATURE, type=kind, dtype=dtype, values=values)
    return build_baseline([data], pane_seconds=60, tensors=(), confidence=None, source="test")


def drawn(baseline: Baseline, window: npt.NDArray[np.generic]) -> list[Bar]:
    return bars(baseline, 0, baseline.profile.counts, profile_rows(baseline, {"x": window}).counts)


def test_the_bars_up_to_an_edge_hold_the_rows_up_to_it() -> None:
    rng = np.random.default_rng(3)
    then = np.round(rng.normal(40, 10, 5000), 1).astype(np.float32)
    now = np.round(rng.normal(52, 6, 3000), 1).astype(np.float32)
    found = drawn(one(ColumnType.NUMERIC, "float32", then), now)
    assert sum(bar.baseline for bar in found) == pytest.approx(1)
    assert sum(bar.window for bar in found) == pytest.approx(1)
    for index, bar in enumerate(found):
        if bar.edge:
            edge = float(bar.edge) + 0.01
            assert sum(b.baseline for b in found[: index + 1]) == pytest.approx(np.mean(then <= edge))
            assert sum(b.window for b in found[: index + 1]) == pytest.approx(np.mean(now <= edge), abs=0.002)
    assert 10 <= len(found) <= BINS + 3


def test_what_lies_beyond_training_has_a_bar_of_its_own() -> None:
    then = np.linspace(0, 1, 500).astype(np.float32)
    now = np.concatenate([np.full(30, 2.0), np.full(10, -5.0), np.full(60, 0.5)]).astype(np.float32)
    found = drawn(one(ColumnType.NUMERIC, "float32", then), now)
    beyond = {bar.label: bar.window for bar in found if bar.beyond}
    assert beyond == {"< 0": pytest.approx(0.1), "> 1": pytest.approx(0.3)}
    assert not [bar for bar in drawn(one(ColumnType.NUMERIC, "float32", then), then) if bar.beyond]


def test_few_integers_are_a_bar_each_and_strangers_among_them_are_named() -> None:
    then = np.repeat(np.arange(0, 2 * BARS, 2), 10)
    found = drawn(one(ColumnType.NUMERIC, "int64", then), np.array([0, 3, 3, 99]))
    named = {bar.label: (bar.baseline, bar.window) for bar in found}
    assert len(found) == BARS + 2
    assert named["0"] == (1 / BARS, 0.25)
    assert named["2 … 4"] == (0.0, 0.5)
    assert named["> 38"] == (0.0, 0.25)


def test_many_integers_never_share_an_edge_with_half_a_number() -> None:
    rng = np.random.default_rng(4)
    found = drawn(one(ColumnType.NUMERIC, "int64", rng.integers(0, 31, 2000)), np.arange(31))
    assert all(float(bar.edge).is_integer() for bar in found if bar.edge)


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ([True, False], [True, True], [(0.5, 0.0), (0.5, 1.0)]),
        ([True, True], [True, False], [(0.0, 0.5), (1.0, 0.5)]),
        ([False, False], [True, False], [(1.0, 0.5), (0.0, 0.5)]),
        ([False, True], [], [(0.5, 0.0), (0.5, 0.0)]),
    ],
)
def test_booleans_are_false_and_true_even_where_training_knew_but_one(
    then: list[bool], now: list[bool], expected: list[tuple[float, float]]
) -> None:
    found = drawn(one(ColumnType.BOOLEAN, "bool", np.array(then * 100)), np.array(now, dtype=bool))
    assert [bar.label for bar in found] == ["false", "true"]
    assert [(bar.baseline, bar.window) for bar in found] == expected


def test_categories_are_ranked_and_new_ones_are_gathered() -> None:
    then = np.array(["a"] * 60 + ["b"] * 40 + [None] * 10, dtype=object)
    found = drawn(one(ColumnType.CATEGORICAL, "string", then), np.array(["b", "z", "", "y"], dtype=object))
    assert [(bar.label, bar.baseline) for bar in found] == [("(new)", 0.0), ("a", 0.6), ("b", 0.4)]
    assert [bar.window for bar in found] == [pytest.approx(2 / 3), 0.0, pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    ("kind", "dtype", "then"),
    [
        (ColumnType.NUMERIC, "float64", np.full(200, 7.5)),
        (ColumnType.NUMERIC, "float64", np.full(200, np.nan)),
        (ColumnType.NUMERIC, "float64", np.concatenate([np.linspace(-1, 1, 300) * 1e308, [np.inf]])),
        (ColumnType.NUMERIC, "float64", np.arange(1, 200) * 5e-324),
        (ColumnType.CATEGORICAL, "string", np.array([None] * 200, dtype=object)),
    ],
)
def test_extreme_columns_have_a_chart_too(
    kind: ColumnType, dtype: str, then: npt.NDArray[np.generic]
) -> None:
    baseline = one(kind, dtype, then)
    for window in (then, then[:0]):
        found = drawn(baseline, window)
        assert all(0 <= share <= 1 for bar in found for share in (bar.baseline, bar.window))
        assert "<svg" in chart(baseline.columns[0], found, title="x", description="x")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9), st.booleans())
def test_edges_are_round_few_and_reach_around_the_bulk(low: float, width: float, whole: bool) -> None:
    high = low + width
    edges = _round_edges(low, high, whole=whole)
    assert 1 <= edges.size <= BINS + 2
    if edges.size > 1:
        steps = {b - a for a, b in pairwise(edges.tolist())}
        step = min(steps)
        assert max(steps) == pytest.approx(step, rel=1e-3)
        assert not whole or step >= 1
        assert edges[0] <= low + step
        assert edges[-1] >= high - step * 1e-3 - abs(high) * 1e-12


def packed(states: list[ColumnState], evidence: list[float]) -> bytes:
    order = list(ColumnState)
    return (
        bytes(order.index(state) for state in states)
        + np.full(len(states), -1, "<f4").tobytes()
        + np.array(evidence, "<f4").tobytes()
    )


def test_a_series_holds_what_one_by_one_decoding_finds() -> None:
    rng = np.random.default_rng(5)
    order = list(ColumnState)
    rows = [
        packed([order[i] for i in rng.integers(0, len(order), 4)], rng.exponential(1, 4).tolist())
        for _ in range(50)
    ]
    drift, evidence = decode_series(rows)
    single, alone = decode_series(rows, 2)
    for index, row in enumerate(rows):
        states, _, values = decode_states(row)
        assert drift[index] == (ColumnState.DRIFT in states)
        assert evidence[index] == values.max()
        assert (single[index], alone[index]) == (states[2] == ColumnState.DRIFT, values[2])


def test_a_series_of_other_columns_is_refused() -> None:
    stable = [ColumnState.STABLE]
    with pytest.raises(DamagedEvaluation):
        decode_series([packed(stable, [0.0]), packed(stable * 2, [0.0, 0.0])])
    with pytest.raises(DamagedEvaluation):
        decode_series([b"12345"])
    assert decode_series([])[1].size == 0


def test_thinning_keeps_the_peaks_and_every_stretch_of_drift() -> None:
    calm, moved = [ColumnState.STABLE], [ColumnState.DRIFT]
    rows = [
        (60 * i, packed(moved if i == 7777 else calm, [50.0 if i == 4321 else 0.01])) for i in range(10_080)
    ]
    found = points(rows)
    assert len(found) <= POINTS
    assert max(found, key=lambda point: point.value).at == 60 * 4321
    assert sum(point.drift for point in found) == 1
    assert [point.at for point in found] == sorted(point.at for point in found)
    assert points([]) == []
