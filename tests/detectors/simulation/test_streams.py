"""The rows that are simulated: their cells are the shipped ones, and their shares those of the normal law."""

import numpy as np
import pytest
from scipy import stats

from detectors.cells import count_cells
from detectors.columns import NumericColumn
from detectors.simulation.scenarios import SCENARIOS, Scenario, Shift, scenario_of
from detectors.simulation.streams import Streams
from detectors.types import DetectorError
from tests.detectors.simulation.worlds import UNSTEADY, streams_of


def test_a_value_gets_the_cell_that_the_shipped_count_gives_it() -> None:
    grid = streams_of(SCENARIOS["iid_60"]).grid
    column = grid.baseline.columns[0]
    assert isinstance(column, NumericColumn)
    rng = np.random.default_rng(11)
    values = np.concatenate(
        [rng.normal(size=20_000), rng.normal(scale=40.0, size=500), column.cuts + 1e-7, [1e30, -1e30]]
    ).astype(np.float32)
    values = values[~np.isin(values, column.cuts.astype(np.float32))]
    shipped, missing, infinite = count_cells(values, column.cuts)
    counted = np.bincount(grid.rulers[0].cells(values), minlength=column.cuts.size + 1)
    assert (missing, infinite) == (0, 0)
    assert shipped[1::2].sum() == 0
    np.testing.assert_array_equal(counted, shipped[::2])


def test_a_value_on_a_cut_counts_as_at_or_below_it() -> None:
    ruler = streams_of(SCENARIOS["iid_60"]).grid.rulers[1]
    np.testing.assert_array_equal(ruler.cells(ruler.cuts), np.arange(ruler.cuts.size))


@pytest.mark.parametrize(
    ("shift", "mean", "scale"),
    [(None, 0.0, 1.0), (Shift(mean_sd=0.5), 0.5, 1.0), (Shift(scale=2.0), 0.0, 2.0)],
)
def test_counts_have_the_normal_law_of_the_scenario(shift: Shift | None, mean: float, scale: float) -> None:
    """Chi-square of 200 000 rows on all cells, merged to 50 expected, against Phi at the cuts."""
    streams = streams_of(Scenario(about="", rows_per_minute=100.0, shift=shift), columns=1, seed=21)
    streams.shift_at = 0
    ruler = streams.grid.rulers[0]
    chunk = streams.take(2_000)
    observed = np.bincount(chunk.cells[0], minlength=ruler.cuts.size + 1)
    edges = np.concatenate([[-np.inf], ruler.cuts.astype(np.float64), [np.inf]])
    expected = np.diff(stats.norm.cdf(edges, mean, scale)) * observed.sum()
    group = np.cumsum(expected) // 50
    first = np.flatnonzero(np.diff(group, prepend=-1.0))
    sums = np.add.reduceat(observed, first), np.add.reduceat(expected, first)
    assert 1e-3 < stats.chisquare(*sums).pvalue < 1.0 - 1e-3
    assert sums[0].size > 500


def test_rows_arrive_by_a_poisson_process_in_whole_batches() -> None:
    rows = streams_of(SCENARIOS["batches_2"], columns=1).take(50_000).rows
    assert set(np.unique(rows % 10)) == {0}
    # Batches of 10 at .2 a minute: mean 2 and variance 20 rows.
    assert rows.mean() == pytest.approx(2.0, abs=4 * np.sqrt(20 / 50_000))
    assert rows.var() == pytest.approx(20.0, rel=0.05)


def test_a_wander_has_its_spread_and_its_memory() -> None:
    scenario = Scenario(about="", rows_per_minute=400.0, wander_sd=1.0, wander_minutes=30.0)
    streams = Streams(scenario, 1, np.random.SeedSequence(4), sums=True)
    chunk = streams.take(20_000)
    assert chunk.sums is not None
    level = chunk.sums[:, 0, 0] / chunk.rows
    # 20 000 minutes are some 330 independent levels.
    assert level.std() == pytest.approx(1.0, abs=0.15)
    lagged = np.corrcoef(level[:-30], level[30:])[0, 1]
    assert lagged == pytest.approx(np.exp(-1.0), abs=0.12)


def test_training_has_the_whole_spread_of_the_process() -> None:
    strong = SCENARIOS["strong_60"]
    grid = streams_of(strong).grid
    # Row, daily cycle and wander; weekends are two days of seven.
    spread = np.sqrt(1.0 + 0.4**2 / 2 + 0.2**2 + 0.2**2 * 2 / 7 * 5 / 7)
    np.testing.assert_allclose(grid.spread, spread, rtol=0.04)


def test_chunks_of_any_length_hold_the_same_rows() -> None:
    whole, parts = streams_of(UNSTEADY), streams_of(UNSTEADY)
    one = whole.take(300)
    many = [parts.take(minutes) for minutes in (1, 76, 223)][-1]
    np.testing.assert_array_equal(one.rows, many.rows)
    for a, b in zip(one.cells, many.cells, strict=True):
        np.testing.assert_array_equal(a, b)


def test_history_is_a_day() -> None:
    streams = streams_of(SCENARIOS["iid_2"])
    streams.take(2_000)
    chunk = streams.take(10)
    assert (chunk.first, chunk.start, chunk.stop) == (560, 2_000, 2_010)
    assert chunk.cells[0].size == chunk.rows.sum() == chunk.offsets[-1]


def test_an_unknown_scenario_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(DetectorError, match="no scenario 'iid'; there are iid_60, iid_2"):
        scenario_of("iid")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(DetectorError, match="rows_per_minute"):
        scenario_of("iid_60", rate)
