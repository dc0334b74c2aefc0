"""Learning from live traffic: what is learned, that it is kept, and that the next version inherits it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from detectors.decision import Calibration, ColumnLearning
from monitor.backtest import backtest
from monitor.explanation import explain
from storage import baselines
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.world import CONFIG, World

HOURLY = (
    CONFIG.replace('pane = "1m"', 'pane = "1h"')
    .replace('windows = ["15m", "1h"]', 'windows = ["1h", "6h", "24h"]')
    .replace('evidence_block = "1m"', 'evidence_block = "1h"')
    .replace("learning = false", "learning = true")
)
BASELINE = frames.baseline(pane_seconds=3600)
HOUR = timedelta(hours=1)


@pytest.fixture
def world(where: Path | Address) -> Iterator[World]:
    opened = World(where, config=HOURLY)
    opened.register(BASELINE)
    yield opened
    opened.close()


def hours(world: World, first: int, count: int, *, shift: float = 0.0, version: str = "1") -> None:
    for hour in range(first, first + count):
        at = world.clock.now()
        world.clock.advance(HOUR)
        rows = frames.rows(hour, 600, shift=shift)
        world.send(at, rows, spread=timedelta(minutes=59), version=version)
        world.look()


def stored(world: World, baseline_id: int = 1) -> Calibration | None:
    with world.service.database.read() as conn:
        row = baselines.calibration_at(conn, baseline_id, "", 2**62)
    return None if row is None else Calibration.decode(row.blob)


def in_force(world: World, baseline_id: int = 1) -> Calibration:
    track = world.service.pipeline._evaluators[1]._tracks.get(baseline_id, "")
    assert track is not None
    return track.calibration


def test_two_weeks_of_steady_traffic_are_learned_kept_and_inherited(world: World) -> None:
    """One long story, because two weeks of looks take their time."""
    hours(world, 0, 24 * 13)
    assert set(in_force(world).states) == {ColumnLearning.LEARNING}
    assert stored(world) is None
    world.restart()
    hours(world, 24 * 13, 32)
    learned = stored(world)
    assert learned is not None
    assert set(learned.states) == {ColumnLearning.LEARNED}
    world.restart()
    hours(world, 24 * 15, 2)
    assert in_force(world).encode() == learned.encode()
    assert world.alerts() == []
    retrained = frames.baseline(pane_seconds=3600, n=3900)
    world.register(retrained, version="2")
    hours(world, 24 * 16, 3, version="2")
    inherited = stored(world, 2)
    assert inherited is not None
    assert inherited.states == learned.states
    assert inherited.block_seconds.tolist() == learned.block_seconds.tolist()
    hours(world, 24 * 17, 30, shift=8.0, version="2")
    assert {a.column for a in world.alerts() if a.state == "firing"} == {"temp"}
    # What was learned, when, and by which version it was inherited, comes out of the store as it was.
    (report,) = backtest(world.service.database, world.config, last=timedelta(days=30))
    assert (report.changes, report.paged, report.would_page) == ((), 1, 1)
    (alert,) = [a for a in world.alerts() if a.column == "temp"]
    with world.service.database.read() as conn:
        explained = explain(conn, alert.id)
    assert explained.identical
    assert (explained.evidence.learning, explained.evidence.source) == ("learned", "traffic")
    assert {line.source for line in explained.effects if line.holds} <= {"learned", "chance"}


def test_while_a_column_is_learning_only_its_two_shortest_windows_page(world: World) -> None:
    hours(world, 0, 30)
    thresholds = in_force(world).thresholds
    assert (thresholds.theta[2] == float("inf")).all()
    assert (thresholds.theta[:2] < 1.0).all()
