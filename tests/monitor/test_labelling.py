"""From accepted labels to committed ones: how many there may be, and who counts them."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

from monitor import labelling
from monitor.api.ports import QueueFullError, StorageUnavailableError
from monitor.config import parse
from monitor.ingest.labels import AcceptedLabels
from monitor.labelling import Labelling
from storage import labels, retention
from storage.engine import Connection
from storage.errors import StorageBroken
from storage.labels import PUT_AT_ONCE, Label
from tests.monitor import frames
from tests.monitor.world import MODEL, START, World

CONFIG = '[storage]\nmax_labels = {}\n[defaults]\nlabels_mature_after = "2h"\n'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state", config=CONFIG.format(2000))
    opened.register(frames.baseline())
    yield opened
    opened.close()


def made(world: World) -> Labelling:
    """As it is after a start."""
    service = world.service
    found = Labelling(service.database, world.config, service.clock, service.telemetry)
    found.recount()
    return found


def accepted(count: int, prefix: str = "r", *, at_ns: int = 0) -> AcceptedLabels:
    told = tuple(
        Label(request_id=f"{prefix}{n}", column="prediction", value="1", at_ns=at_ns) for n in range(count)
    )
    return AcceptedLabels(id=None, labels=told, accepted=count, rejected=0)


def submit(found: Labelling, world: World, what: AcceptedLabels) -> int:
    """Store it all; in how many writes."""
    model = world.service.catalog.model(MODEL)
    assert model is not None
    with closing(found.submit(model, what)) as writes:
        return sum(1 for written in writes if written.result() is None)


def stored(world: World) -> int:
    with world.service.database.read() as conn:
        return labels.count(conn)


def told(world: World) -> float:
    return float(world.service.telemetry.labels.labels(model=MODEL)._value.get())


def test_all_is_stored_some_at_a_time_and_counted_once(world: World) -> None:
    found = made(world)
    assert submit(found, world, accepted(2 * PUT_AT_ONCE + 1)) == 3
    assert stored(world) == told(world) == 2 * PUT_AT_ONCE + 1
    assert found.queued == 0


def test_no_more_are_kept_than_is_said(world: World) -> None:
    found = made(world)
    submit(found, world, accepted(1999))
    with pytest.raises(QueueFullError, match="max_labels") as raised:
        submit(found, world, accepted(2, "x"))
    assert raised.value.retry_after_seconds == 60
    submit(found, world, accepted(1, "x"))
    assert stored(world) == 2000


def test_what_is_there_at_the_start_counts(world: World) -> None:
    submit(made(world), world, accepted(1500))
    found = made(world)
    with pytest.raises(QueueFullError):
        submit(found, world, accepted(501, "x"))


def test_corrections_and_retention_are_counted_out_again(world: World) -> None:
    found = made(world)
    submit(found, world, accepted(1500))
    submit(found, world, accepted(500, at_ns=5))  # corrections, counted twice
    with pytest.raises(QueueFullError):
        submit(found, world, accepted(1, "x"))
    found.recount()
    submit(found, world, accepted(500, "x"))
    later = world.clock.now().replace(year=2027)

    def forget(conn: Connection) -> int:
        return retention.drop_labels_before(conn, 1, later, limit=5000)

    assert world.service.database.write(forget).result() == 2000
    found.recount()
    submit(found, world, accepted(2000, "y"))
    assert stored(world) == 2000


def test_far_from_the_limit_nobody_counts_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(world)
    submit(found, world, accepted(999))
    monkeypatch.setattr(labels, "count", lambda _: 1 / 0)
    found.recount()
    submit(found, world, accepted(1, "x"))
    with pytest.raises(ZeroDivisionError):
        found.recount()


def test_what_is_stored_while_they_are_counted_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(world)
    submit(found, world, accepted(1000))
    real = labels.count

    def slow(conn: Connection) -> int:
        counted = real(conn)
        submit(found, world, accepted(999, "x"))
        return counted

    with monkeypatch.context() as patched:
        patched.setattr(labels, "count", slow)
        found.recount()
    with pytest.raises(QueueFullError):
        submit(found, world, accepted(2, "y"))


def test_a_reload_sets_another_limit(world: World) -> None:
    found = made(world)
    submit(found, world, accepted(1000))
    found.adopt(parse(CONFIG.format(1000)))
    with pytest.raises(QueueFullError):
        submit(found, world, accepted(1, "x"))
    found.adopt(parse(CONFIG.format(1001)))
    submit(found, world, accepted(1, "x"))
    assert found.mature_after(MODEL) is not None
    found.adopt(parse(""))
    assert found.mature_after(MODEL) is None


def test_labels_on_their_way_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "QUEUED_LABELS", 100)
    found, hold = made(world), Future[None]()
    world.service.database.write(lambda _: hold.result(20))
    model = world.service.catalog.model(MODEL)
    assert model is not None
    with closing(found.submit(model, accepted(60))) as writes:
        first = next(writes)
        with pytest.raises(QueueFullError, match="wait to be committed"):
            submit(found, world, accepted(41, "x"))
        hold.set_result(None)
        assert first.result(20) is None
        assert next(writes, None) is None
    assert submit(found, world, accepted(100, "x")) == 1


def test_a_write_that_fails_frees_what_it_had_reserved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(world)
    real, tries = labels.put, iter([True, False, False])

    def put(*arguments: object, **named: object) -> None:
        if not next(tries, False):
            raise StorageBroken("the disk is gone")
        real(*arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(labels, "put", put)
        with pytest.raises(StorageUnavailableError, match="the disk is gone"):
            submit(found, world, accepted(2 * PUT_AT_ONCE))
    assert (found.queued, told(world), stored(world)) == (0, 0.0, PUT_AT_ONCE)
    submit(found, world, accepted(2 * PUT_AT_ONCE))
    assert stored(world) == 2 * PUT_AT_ONCE


def test_once_the_database_is_closed_it_is_told_so(world: World) -> None:
    found = made(world)
    world.close()
    with pytest.raises(StorageUnavailableError):
        submit(found, world, accepted(1))
    assert found.queued == 0
    world.restart()
    assert stored(world) == 0
    assert world.clock.now() == START
