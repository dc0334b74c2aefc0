"""The daily digest: one message per model and day, only of what is on WATCH, to who wants warnings."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from monitor.digest import latest_time
from monitor.operations import add_silence
from tests.monitor import frames
from tests.monitor.world import CONFIG, START, World

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
RECEIVERS = """
[receivers.loud]
type = "webhook"
url = "https://loud.example/x"
min_severity = "critical"
[receivers.pager]
type = "pagerduty"
routing_key = "0123456789abcdef0123456789abcdef"
min_severity = "warning"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A candidate version that drifts: on WATCH, and never paged."""
    world = World(tmp_path, config=CONFIG + RECEIVERS, start=START + 7 * HOUR)
    world.register(frames.baseline(), stage="candidate")
    yield world
    world.close()


def watch(world: World, minutes: int, *, shift: float = 25.0) -> None:
    for minute in range(minutes):
        world.minute(int(world.clock.now().timestamp()) % 2**31 + minute, shift=shift)
        world.service.digest.run()


def digests(world: World) -> list[tuple[str, str]]:
    return [(n.receiver, n.status) for n in world.notifications() if n.kind == "digest"]


def test_it_comes_at_its_hour_names_what_is_on_watch_and_pages_nobody(world: World) -> None:
    watch(world, 59)
    assert digests(world) == []
    watch(world, 3)
    assert digests(world) == [("hook", "sent")]  # not the receiver of pages only, nor the pager
    body = json.loads(world.wire.sent[-1].body)
    assert body["driftd"]["title"] == "credit: 1 column to watch"
    assert [
        (a["labels"]["kind"], a["labels"]["column"], a["labels"]["severity"]) for a in body["alerts"]
    ] == [("watch", "temp", "warning")]
    assert world.alerts() == []
    watch(world, 30)
    assert len(digests(world)) == 1


def test_once_a_day_whatever_restarts_and_none_when_nothing_is_to_be_watched(world: World) -> None:
    watch(world, 62)
    for _ in range(3):
        world.restart()
        world.service.digest.run()
    world.clock.advance(22 * HOUR)
    world.restart()
    watch(world, 60)
    assert len(digests(world)) == 1
    watch(world, 60)
    assert len(digests(world)) == 2
    world.clock.advance(21 * HOUR)
    watch(world, 130, shift=0.0)
    assert len(digests(world)) == 2


def test_a_digest_missed_while_the_daemon_was_down_is_sent_when_it_is_up(world: World) -> None:
    watch(world, 30)
    world.clock.advance(HOUR)
    world.restart()
    for minute in range(15):
        world.minute(minute, shift=25.0)
    world.service.digest.run()
    assert len(digests(world)) == 1


def test_whoever_begins_at_noon_is_not_told_of_the_morning(tmp_path: Path) -> None:
    world = World(tmp_path, start=START + 12 * HOUR)
    world.register(frames.baseline(), stage="candidate")
    watch(world, 30)
    assert digests(world) == []
    world.close()


def test_a_silenced_column_and_a_digest_that_is_off_say_nothing(tmp_path: Path) -> None:
    for name, config in (
        ("silenced", CONFIG),
        ("off", CONFIG.replace("[alerts]", '[alerts]\ndigest_at = "off"')),
    ):
        world = World(tmp_path / name, config=config, start=START + 7 * HOUR)
        world.register(frames.baseline(), stage="candidate")
        if name == "silenced":
            ends_at = world.clock.now() + 5 * HOUR
            add_silence(
                world.service, ['column="temp"'], ends_at=ends_at, author="op", comment="known", actor="op"
            )
        watch(world, 62)
        assert digests(world) == []
        world.close()


def test_a_receiver_that_was_away_gets_the_newest_digest_alone(world: World) -> None:
    world.wire.status = 503
    watch(world, 62)
    world.clock.advance(23 * HOUR + 30 * MINUTE)
    watch(world, 40)
    assert digests(world) == [("hook", "dropped"), ("hook", "pending")]


def test_the_time_it_was_last_due() -> None:
    assert latest_time(START + 9 * HOUR, 480) == START + 8 * HOUR
    assert latest_time(START + 8 * HOUR, 480) == START + 8 * HOUR
    assert latest_time(START + 7 * HOUR, 480) == START - 16 * HOUR
