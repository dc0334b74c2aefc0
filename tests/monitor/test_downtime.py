"""The daemon was away for a while in each state of an alert: no false page, no lost end, and nothing told twice."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.monitor import frames
from tests.monitor.world import CONFIG, World

MINUTE = timedelta(minutes=1)
DOWNTIMES = [timedelta(0), timedelta(seconds=30), timedelta(minutes=59), timedelta(hours=2)]
PATIENT = CONFIG.replace("lateness", 'for = "5m"\nlateness')
STATES = ["inactive", "pending", "firing", "subsided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A state directory as a kill left it, and when."""

    directory: Path
    at: datetime


def state_of(world: World) -> str:
    """The state of the drift of `temp`."""
    found = [alert for alert in world.alerts() if alert.column == "temp"]
    if not found or found[-1].state == "resolved":
        return "inactive"
    return "subsided" if found[-1].false_since is not None else found[-1].state


def until(world: World, wanted: str, *, shift: float) -> None:
    for minute in range(120):
        if state_of(world) == wanted:
            return
        world.minute(int(world.clock.now().timestamp()) % 100_000 + minute, shift=shift)
    raise AssertionError(f"{wanted} was not reached")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kept]:
    """One story, and a copy of its state directory in each state."""
    base = tmp_path_factory.mktemp("downtime")
    world = World(base / "live", config=PATIENT)
    world.register(frames.baseline())
    found = {}
    for minute in range(70):
        world.minute(minute)
    for wanted, shift in zip(STATES, (0.0, 25.0, 25.0, 0.0), strict=True):
        until(world, wanted, shift=shift)
        world.clock.advance(timedelta(seconds=1))
        world.look()
        at = world.clock.now()
        world.service.database.close()
        shutil.copytree(base / "live", base / wanted)
        found[wanted] = Kept(directory=base / wanted, at=at)
        world.restart()
    world.close()
    return found


@pytest.fixture
def back(
    request: pytest.FixtureRequest, kept: dict[str, Kept], tmp_path: Path
) -> Iterator[tuple[World, str, datetime]]:
    """The daemon that comes back after a downtime, on a copy of its directory."""
    state, downtime = request.param
    shutil.copytree(kept[state].directory, tmp_path / "state")
    world = World(tmp_path / "state", config=PATIENT, start=kept[state].at + downtime)
    world._sent = 10_000  # no id that was sent before
    world.look()
    yield world, state, kept[state].at
    world.close()


def told(world: World) -> list[tuple[str, str]]:
    """Kind and status of what was sent since the daemon is back."""
    bodies = [json.loads(request.body) for request in world.wire.sent]
    return [(body["alerts"][0]["labels"]["kind"], body["status"]) for body in bodies]


FIRED, ENDED = ("feature_drift", "firing"), ("feature_drift", "resolved")
ENDINGS: dict[str, list[list[tuple[str, str]]]] = {
    "inactive": [[]],
    # The windows still hold the drift that it began with: it may prove real, and then its end is told too.
    "pending": [[], [FIRED, ENDED]],
    "firing": [[ENDED]],
    "subsided": [[ENDED]],
}
"""What may be told after the return, by the state at the kill."""

BACK = pytest.mark.parametrize(
    "back",
    [(state, downtime) for state in STATES for downtime in DOWNTIMES],
    ids=[f"{state}-{int(downtime.total_seconds())}s" for state in STATES for downtime in DOWNTIMES],
    indirect=True,
)


def go_on(world: World, minutes: int, *, shift: float) -> None:
    for minute in range(minutes):
        world.minute(5_000 + minute, shift=shift)


@BACK
def test_the_state_is_as_it_was_and_nobody_is_told_of_the_return(
    back: tuple[World, str, datetime],
) -> None:
    world, state, _ = back
    assert state_of(world) == state
    assert told(world) == []


@BACK
def test_when_all_is_well_afterwards_nobody_is_paged_and_who_was_told_hears_the_end_once(
    back: tuple[World, str, datetime],
) -> None:
    world, state, _ = back
    go_on(world, 90, shift=0.0)
    assert state_of(world) == "inactive"
    assert told(world) in ENDINGS[state]


@BACK
def test_what_happened_meanwhile_and_came_late_is_told_by_its_final_state_only(
    back: tuple[World, str, datetime],
) -> None:
    """The sidecar kept its rows: drift all through the downtime, which is over by the time the daemon is back."""
    world, state, went = back
    away = int((world.clock.now() - went) / MINUTE)
    for minute in range(away):
        at = went + minute * MINUTE
        world.send(at, frames.rows(9_000 + minute, 60, shift=25.0 if minute < away - 80 else 0.0))
    world.look()
    go_on(world, 90, shift=0.0)
    assert state_of(world) == "inactive"
    # Who had been told hears of the end, once; who had not is told of neither.
    assert told(world) in ENDINGS[state]
