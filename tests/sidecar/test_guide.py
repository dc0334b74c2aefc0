"""Counting with a guide is searching the cuts for each value, whatever the cuts and the values are."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from driftd_sidecar._guide import Guide, scale_of

MOST32 = float(np.finfo(np.float32).max)
SPREADS: Mapping[str, Callable[[np.random.Generator, int], Any]] = {
    "normal": lambda rng, n: rng.normal(3, 20, n),
    "uniform": lambda rng, n: rng.random(n),
    "far from zero": lambda rng, n: 1e6 + rng.random(n),
    "integers": lambda rng, n: rng.integers(-40, 60, n),
    "times": lambda rng, n: rng.exponential(5.0, n),
    "amounts": lambda rng, n: rng.lognormal(3.0, 2.0, n),
    "long tail": lambda rng, n: rng.pareto(0.7, n),
    "amounts and nothing": lambda rng, n: rng.lognormal(3.0, 2.0, n) * (rng.random(n) < 0.3),
    "amounts and a sign for none": lambda rng, n: np.where(rng.random(n) < 0.2, -1, rng.lognormal(3, 2, n)),
    "negative amounts": lambda rng, n: -rng.lognormal(3.0, 2.0, n),
    "gains and losses": lambda rng, n: rng.standard_cauchy(n) ** 3,
    "two heaps": lambda rng, n: rng.normal(0, 1e-6, n) + 1e6 * (rng.random(n) < 0.5),
}
CUTS: Mapping[str, list[float]] = {
    "one": [0.5],
    "zero": [0.0],
    "one below zero": [-3.0],
    "neighbours": [1.0, float(np.nextafter(np.float32(1), np.float32(2)))],
    "the ends of the range": [-MOST32, -1.0, 0.0, 1.0, MOST32],
    "the smallest numbers": [-1e-45, 0.0, 1e-45, 2.8e-45],
    "the smallest and the largest": [1e-45, 1.0, MOST32],
    "up to zero": [-2.0, -1.0, 0.0],
}


def all_sorts_of(cuts: Any) -> Any:
    """Values on, beside and between the cuts, and at the ends of the range."""
    kind = cuts.dtype.type
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(kind).max, np.finfo(kind).tiny], kind)
    with np.errstate(over="ignore"):
        beside = [np.nextafter(cuts, kind(np.inf)), np.nextafter(cuts, kind(-np.inf))]
        return np.concatenate([cuts, -cuts, *beside, cuts * kind(1.001), cuts / 2, ends, -ends])


def check(*columns: tuple[Any, Any]) -> None:
    """Columns of one kind, each with its cuts and as many values."""
    guide = Guide([scale_of(cuts) for cuts, _ in columns])
    found = guide.count(np.stack([values for _, values in columns]))
    for (cuts, values), counts in zip(columns, found, strict=True):
        cells = np.searchsorted(cuts, values, side="left") + np.searchsorted(cuts, values, side="right")
        np.testing.assert_array_equal(counts, np.bincount(cells, minlength=2 * cuts.size + 1))
    nothing = guide.count(np.empty((len(columns), 0), columns[0][0].dtype))
    assert [each.tolist() for each in nothing] == [[0] * (2 * cuts.size + 1) for cuts, _ in columns]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("most", [20, 1023])
def test_values_fall_into_the_cells_in_which_a_search_finds_them(dtype: Any, spread: str, most: int) -> None:
    rng = np.random.default_rng(21)
    trained = np.sort(SPREADS[spread](rng, 50_000)).astype(dtype)
    cuts = np.unique(trained[np.linspace(0, trained.size - 1, most).astype(int)]) + dtype(0)
    values = np.concatenate([all_sorts_of(cuts), (2 * SPREADS[spread](rng, 5000)).astype(dtype)])
    check((cuts, values))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CUTS)
def test_odd_cuts_are_found_as_well(dtype: Any, name: str) -> None:
    cuts = np.array(CUTS[name], dtype)
    check((cuts, all_sorts_of(cuts)))


def test_more_cuts_than_fit_sixteen_bits() -> None:
    cuts = np.sort(np.random.default_rng(22).normal(size=40_000))
    check((cuts, all_sorts_of(cuts)))


@pytest.mark.parametrize("spread", SPREADS)
def test_a_value_is_compared_with_few_cuts_on_columns_as_they_are(spread: str) -> None:
    trained = np.sort(SPREADS[spread](np.random.default_rng(23), 50_000)).astype(np.float32)
    cuts = np.unique(trained[np.linspace(0, trained.size - 1, 1023).astype(int)])
    assert scale_of(cuts).steps <= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", ["normal", "amounts", "gains and losses"])
def test_columns_that_are_counted_together_keep_to_their_own_cells(dtype: Any, spread: str) -> None:
    rng = np.random.default_rng(24)
    kinds: dict[object, list[tuple[Any, Any]]] = {}
    for most in (30, 40, 1000, 1010, 1023, 3, 7, 900, 950):
        trained = np.sort(SPREADS[spread](rng, 50_000) * rng.uniform(0.1, 90)).astype(dtype)
        cuts = np.unique(trained[np.linspace(0, trained.size - 1, most).astype(int)])
        picked = rng.choice(np.concatenate([all_sorts_of(cuts), trained]), 3000)
        kinds.setdefault(scale_of(cuts).kind, []).append((cuts, picked))
    assert max(map(len, kinds.values())) > 2
    for columns in kinds.values():
        check(*columns)
