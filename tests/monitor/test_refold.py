"""Re-fold: a new baseline sees the rows that are still kept, each once, and no evidence is borne twice."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import Baseline, profile_rows
from monitor import refold
from monitor.operations import list_baselines, register_baseline
from monitor.retention import enforce_retention
from storage import batches, blocks, cursors, panes
from storage.retention import thin_payloads
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World

OLD, NEW = frames.baseline(), frames.baseline(n=3000)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state")
    opened.register(OLD)
    yield opened
    opened.close()


def adopt(world: World, baseline: Baseline) -> None:
    register_baseline(world.service, model=MODEL, version="1", blob=encode_baseline(baseline), actor="test")


def traffic(world: World, minutes: int, *, rows: int = 30) -> list[Any]:
    sent = []
    for minute in range(minutes):
        at = world.clock.now()
        world.clock.advance(timedelta(minutes=1))
        sent.append(frames.rows(minute, rows))
        world.send(at, sent[-1], spread=timedelta(seconds=59))
        world.look()
    return sent


def rows_on(world: World, baseline_id: int) -> int:
    with world.service.database.read() as conn:
        return sum(row.rows for row in panes.window(conn, baseline_id, "", 60, 0, 2**40))


def test_windows_of_a_new_baseline_do_not_begin_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    sent = traffic(world, 20)
    adopt(world, NEW)
    with caplog.at_level(logging.INFO, "driftd.refold"), caplog.at_level(logging.INFO, "driftd.pipeline"):
        world.look()
    with world.service.database.read() as conn:
        counted = [decode_profile(NEW.layout, p.profile) for p in panes.window(conn, 2, "", 60, 0, 2**40)]
        assert blocks.list_blocks(conn, 2, "", start=0, end=2**40) == []
    whole = profile_rows(NEW, frames.concatenate(sent))
    assert sum(p.rows for p in counted) == whole.rows == 600
    assert np.array_equal(sum(p.counts for p in counted), whole.counts)
    assert "600 retained rows of 2026-03-02 00:00 UTC to 2026-03-02 00:20 UTC" in caplog.text
    (again, _) = list_baselines(world.service, model=MODEL)
    assert again.refold is not None
    assert (again.refold.rows, again.refold.finished, again.refold.kept_share) == (600, True, 1.0)
    assert (again.refold.start, again.refold.end) == (START, START + timedelta(minutes=20))
    traffic(world, 1)
    with world.service.database.read() as conn:
        evidence = cursors.get_evidence(conn, 2, "")
        assert evidence is not None
        # Only the minute that came after the change bears evidence.
        assert [b.rows for b in blocks.list_blocks(conn, 2, "", start=0, end=2**40)] == [30]
    assert world.service.pipeline.run_once() == 0
    found = world.service.pipeline._evaluators[1]._tracks.get(2, "")
    assert found is not None
    assert found.windows.boundary == int(START.timestamp()) + 20 * 60
    assert found.windows.window_profile(1).rows == 600


def test_rows_that_were_not_folded_yet_are_folded_once(world: World) -> None:
    traffic(world, 5)
    world.send(world.clock.now(), frames.rows(77, 11))
    adopt(world, NEW)
    for _ in range(3):
        world.look()
        world.restart()
    assert rows_on(world, 2) == 5 * 30 + 11
    assert rows_on(world, 1) == 5 * 30


def test_a_crash_in_the_middle_repeats_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic(world, 40)
    adopt(world, NEW)
    monkeypatch.setattr("monitor.pipeline.GROUPS", 1)
    marked = batches.mark_refolded
    calls: list[int] = []

    def dies_at_the_second(conn: Any, ids: Any, *, onto: int) -> int:
        calls.append(len(ids))
        if len(calls) == 2:
            raise OSError("the power went")
        return marked(conn, ids, onto=onto)

    monkeypatch.setattr("storage.batches.mark_refolded", dies_at_the_second)
    for _ in range(6):
        world.look()
        world.restart()
    assert calls == [16, 16, 16, 8]
    assert rows_on(world, 2) == 40 * 30


def test_a_group_that_another_loop_counted_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic(world, 5)
    adopt(world, NEW)
    written = refold._write

    def other_first(conn: Any, writer: str, sums: Any, row: Any, ids: Any) -> None:
        batches.mark_refolded(conn, ids[:1], onto=2)
        written(conn, writer, sums, row, ids)

    monkeypatch.setattr(refold, "_write", other_first)
    world.look()
    assert rows_on(world, 2) == 0


def test_a_baseline_that_comes_back_counts_no_row_twice(world: World) -> None:
    traffic(world, 5)
    adopt(world, NEW)
    world.look()
    adopt(world, OLD)
    world.look()
    assert rows_on(world, 1) == rows_on(world, 2) == 5 * 30


def test_one_that_is_left_off_goes_on_when_its_baseline_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(world, 40)
    monkeypatch.setattr("monitor.pipeline.GROUPS", 1)
    adopt(world, NEW)
    world.look()
    assert rows_on(world, 2) == 16 * 30
    adopt(world, OLD)
    world.look()
    assert (rows_on(world, 1), rows_on(world, 2)) == (40 * 30, 16 * 30)
    adopt(world, NEW)
    for _ in range(4):
        world.look()
    assert rows_on(world, 2) == 40 * 30


def test_it_reaches_back_as_far_as_the_longest_window(world: World) -> None:
    traffic(world, 75)  # the longest window is 1h
    adopt(world, NEW)
    for _ in range(3):
        world.look()
    # The hour before the last boundary, and the minute after it that no boundary has closed yet.
    assert rows_on(world, 2) == 61 * 30


def test_thinned_payloads_stand_for_the_rows_that_are_gone(world: World) -> None:
    traffic(world, 30)
    with world.service.database.read() as conn:
        size = batches.get(conn, 1).payload
    world.service.database.write(
        lambda conn: thin_payloads(conn, over_bytes=15 * len(size), limit=100)
    ).result()
    adopt(world, NEW)
    world.look()
    with world.service.database.read() as conn:
        kept = panes.window(conn, 2, "", 60, 0, 2**40)
    (again, _) = list_baselines(world.service, model=MODEL)
    assert again.refold is not None
    assert again.refold.kept_share == pytest.approx(len(kept) / 30)
    assert 0 < len(kept) < 30
    assert sum(p.rows for p in kept) == again.refold.rows == 30 * len(kept)
    assert sum(p.rows_seen for p in kept) == pytest.approx(900, abs=len(kept))


def test_what_retention_took_is_not_there_and_said_so(tmp_path: Path) -> None:
    world = World(tmp_path / "state", config=CONFIG + '\n[storage]\npayload_retention = "10m"\n')
    world.register(OLD)
    traffic(world, 20)
    enforce_retention(world.service.database, world.service.catalog, world.config, world.clock.now())
    adopt(world, NEW)
    world.look()
    (again, _) = list_baselines(world.service, model=MODEL)
    assert again.refold is not None
    assert again.refold.start == START + timedelta(minutes=9)
    assert again.refold.kept_share == pytest.approx(11 / 20)
    world.close()


def test_a_version_that_waited_has_nothing_to_count_again(world: World) -> None:
    world.send(START, frames.rows(1, 10), version="2")
    register_baseline(world.service, model=MODEL, version="2", blob=encode_baseline(OLD), actor="test")
    world.look()
    assert next(f for f in list_baselines(world.service) if f.version == "2").refold is None
