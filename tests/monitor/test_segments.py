"""Segments: watched by themselves, bounded in number, and inside the same budget."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from monitor.segments import SEGMENTS_PER_BASELINE
from monitor.track import rule_of
from storage import panes
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.world import CONFIG, World
from tests.postgres import on_both

BASELINE = frames.baseline()
MINUTE = timedelta(minutes=1)
REGIONS = ["eu", "us", "us", "us"]


@pytest.fixture
def world(where: Path | Address) -> Iterator[World]:
    opened = World(where, config=CONFIG.replace("lateness", 'segments = ["region"]\nlateness'))
    opened.register(BASELINE)
    yield opened
    opened.close()


def minute(world: World, seed: int, *, shift: float = 0.0, rows: int = 120) -> None:
    """A minute of traffic in which only the rows of `eu`, a quarter, are moved."""
    at = world.clock.now()
    world.clock.advance(MINUTE)
    values = frames.rows(seed, rows)
    regions = [REGIONS[row % 4] for row in range(rows)]
    moved = frames.rows(seed, rows, shift=shift)["temp"]
    values["temp"] = np.where(np.array(regions) == "eu", moved, values["temp"]).astype(np.float32)
    world.send(at, values, spread=timedelta(seconds=59), tags={"region": list(regions)})
    world.look()


@on_both
def test_each_value_is_counted_by_itself_and_all_of_them_in_the_whole(world: World) -> None:
    for seed in range(3):
        minute(world, seed)
    with world.service.database.read() as conn:
        rows = {
            s: sum(p.rows for p in panes.window(conn, 1, s, 60, 0, 2**40)) for s in panes.segments_of(conn, 1)
        }
    assert rows == {"": 360, "region=eu": 90, "region=us": 270}


def test_drift_of_one_region_is_told_as_its_own(world: World) -> None:
    for seed in range(60):
        minute(world, seed, shift=30.0)
    found = {(a.segment, a.column) for a in world.alerts() if a.state == "firing"}
    assert ("region=eu", "temp") in found
    assert not {alert for alert in found if alert[0] == "region=us"}


def test_a_restart_knows_the_segments_again(world: World) -> None:
    for seed in range(12):
        minute(world, seed, shift=30.0)
    world.restart()
    for seed in range(12, 60):
        minute(world, seed, shift=30.0)
    assert ("region=eu", "firing") in {(a.segment, a.state) for a in world.alerts()}


def test_a_tag_that_is_an_id_fills_no_disk(world: World) -> None:
    at = world.clock.now()
    world.clock.advance(MINUTE)
    values = frames.rows(1, 200)
    world.send(at, values, tags={"region": [f"user-{n}" for n in range(200)]})
    world.look()
    with world.service.database.read() as conn:
        found = panes.segments_of(conn, 1)
    assert len(found) == SEGMENTS_PER_BASELINE + 1
    with world.service.database.read() as conn:
        assert sum(p.rows for p in panes.window(conn, 1, "", 60, 0, 2**40)) == 200


def test_rows_without_the_tag_belong_to_no_segment(world: World) -> None:
    at = world.clock.now()
    world.clock.advance(MINUTE)
    world.send(at, frames.rows(1, 4), tags={"region": ["eu", None, "", "eu"]})
    world.send(at, frames.rows(2, 5))
    world.look()
    with world.service.database.read() as conn:
        rows = {
            s: sum(p.rows for p in panes.window(conn, 1, s, 60, 0, 2**40)) for s in panes.segments_of(conn, 1)
        }
    assert rows == {"": 9, "region=eu": 2}


def test_the_budget_of_all_that_may_page_is_the_models(world: World) -> None:
    minute(world, 1)
    minute(world, 2)
    settings = world.config.settings("credit")
    evaluator = world.service.pipeline._evaluators[1]
    tracks = [evaluator._tracks.get(1, segment) for segment in ("", "region=eu", "region=us")]
    shares = [float(track.rule.shares.sum()) for track in tracks if track is not None]
    assert shares == pytest.approx([0.5, 0.25, 0.25])
    assert float(rule_of(BASELINE, settings, share=1.0).shares.sum()) == pytest.approx(1.0)
