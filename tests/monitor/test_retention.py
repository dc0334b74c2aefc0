"""Retention: what has had its time goes, and nothing that is still needed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from monitor.retention import enforce_retention
from storage import batches, blocks, evaluations, labels, panes, performances, retention
from storage.labels import Label
from storage.performances import PerformanceRow
from tests.monitor import frames
from tests.monitor.world import CONFIG, START, World

BASELINE = frames.baseline()
DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state")
    opened.register(BASELINE)
    yield opened
    opened.close()


def enforce(world: World) -> int:
    return enforce_retention(world.service.database, world.service.catalog, world.config, world.clock.now())


def counts(world: World) -> dict[str, int]:
    with world.service.database.read() as conn:
        return {
            "payloads": retention.payload_use(conn).payloads,
            "panes": len(panes.window(conn, 1, "", 60, 0, 2**40)),
            "evaluations": len(evaluations.between(conn, 1, "", start=0, end=2**40)),
            "blocks": len(blocks.list_blocks(conn, 1, "", start=0, end=2**40)),
        }


def test_fresh_rows_stay(world: World) -> None:
    for minute in range(10):
        world.minute(minute)
    before = counts(world)
    assert enforce(world) == 0
    assert counts(world) == before


def test_payloads_go_after_a_week_and_their_counts_stay(world: World) -> None:
    for minute in range(5):
        world.minute(minute)
    world.clock.advance(8 * DAY)
    enforce(world)
    left = counts(world)
    assert (left["payloads"], left["panes"]) == (0, 5)


def test_a_late_retry_is_harmless_after_its_payload_has_gone(world: World) -> None:
    rows = frames.rows(1, 50)
    world.send(START, rows, batch_id="again")
    world.look()
    world.clock.advance(8 * DAY)
    enforce(world)
    assert world.send(START, rows, batch_id="again") == "duplicate"


def test_panes_age_by_event_time_so_that_a_replay_keeps_its_own(tmp_path: Path) -> None:
    """Last month's rows are older than every pane may be; they must be evaluated all the same."""
    world = World(tmp_path / "state")
    world.register(BASELINE)
    for minute in range(5):
        world.send(START - 30 * DAY + timedelta(minutes=minute), frames.rows(minute, 50))
    world.look()
    enforce(world)
    assert counts(world)["panes"] == 5
    world.send(START - 27 * DAY, frames.rows(9, 50))
    world.send(START - 27 * DAY + timedelta(minutes=1), frames.rows(9, 50))
    world.look()
    enforce(world)
    assert counts(world)["panes"] == 2
    world.close()


def test_above_the_cap_whole_batches_go_until_it_holds(tmp_path: Path) -> None:
    world = World(tmp_path / "state", config=CONFIG + '\n[storage]\npayload_bytes = "20KiB"\n')
    world.register(BASELINE)
    for minute in range(30):
        world.send(START - timedelta(minutes=30 - minute), frames.rows(minute, 100))
    world.look()
    enforce(world)
    with world.service.database.read() as conn:
        use = retention.payload_use(conn)
    assert 0 < use.total_bytes <= 20 * 1024
    world.close()


def test_old_evaluations_are_thinned_to_the_hour(world: World) -> None:
    for minute in range(125):
        world.minute(minute)
    world.clock.advance(36 * DAY)
    enforce(world)
    with world.service.database.read() as conn:
        kept = [row.boundary for row in evaluations.between(conn, 1, "", start=0, end=2**40)]
    assert kept
    assert all(boundary % 3600 == 0 for boundary in kept)


def test_rows_that_wait_a_month_for_a_baseline_are_given_up(world: World) -> None:
    world.send(START, frames.rows(1, 10), version="unknown")
    world.clock.advance(29 * DAY)
    enforce(world)
    assert world.unfolded() == 1
    world.clock.advance(2 * DAY)
    enforce(world)
    with world.service.database.read() as conn:
        assert batches.unfolded_by_version(conn) == {}


def rows_by_table(world: World) -> dict[str, int]:
    with world.service.database.read() as conn:
        return {
            "batches": len(list(conn.execute(text("SELECT 1 FROM batches")))),
            "payloads": retention.payload_use(conn).payloads,
            "minutes": len(panes.window(conn, 1, "", 60, 0, 2**40)),
            "hours": len(panes.window(conn, 1, "", 3600, 0, 2**40)),
            "days": len(panes.window(conn, 1, "", 86_400, 0, 2**40)),
        }


def test_disk_use_grows_with_days_alone(tmp_path: Path) -> None:
    """Four months, a batch of two minutes every twelve hours: every table but that of the days is level in the end."""
    world = World(tmp_path / "state", config=CONFIG.replace('windows = ["15m", "1h"]', 'windows = ["15m"]'))
    world.register(BASELINE)
    seen = {}
    for half in range(2 * 120):
        at = START + half * DAY / 2
        world.clock.advance_to(at + timedelta(minutes=3))
        world.send(at, frames.rows(half, 5 + half % 7), spread=timedelta(minutes=2))
        if half % 4 == 3:
            world.look()
            enforce(world)
        if half in (2 * 100 - 1, 2 * 120 - 1):
            seen[half] = rows_by_table(world)
    world.close()
    middle, end = seen.values()
    assert (middle.pop("days"), end.pop("days")) == (99, 119)  # the last day is not over
    assert middle == end
    # The last boundary is 12:01 of the last day. 48 hours before it lie 4 batches of two minutes and the second minute
    # of a fifth; 90 days before it lie 180 hours with rows, of which the last is not over; and by arrival, exactly
    # 7 and 30 days ago included, 15 and 61 batches.
    assert end == {"minutes": 9, "hours": 179, "payloads": 15, "batches": 61}


