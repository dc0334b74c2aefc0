"""What the windows show is what the shipped detectors say of the same rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from detectors import ks, psi
from detectors.decision import EventIndex, Windows, effects, resolve_thresholds
from detectors.simulation.looking import Look
from detectors.simulation.rules import DAY_WINDOW, WINDOW_MINUTES, critical_distance, wasserstein
from detectors.simulation.scenarios import SCENARIOS, Scenario
from detectors.simulation.streams import Streams
from tests.detectors.simulation.worlds import UNSTEADY, look_at, slots, streams_of

SECONDS = tuple(60 * minutes for minutes in WINDOW_MINUTES)


@pytest.mark.parametrize("name", ["strong_60", "batches_2", "iid_2"])
def test_statistics_are_those_of_the_shipped_kernels(name: str) -> None:
    streams = streams_of(SCENARIOS[name])
    look = look_at(streams, 1_300, 400)
    index = EventIndex.of(streams.grid.baseline)
    for at in (0, 133, 399):
        stop = look.chunk.new + at + 1
        counts = np.stack([slots(streams, look.chunk, max(stop - w, 0), stop) for w in WINDOW_MINUTES])
        rows = np.array([look.rows(w)[at] for w in range(4)])
        shipped = effects(
            index,
            Windows(
                seconds=np.array(SECONDS),
                counts=counts,
                rows=rows,
                ks=ks.kernel(streams.grid.baseline, counts, rows).statistic,
                psi=psi.kernel(streams.grid.baseline, counts, rows).statistic,
            ),
            resolve_thresholds(SECONDS, ["x00", "x01"]),
        )
        for window in range(4):
            for kind, found in _found(look, window, at):
                valid = shipped.valid[kind, window]
                np.testing.assert_allclose(
                    found[valid], shipped.statistic[kind, window][valid], rtol=1e-12, atol=1e-15
                )


def _found(look: Look, window: int, at: int) -> list[tuple[int, npt.NDArray[Any]]]:
    columns = range(2)
    return [
        (0, np.array([look.distances(c, window)[at] for c in columns])),
        (1, np.array([look.psi(c, window)[at] for c in columns])),
        (4, np.array([look.out_of_range(c, window)[at] for c in columns])),
    ]


@pytest.mark.parametrize("window", range(4))
@pytest.mark.parametrize("theta", [0.02, 0.08, 0.15, 0.35])
@pytest.mark.parametrize(
    "scenario", [UNSTEADY, SCENARIOS["batches_60"], SCENARIOS["iid_2"]], ids=["unsteady", "batches", "thin"]
)
def test_skipping_looks_decides_as_a_look_every_minute_does(
    scenario: Scenario, theta: float, window: int
) -> None:
    streams = streams_of(scenario, seed=9)
    look = look_at(streams, 700, 500)
    every = look.distances(0, window)
    skipping = Look(streams.grid, look.chunk, WINDOW_MINUTES)
    threshold = np.full(500, theta)
    expected = (every >= threshold) & (look.rows(window) >= 30)
    np.testing.assert_array_equal(skipping.ks_reaches(0, window, threshold), expected)


@pytest.mark.parametrize("window", range(4))
@pytest.mark.parametrize(
    "scenario", [UNSTEADY, SCENARIOS["batches_60"], SCENARIOS["iid_2"]], ids=["unsteady", "batches", "thin"]
)
def test_the_peak_is_the_largest_of_all_minutes(scenario: Scenario, window: int) -> None:
    streams = streams_of(scenario, seed=9)
    look = look_at(streams, 500)
    allowed = np.arange(500) >= 60
    every = look.distances(0, window)[allowed & (look.rows(window) >= 30)]
    fresh = Look(streams.grid, look.chunk, WINDOW_MINUTES)
    assert fresh.ks_peak(0, window, allowed) == every.max(initial=-1.0)
    below, over = np.nextafter(every.max(initial=0.0), 0.0), every.max(initial=0.0) + 0.01
    assert fresh.ks_peak(0, window, allowed, above=below) == every.max(initial=below)
    assert fresh.ks_peak(0, window, allowed, above=over) == over


def test_some_minutes_are_those_of_the_run_over_all() -> None:
    look = look_at(streams_of(UNSTEADY), 200, 300)
    for window in range(4):
        run = look.distances(1, window)
        for some in ([0], [299], [0, 64, 299], list(range(5, 290, 3)), []):
            at = np.array(some, dtype=np.int64)
            assert np.array_equal(look.distances(1, window, at), run[at])


@pytest.mark.parametrize("mean", [0.0, 0.1, 0.5])
def test_the_peers_distance_is_scipys_within_the_stated_error(
    mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw rows whose cells are the stream's: scipy has no use for cells."""
    trained: list[npt.NDArray[np.float32]] = []
    original = Streams._training

    def kept(self: Streams, c: int) -> npt.NDArray[np.float32]:
        trained.append(original(self, c))
        return trained[-1]

    monkeypatch.setattr(Streams, "_training", kept)
    streams = streams_of(Scenario(about="", rows_per_minute=4.0), columns=1, seed=2)
    grid = streams.grid
    rng = np.random.default_rng(3)
    values = rng.normal(mean, 1.0, 5_760).astype(np.float32)
    chunk = streams.take(1_440)
    drawn = np.full(1_440, 4)
    replaced = type(chunk)(
        first=0,
        start=0,
        stop=1_440,
        weight=1,
        rows=drawn,
        offsets=np.arange(1_441) * 4,
        cells=(grid.rulers[0].cells(values),),
        sums=None,
    )
    found = wasserstein(Look(grid, replaced, WINDOW_MINUTES), 0, DAY_WINDOW)[-1]
    raw = stats.wasserstein_distance(trained[0], values) / grid.spread[0]
    assert found == pytest.approx(raw, abs=0.002, rel=0.03 if mean > 0.1 else 0.0)


def test_moments_are_those_of_the_rows() -> None:
    streams = Streams(SCENARIOS["iid_60"], 1, np.random.SeedSequence(1), sums=True)
    look = look_at(streams, 1_500, 10)
    mean, variance = look.moments(0, DAY_WINDOW)
    n = look.rows(DAY_WINDOW)[-1]
    assert abs(mean[-1]) < 4 / np.sqrt(n)
    assert variance[-1] == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 36])
def test_the_critical_distance_is_scipys(alpha: float) -> None:
    sizes = np.array([23, 142, 1_111, 2_236, 7_003, 8_964])
    np.testing.assert_allclose(critical_distance(alpha, sizes), stats.kstwo.isf(alpha, sizes), rtol=2e-6)
