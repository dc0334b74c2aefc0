"""Roll-up: hours and days are exactly the rows that came, whatever came late and whatever crashed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.codec import decode_profile
from detectors.profile import Profile, profile_rows
from monitor.retention import enforce_retention
from monitor.rollup import RolledTwice
from storage import panes
from tests.monitor import frames
from tests.monitor.world import CONFIG, START, World

BASELINE = frames.baseline()
HOUR = 3_600
DAY = 86_400
START_SECONDS = int(START.timestamp())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state")
    opened.register(BASELINE)
    yield opened
    opened.close()


def stored(world: World, resolution: int) -> dict[int, panes.PaneRow]:
    with world.service.database.read() as conn:
        return {row.start: row for row in panes.window(conn, 1, "", resolution, 0, 2**40)}


def profile(row: panes.PaneRow) -> Profile:
    return decode_profile(BASELINE.layout, row.profile)


def send(world: World, minute: int, *, seed: int, n: int = 20) -> dict[str, Any]:
    values = frames.rows(seed, n)
    at = START + timedelta(minutes=minute)
    world.clock.advance_to(max(world.clock.now(), at + timedelta(minutes=1)))
    assert world.send(at, values, spread=timedelta(seconds=30)) == "stored"
    return values


def test_an_hour_is_the_rows_of_its_minutes_once_it_is_over(world: World) -> None:
    sent = [send(world, minute, seed=minute) for minute in range(0, 60, 7)]
    world.look()
    assert stored(world, HOUR) == {}
    send(world, 61, seed=99)
    world.look()
    (hour,) = stored(world, HOUR).values()
    whole = profile_rows(BASELINE, frames.concatenate(sent))
    assert (hour.start, hour.rows, hour.rows_seen) == (START_SECONDS, whole.rows, whole.rows)
    assert np.array_equal(profile(hour).counts, whole.counts)
    temp = frames.concatenate(sent)["temp"].astype(np.float64)
    n, mean, m2 = profile(hour).moments[0]
    assert n == temp.size
    assert mean == pytest.approx(temp.mean(), rel=1e-12)
    assert m2 == pytest.approx(((temp - temp.mean()) ** 2).sum(), rel=1e-10)


def test_rows_that_come_after_their_hour_and_day_are_in_all_three(world: World) -> None:
    send(world, 0, seed=1)
    send(world, 24 * 60 + 1, seed=2)
    world.look()
    assert [row.rows for row in stored(world, DAY).values()] == [20]
    send(world, 0, seed=3, n=7)  # the pane of that minute is summed up
    send(world, 120, seed=4, n=5)  # this one does not exist yet, nor does its hour
    world.look()
    assert stored(world, 60)[START_SECONDS].rows == 27
    assert {start - START_SECONDS: row.rows for start, row in stored(world, HOUR).items()} == {
        0: 27,
        7200: 5,
    }
    assert {start - START_SECONDS: row.rows for start, row in stored(world, DAY).items()} == {0: 32}


def test_a_late_row_whose_minute_is_gone_reaches_the_hour_once(tmp_path: Path) -> None:
    world = World(
        tmp_path / "state", config=CONFIG.replace("[models.credit]", '[models.credit]\nmax_past = "90d"')
    )
    world.register(BASELINE)
    send(world, 0, seed=1)
    send(world, 3 * 24 * 60, seed=2)
    world.look()
    enforce_retention(world.service.database, world.service.catalog, world.config, world.clock.now())
    assert START_SECONDS not in stored(world, 60)
    send(world, 0, seed=3, n=7)
    for _ in range(3):
        world.look()
        world.restart()
    assert stored(world, HOUR)[START_SECONDS].rows == 27
    assert stored(world, DAY)[START_SECONDS].rows == 27
    world.close()


def test_a_roll_up_that_is_cut_off_is_done_again_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send(world, 0, seed=1)
    send(world, 61, seed=2)
    marked = panes.mark_rolled

    def dies(*_: object) -> int:
        raise OSError("the power went")

    monkeypatch.setattr("storage.panes.mark_rolled", dies)
    world.look()
    assert stored(world, HOUR) == {}
    assert not stored(world, 60)[START_SECONDS].rolled
    monkeypatch.setattr("storage.panes.mark_rolled", marked)
    world.restart()
    world.look()
    assert [row.rows for row in stored(world, HOUR).values()] == [20]


def test_a_slice_that_another_loop_took_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send(world, 0, seed=1)
    send(world, 61, seed=2)
    taken: list[bool] = []
    upsert = panes.upsert

    def other_first(conn: Any, rows: Any) -> None:
        if any(row.resolution == HOUR for row in rows):
            panes.mark_rolled(conn, [row.key for row in panes.window(conn, 1, "", 60, 0, 2**40)])
            taken.append(True)
        upsert(conn, rows)

    monkeypatch.setattr("storage.panes.upsert", other_first)
    model = world.service.catalog.model("credit")
    assert model is not None
    world.look()
    assert taken
    assert stored(world, HOUR) == {}
    with pytest.raises(RolledTwice):
        world.service.pipeline._rollup.step(model, START_SECONDS + 2 * HOUR, leads=True)


def test_segments_are_rolled_up_by_themselves(tmp_path: Path) -> None:
    config = CONFIG.replace("[models.credit]", '[models.credit]\nsegments = ["region"]')
    world = World(tmp_path / "state", config=config)
    world.register(BASELINE)
    for minute, region in ((0, "eu"), (1, "us"), (61, "eu")):
        world.clock.advance_to(START + timedelta(minutes=minute + 1))
        values = frames.rows(minute, 10)
        world.send(START + timedelta(minutes=minute), values, tags={"region": [region] * 10})
    world.look()
    with world.service.database.read() as conn:
        found = {s: panes.window(conn, 1, s, HOUR, 0, 2**40) for s in ("", "region=eu", "region=us")}
    assert {s: [row.rows for row in rows] for s, rows in found.items()} == {
        "": [20],
        "region=eu": [10],
        "region=us": [10],
    }
    world.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_order_and_the_restarts_hours_and_days_count_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    minutes = data.draw(st.lists(st.integers(0, 30 * 60), min_size=3, max_size=8))
    world = World(
        tmp_path_factory.mktemp("rollup"),
        config=CONFIG.replace("[models.credit]", '[models.credit]\nmax_past = "90d"'),
        start=START + timedelta(hours=40),
    )
    world.register(BASELINE)
    for at, minute in enumerate(minutes):
        send(world, minute, seed=at, n=3)
        act = data.draw(st.sampled_from(["wait", "look", "restart"]))
        if act != "wait":
            world.look()
        if act == "restart":
            world.restart()
    send(world, 40 * 60, seed=100, n=3)
    world.look()
    world.restart()
    world.look()
    days = sum(row.rows for row in stored(world, DAY).values())
    assert days == 3 * sum(minute < 24 * 60 for minute in minutes)
    assert sum(row.rows for row in stored(world, HOUR).values()) == 3 * len(minutes)
    hours = {hour: 3 * sum(minute // 60 == hour for minute in minutes) for hour in {m // 60 for m in minutes}}
    assert {(start - START_SECONDS) // HOUR: row.rows for start, row in stored(world, HOUR).items()} == hours
    world.close()