def test_batches_that_wait_for_a_baseline_are_thinned_when_nothing_else_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "state", config=CONFIG + '\n[storage]\npayload_bytes = "20KiB"\n')
    world.register(BASELINE)
    for minute in range(20):
        world.send(START - timedelta(minutes=30 - minute), frames.rows(minute, 100))
        world.send(START - timedelta(minutes=30 - minute), frames.rows(minute, 100), version="unknown")
    world.look()
    enforce(world)
    with world.service.database.read() as conn:
        use = retention.payload_use(conn)
        ((waiting, _),) = batches.unfolded_by_version(conn).values()
    assert 0 < use.total_bytes <= 20 * 1024
    assert use.payloads == waiting  # what was counted went first
    assert f"{20 - waiting} were given up" in caplog.text
    assert "0 of the batches keep theirs" not in caplog.text
    world.register(BASELINE, version="unknown")
    world.look()
    assert world.unfolded() == 0
    world.close()


def test_panes_of_a_length_that_no_baseline_has_any_more_go_too(world: World) -> None:
    for minute in range(3):
        world.minute(minute)
    world.register(frames.baseline(pane_seconds=900))
    for hour in range(60):
        world.clock.advance(timedelta(hours=1))
        world.send(world.clock.now(), frames.rows(hour, 10))
        world.look()
    enforce(world)
    assert counts(world)["panes"] == 0
    with world.service.database.read() as conn:
        assert sum(row.rows for row in panes.window(conn, 1, "", 3600, 0, 2**40)) == 180


def test_rows_are_kept_as_long_as_is_said(tmp_path: Path) -> None:
    """Labels may come after months, so rows may be kept for months: longer than the ids of batches are otherwise."""
    world = World(tmp_path / "state", config=CONFIG + '\n[storage]\npayload_retention = "90d"\n')
    world.register(BASELINE)
    world.minute(1)
    world.clock.advance(89 * DAY)
    enforce(world)
    assert rows_by_table(world)["payloads"] == 1
    world.clock.advance(2 * DAY)
    enforce(world)
    assert (rows_by_table(world)["payloads"], rows_by_table(world)["batches"]) == (0, 0)
    world.close()


def labels_left(world: World) -> set[str]:
    with world.service.database.read() as conn:
        return {name for name, _ in labels.of_requests(conn, 1, [f"r{n}" for n in range(300)])}


def tell(world: World, *names: str) -> None:
    told = [Label(request_id=name, column="label", value="1", at_ns=0) for name in names]
    now = world.clock.now()
    world.service.database.write(lambda conn: labels.put(conn, 1, told, received_at=now)).result()


LABELLED = CONFIG.replace("[models.credit]", '[models.credit]\nlabels_mature_after = "2d"', 1)


def test_labels_go_a_day_after_nothing_can_meet_them(tmp_path: Path) -> None:
    world = World(tmp_path / "state", config=LABELLED)
    world.register(BASELINE)
    tell(world, *(f"r{n}" for n in range(250)))  # more than a chunk
    world.clock.advance(DAY)
    tell(world, "r299")
    world.clock.advance(2 * DAY)
    enforce(world)
    assert len(labels_left(world)) == 251
    world.clock.advance(timedelta(seconds=1))
    enforce(world)
    assert labels_left(world) == {"r299"}
    world.clock.advance(DAY)
    enforce(world)
    assert labels_left(world) == set()
    world.close()


def test_labels_wait_for_predictions_that_may_come_late(tmp_path: Path) -> None:
    world = World(
        tmp_path / "state", config=LABELLED.replace("[models.credit]", '[models.credit]\nmax_past = "5d"')
    )
    world.register(BASELINE)
    tell(world, "r1")
    world.clock.advance(7 * DAY)
    enforce(world)
    assert labels_left(world) == {"r1"}
    world.clock.advance(timedelta(seconds=1))
    enforce(world)
    assert labels_left(world) == set()
    world.close()


def test_labels_go_a_day_after_labels_are_turned_off(tmp_path: Path) -> None:
    world = World(tmp_path / "state", config=LABELLED)
    world.register(BASELINE)
    tell(world, "r1")
    world.restart(CONFIG)
    world.clock.advance(DAY)
    enforce(world)
    assert labels_left(world) == {"r1"}
    world.clock.advance(timedelta(seconds=1))
    enforce(world)
    assert labels_left(world) == set()
    world.close()


def test_how_right_predictions_were_is_kept_for_400_days(world: World) -> None:
    first = int(START.timestamp())
    hours = [
        PerformanceRow(
            version_id=1, segment="", column="label", start=first + hour * 3600, rows=1, identified=1, labelled=1,
            correct=1, error=0.0, absolute_error=0.0, squared_error=0.0, confident=0, confidence=0.0,
        )
        for hour in range(2)
    ]  # fmt: skip
    world.service.database.write(lambda conn: performances.add(conn, hours)).result()

    def left() -> list[int]:
        with world.service.database.read() as conn:
            return [row.start - first for row in performances.list_rows(conn, [1], start=0, end=2**40)]

    world.clock.advance(400 * DAY)
    enforce(world)
    assert left() == [0, 3600]
    world.clock.advance(timedelta(seconds=1))
    enforce(world)
    assert left() == [3600]
