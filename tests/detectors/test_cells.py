"""Cut points hold what they promise, and every value is counted in its cell."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.cells import EVIDENCE_PERCENTS, choose_cuts, count_cells, narrow_cuts
from detectors.types import DetectorError

any_floats = hnp.arrays(
    np.float64,
    st.integers(0, 200),
    elements=st.one_of(
        st.floats(allow_nan=True, allow_infinity=True),
        st.integers(-5, 5).map(float),
        st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan]),
    ),
)
cut_sets = st.sets(st.integers(-5, 5).map(float), min_size=1).map(lambda found: np.array(sorted(found)))


def naive_cells(values: npt.NDArray[Any], cuts: npt.NDArray[np.float64]) -> list[int]:
    cells = [0] * (2 * len(cuts) + 1)
    for value in values.astype(np.float64):
        if not np.isnan(value):
            below = sum(1 for cut in cuts if cut < value)
            cells[2 * below + (1 if value in cuts else 0)] += 1
    return cells


@given(any_floats, cut_sets)
def test_counting_agrees_with_counting_one_by_one(
    values: npt.NDArray[np.float64], cuts: npt.NDArray[np.float64]
) -> None:
    cells, missing, non_finite = count_cells(values, cuts)
    assert cells.tolist() == naive_cells(values, cuts)
    assert missing == np.isnan(values).sum()
    assert non_finite == np.isinf(values).sum()


@given(any_floats, cut_sets, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    values: npt.NDArray[np.float64], cuts: npt.NDArray[np.float64], random: Any
) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)
    first, second = count_cells(values, cuts), count_cells(shuffled, cuts)
    assert first[0].tolist() == second[0].tolist()
    assert first[1:] == second[1:]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16", "int64", "bool"])
def test_every_dtype_is_counted_by_its_value(dtype: str) -> None:
    values = np.array([0, 1, 1, 0, 1]).astype(dtype)
    cells, missing, non_finite = count_cells(values, np.array([0.0, 1.0]))
    assert (cells.tolist(), missing, non_finite) == ([0, 2, 0, 3, 0], 0, 0)


def test_float32_values_are_compared_with_float64_cuts_exactly() -> None:
    tenth = np.array([0.1], dtype=np.float32)
    assert narrow_cuts(np.array([0.1])) is None
    assert count_cells(tenth, np.array([0.1]))[0].tolist() == [0, 0, 1]
    assert count_cells(tenth, tenth.astype(np.float64))[0].tolist() == [0, 1, 0]


def test_infinities_are_in_the_end_cells_and_counted_beside() -> None:
    cells, missing, non_finite = count_cells(np.array([-np.inf, np.inf, np.nan, 5.0]), np.array([5.0]))
    assert (cells.tolist(), missing, non_finite) == ([1, 1, 1], 1, 2)


def test_few_distinct_values_are_all_cuts() -> None:
    cuts, exact, deciles, evidence = choose_cuts(np.array([2.0, -0.0, 0.0, 1.0] * 25))
    assert cuts.tolist() == [0.0, 1.0, 2.0]
    assert not np.signbit(cuts).any()
    assert exact
    assert deciles.tolist() == [0, 1]
    assert evidence.shape == (13,)


@pytest.mark.parametrize("cap", [23, 64, 100, 1024])
@pytest.mark.parametrize("kind", ["normal", "heavy", "zero-inflated", "rounded"])
def test_order_statistics_bound_every_open_interval_and_hold_all_quantiles(cap: int, kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "normal": rng.normal(size=7_919),
        "heavy": rng.standard_cauchy(size=7_919),
        "zero-inflated": np.where(rng.random(7_919) < 0.7, 0.0, rng.normal(size=7_919)),
        "rounded": np.round(rng.normal(size=7_919) * 300),
    }[kind]
    cuts, exact, deciles, evidence = choose_cuts(values, cap)
    assert cuts.size <= cap
    assert not exact
    assert (np.diff(cuts) > 0).all()
    assert (cuts[0], cuts[-1]) == (values.min(), values.max())
    inside = count_cells(values, cuts)[0][0::2]
    k = (cap - 3) // 20 * 20
    assert inside.max() < values.size / k
    quantiles = np.quantile(values, np.array(EVIDENCE_PERCENTS) / 100, method="inverted_cdf")
    assert cuts[evidence].tolist() == quantiles.tolist()
    tenths = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf")
    assert cuts[deciles].tolist() == np.unique(tenths).tolist()


def test_a_constant_column_has_three_cells_and_no_decile() -> None:
    cuts, exact, deciles, evidence = choose_cuts(np.full(100, 7.0))
    assert (cuts.tolist(), exact, deciles.tolist(), evidence.tolist()) == ([7.0], True, [], [0] * 13)


def test_no_finite_value_keeps_the_shapes() -> None:
    cuts, exact, deciles, evidence = choose_cuts(np.full(100, np.nan))
    assert (cuts.tolist(), exact, deciles.tolist(), evidence.tolist()) == ([0.0], True, [], [0] * 13)


def test_an_infinity_among_the_training_values_makes_no_cut_and_no_exactness() -> None:
    cuts, exact, _, _ = choose_cuts(np.array([1.0, 2.0, -np.inf, np.inf]))
    assert (cuts.tolist(), exact) == ([1.0, 2.0], False)


def test_too_small_a_cap_is_refused() -> None:
    with pytest.raises(DetectorError, match="at least 23"):
        choose_cuts(np.arange(100.0), cap=22)
