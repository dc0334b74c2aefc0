"""A model that keeps no rows: counted before the commit, once whatever the retries, and the rows are stored nowhere."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import profile_rows
from detectors.types import DetectorError
from monitor.api.ports import InFlightError, QueueFullError, StorageUnavailableError
from monitor.counting import count
from monitor.ingest.errors import UnprocessableError
from monitor.operations import register_baseline
from storage import models, panes
from storage.engine import Address, Connection
from storage.tables import batches as batch_table
from storage.tables import payloads
from tests.monitor import frames
from tests.monitor import harness as harnesses
from tests.monitor.world import CONFIG, MODEL, START, World
from tests.postgres import on_both

BASELINE = frames.baseline()
COUNTS_ONLY = CONFIG.replace("lateness", 'keep_rows = false\nsegments = ["region"]\nlateness')


@pytest.fixture
def world(where: Path | Address) -> Iterator[World]:
    opened = World(where, config=COUNTS_ONLY)
    opened.register(BASELINE)
    yield opened
    opened.service.ingestion.counting.stop()
    opened.close()


def stored(world: World) -> tuple[int, int, list[int]]:
    """Batches, the rows they were acknowledged for, and the codecs of the payloads that are there."""
    with world.service.database.read() as conn:
        count, rows = conn.execute(
            select(func.count(), func.coalesce(func.sum(batch_table.c.accepted), 0)).select_from(batch_table)
        ).one()
        codecs = list(conn.execute(select(payloads.c.codec)).scalars())
    return count, int(rows), codecs


def counted(world: World, segment: str = "") -> Any:
    """The whole of what was counted on baseline 1."""
    layout = world.service.pipeline.bases.of(1, BASELINE).of(segment).baseline.layout
    with world.service.database.read() as conn:
        return sum(
            decode_profile(layout, p.profile).counts for p in panes.window(conn, 1, segment, 60, 0, 2**40)
        )


def whole(seeds: Sequence[int], rows: int = 30) -> Any:
    """Rows of those seeds, counted without a daemon."""
    return profile_rows(BASELINE, frames.concatenate([frames.rows(seed, rows) for seed in seeds])).counts


@pytest.fixture
def blocked(world: World) -> Iterator[threading.Event]:
    """The writer stands still until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(conn: Connection) -> None:
        begun.set()
        assert go_on.wait(30)

    waiting = world.service.database.write(wait)
    assert begun.wait(30)
    yield go_on
    go_on.set()
    waiting.result()


@on_both
def test_counts_are_stored_and_rows_are_not(where: Path | Address) -> None:
    world = World(where, config=COUNTS_ONLY)
    world.register(BASELINE)
    world.clock.advance(timedelta(minutes=5))
    offered = [
        world.offer(
            START + timedelta(minutes=seed % 3), frames.rows(seed, 30), tags={"region": ["eu", None] * 15}
        )
        for seed in range(20)
    ]
    assert [answer.result(30).status for answer in offered] == ["stored"] * 20
    known, rows, codecs = stored(world)
    assert (known, rows) == (20, 600)
    assert set(codecs) == {2}
    world.look()
    assert stored(world) == (20, 600, [])
    assert np.array_equal(counted(world), whole(range(20)))
    with world.service.database.read() as conn:
        assert sum(p.rows for p in panes.window(conn, 1, "region=eu", 60, 0, 2**40)) == 300
        assert models.rows_by_hour(conn, 1, start=0, end=2**40) == [(int(START.timestamp()), 600)]
    assert world.service.pipeline.cursor(1).watermark_ns is not None
    world.service.ingestion.counting.stop()
    world.close()


def test_what_waits_together_is_carried_by_one_batch(world: World, blocked: threading.Event) -> None:
    # The first keeps the stage at work; none of the others is alone when it comes to them.
    offered = [world.offer(START, frames.rows(seed, 30)) for seed in range(40)]
    blocked.set()
    assert {answer.result(30).status for answer in offered} == {"stored"}
    known, rows, codecs = stored(world)
    assert (known, rows) == (40, 1200)
    assert len(codecs) < 20
    world.look()
    assert np.array_equal(counted(world), whole(range(40)))


def test_a_batch_sent_again_is_acknowledged_again_and_counted_once(world: World) -> None:
    twice = [world.offer(START, frames.rows(7, 30), batch_id="a") for _ in range(2)]
    assert sorted(answer.result(30).status for answer in twice) == ["duplicate", "stored"]
    world.look()
    world.restart()
    again = [
        world.offer(START, frames.rows(seed, 30), batch_id=name)
        for name, seed in (("b", 8), ("a", 7), ("c", 9), ("b", 8), ("a", 7))
    ]
    results = [answer.result(30) for answer in again]
    assert [result.status for result in results] == [
        "stored",
        "duplicate",
        "stored",
        "duplicate",
        "duplicate",
    ]
    assert results[1].accepted == 30
    assert world.send(START, frames.rows(10, 30), batch_id="a") == "conflict"
    world.look()
    assert stored(world) == (3, 90, [])
    assert np.array_equal(counted(world), whole([7, 8, 9]))


