"""Learning from live traffic: what is learned, that it is kept, and that the next version inherits it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from detectors.decision import Calibration, CalibrationSource, ColumnLearning, EventIndex, unlearned
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


def test_while_a_column_is_learning_no_window_has_thresholds_below_an_hours(world: World) -> None:
    hours(world, 0, 30)
    assert in_force(world).thresholds.theta[:, 0].tolist() == [0.35] * 3


def test_an_alert_outlasts_two_of_its_columns_own_learned_blocks(world: World) -> None:
    """Configured are blocks of 1 h and a hold of 10 m; what `temp` has learned are blocks of 6 h."""
    plain = unlearned(EventIndex.of(BASELINE), [3600, 21600, 86400], 3600)
    lengths = np.where(np.arange(len(plain.states)) == 0, 21_600, 3_600)
    learned = replace(
        plain,
        block_seconds=lengths.astype(np.int64),
        states=(ColumnLearning.LEARNED,) * lengths.size,
        source=CalibrationSource.TRAINING,
    )
    new = baselines.NewCalibration(
        version_id=1,
        baseline_id=1,
        segment="",
        valid_from=-(2**62),
        source="training",
        span_start=0,
        span_end=0,
        blob=learned.encode(),
    )
    world.service.database.write(lambda conn: baselines.add_calibration(conn, new)).result()
    hours(world, 0, 24)
    hours(world, 100, 60, shift=25.0)
    assert [a.column for a in world.alerts() if a.state == "firing"] == ["temp"]
    hours(world, 200, 60)
    (alert,) = [a for a in world.alerts() if a.column == "temp"]
    at = {step.reason: step.at for step in world.history(alert.id)}
    assert at["resolved"] - at["subsided"] == 12 * HOUR
