"""A wall clock that is set by an hour or a day, under a whole daemon: no false page, none lost, none late."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.lifecycle import Condition
from storage import outbox
from tests.monitor import frames
from tests.monitor.test_routes import drift, say, told
from tests.monitor.world import World

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
STEPS = [-HOUR, HOUR, -24 * HOUR, 24 * HOUR]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.register(frames.baseline())
    yield world
    world.close()


@pytest.mark.parametrize("step", STEPS)
def test_steady_traffic_pages_nobody_and_is_accepted_and_judged_on(world: World, step: timedelta) -> None:
    for minute in range(75):
        world.minute(minute)
    world.clock.step(step)
    for minute in range(80, 100):
        world.minute(minute)
    assert world.alerts() == []
    assert world.unfolded() == 0
    world.clock.step(-step)
    for minute in range(100, 125):
        world.minute(minute)
    assert world.alerts() == []
    evaluated = world.service.pipeline.cursor(1).evaluated_upto
    assert evaluated is not None
    # At most the step is waited for: what was judged is never judged again.
    assert evaluated >= int(world.clock.now().timestamp()) - 120


@pytest.mark.parametrize("step", STEPS)
def test_silence_is_still_missed_after_a_quarter_of_an_hour(world: World, step: timedelta) -> None:
    for minute in range(75):
        world.minute(minute)
    world.clock.step(step)
    world.clock.advance(14 * MINUTE)
    world.look()
    assert world.alerts() == []
    world.clock.advance(2 * MINUTE)
    world.look()
    assert [a.kind for a in world.alerts()] == ["no_traffic"]


@pytest.mark.parametrize("step", STEPS)
def test_what_waits_is_sent_when_it_would_have_been(world: World, step: timedelta) -> None:
    world.wire.status = 503
    say(world, drift("m"), Condition.TRUE)
    world.look()
    world.wire.sent.clear()
    world.wire.status = 200
    world.clock.step(step)
    if step < timedelta(0):
        world.service.database.write(lambda conn: outbox.shift(conn, step)).result()
    world.clock.advance(MINUTE)
    world.look()
    assert told(world) == [("hook", "firing")]
    say(world, drift("m", "age"), Condition.TRUE)  # news is not kept for a future attempt
    world.clock.advance(2 * MINUTE)
    world.look()
    world.look()
    assert told(world) == [("hook", "firing")]
    say(world, drift("m", "age"), Condition.FALSE)
    say(world, drift("m"), Condition.FALSE)
    world.clock.advance(2 * MINUTE)
    world.look()
    assert told(world) == [("hook", "resolved")]