def test_another_body_under_an_id_in_flight_is_refused(world: World, blocked: threading.Event) -> None:
    first = world.offer(START, frames.rows(7, 30), batch_id="a")
    with pytest.raises(InFlightError):
        world.offer(START, frames.rows(8, 30), batch_id="a")
    blocked.set()
    assert first.result(30).status == "stored"


def test_many_senders_who_send_again_are_counted_once(world: World) -> None:
    def send(sender: int) -> None:
        for number in range(12):
            seed = sender // 2 * 12 + number  # every two of them send the same
            world.offer(START, frames.rows(seed, 30), batch_id=str(seed)).result(30)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    world.look()
    assert stored(world) == (48, 48 * 30, [])
    assert np.array_equal(counted(world), whole(range(48)))


def test_a_batch_that_cannot_be_counted_takes_no_other_down(
    world: World, blocked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = count

    def fails(onto: Any, segments: Any, batches: Any, rate: float) -> Any:
        if any(batch.id == "data" for batch in batches):
            raise DetectorError("column 'temp': no such number")
        if any(batch.id == "defect" for batch in batches):
            raise ZeroDivisionError
        return real(onto, segments, batches, rate)

    monkeypatch.setattr("monitor.counts_only.count", fails)
    names = ["0", "1", "data", "2", "defect", "3"]
    offered = {name: world.offer(START, frames.rows(at, 30), batch_id=name) for at, name in enumerate(names)}
    blocked.set()
    with pytest.raises(UnprocessableError, match="column 'temp': no such number"):
        offered["data"].result(30)
    with pytest.raises(ZeroDivisionError):
        offered["defect"].result(30)
    assert {offered[name].result(30).status for name in "0123"} == {"stored"}
    world.look()
    assert np.array_equal(counted(world), whole([0, 1, 3, 5]))
    assert world.service.ingestion.queued_bytes == 0


def test_rows_wait_for_a_baseline_as_rows(world: World) -> None:
    world.register(None, version="2")
    world.send(START, frames.rows(1, 30), version="2")
    world.send(START, frames.rows(2, 30), version="1")
    assert sorted(stored(world)[2]) == [1, 2]
    world.look()
    register_baseline(world.service, model=MODEL, version="2", blob=encode_baseline(BASELINE), actor="test")
    world.look()
    assert world.unfolded() == 0
    with world.service.database.read() as conn:
        assert [sum(p.rows for p in panes.window(conn, i, "", 60, 0, 2**40)) for i in (1, 2)] == [30, 30]


def test_the_queue_is_bounded_in_bytes(where: Path | Address) -> None:
    world = World(where, config=COUNTS_ONLY + '\n[storage]\nqueue_bytes = "64KiB"\n')
    world.register(BASELINE)
    go_on = threading.Event()
    world.service.database.write(lambda conn: go_on.wait(30))
    offered = []
    with pytest.raises(QueueFullError):
        offered += [world.offer(START, frames.rows(1, 1000)) for _ in range(10)]
    assert world.service.ingestion.queued_bytes <= 64 * 1024
    go_on.set()
    world.service.ingestion.counting.stop()
    assert world.service.ingestion.queued_bytes == 0
    world.close()


def test_what_cannot_be_committed_is_not_acknowledged(world: World) -> None:
    world.service.database.close()
    with pytest.raises(StorageUnavailableError):
        world.offer(START, frames.rows(1, 30)).result(30)
    assert world.service.ingestion.queued_bytes == 0


def test_a_stop_stores_what_is_queued(world: World, blocked: threading.Event) -> None:
    offered = [world.offer(START, frames.rows(seed, 30)) for seed in range(5)]
    stopping = threading.Thread(target=world.service.ingestion.counting.stop)
    stopping.start()
    blocked.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert [answer.result(0).status for answer in offered] == ["stored"] * 5


def test_a_reload_takes_effect_with_the_next_batch(tmp_path: Path) -> None:
    with harnesses.harness(tmp_path) as made:
        made.put_baseline(frames.baseline(pane_seconds=900))
        made.post_rows(1, 20, harnesses.START)
        settings = made.service.config.defaults.model_copy(update={"keep_rows": False})
        made.service.ingestion.adopt(made.service.config.model_copy(update={"defaults": settings}))
        made.clock.advance(timedelta(minutes=10))
        made.post_rows(2, 20, harnesses.START)
        with made.service.database.read() as conn:
            assert list(conn.execute(select(payloads.c.codec)).scalars()) == [1, 2]
        made.service.pipeline.run_once()
        with made.service.database.read() as conn:
            assert sum(p.rows for p in panes.window(conn, 1, "", 900, 0, 2**40)) == 40
