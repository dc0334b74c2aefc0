"""Blocks under way when the daemon restarts, and when their configured length changes: each row is bet on once."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from detectors.decision import Evidence
from storage import cursors
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.world import CONFIG, World

HOURLY = (
    CONFIG.replace('pane = "1m"', 'pane = "1h"')
    .replace('windows = ["15m", "1h"]', 'windows = ["1h", "6h", "24h"]')
    .replace('evidence_block = "1m"', 'evidence_block = "6h"')
)
LEARNING = HOURLY.replace("learning = false", "learning = true")
HOUR = timedelta(hours=1)


@pytest.fixture
def world(where: Path | Address) -> Iterator[World]:
    opened = World(where, config=HOURLY)
    opened.register(frames.baseline(pane_seconds=3600))
    yield opened
    opened.close()


def hours(world: World, first: int, last: int) -> None:
    """Rows far from training in every hour of `first` to `last` of the day the world begins with."""
    for hour in range(first, last):
        at = world.clock.now()
        world.clock.advance(HOUR)
        world.send(at, frames.rows(hour, 100, shift=8.0), spread=timedelta(minutes=59))
        world.look()


def staked(world: World) -> float:
    """The largest bet of the stored evidence; 0 before the first block was bet on."""
    with world.service.database.read() as conn:
        stored = cursors.get_evidence(conn, 1, "")
    return 0.0 if stored is None else float(Evidence.decode(stored.state).r.max())


@pytest.mark.parametrize("config", [HOURLY, LEARNING])
def test_a_block_under_way_at_a_restart_is_bet_on_when_it_ends(world: World, config: str) -> None:
    world.restart(config)
    hours(world, 0, 4)
    world.restart()
    hours(world, 4, 8)
    assert staked(world) > 0.0


@pytest.mark.parametrize("config", [HOURLY, LEARNING])
def test_hours_that_were_bet_on_are_no_part_of_a_longer_block(world: World, config: str) -> None:
    world.restart(config.replace('evidence_block = "6h"', 'evidence_block = "1h"'))
    hours(world, 0, 4)
    before = staked(world)
    assert before > 0.0
    world.restart(config)
    hours(world, 4, 8)
    assert staked(world) == before  # the first six hours hold four that were bet on by themselves
    hours(world, 8, 14)
    assert staked(world) > before
