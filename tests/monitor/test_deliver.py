"""The delivery loop where its store fails, and where it is told to stop."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from alerts.ports import Reply, Request
from alerts.receivers.registry import build
from alerts.retry import Action
from monitor.clock import ManualClock
from monitor.deliver import Courier, Couriers
from monitor.telemetry import Telemetry
from storage import outbox, receivers
from storage.engine import Connection, Database
from storage.errors import StorageFull
from storage.outbox import NewNotification, NotificationRow
from tests.alerts.samples import NOW, message, settings
from tests.monitor.harness import harness, listener

RECEIVER = build(settings("webhook", "ops"))


class Wire:
    """Answers as it is told and keeps the ids it saw; `meanwhile` is called during each send."""

    def __init__(self) -> None:
        self.status = 200
        self.ids: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def send(self, request: Request) -> Reply:
        self.ids.append(request.headers["webhook-id"])
        self.meanwhile()
        return Reply(status=self.status, body=b"ok")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def courier(database: Database, wire: Wire, clock: ManualClock) -> Courier:
    return Courier(database, RECEIVER, wire, clock, "worker", Telemetry(), random.Random(1))


def queue(database: Database, *names: str, group: str | None = None) -> None:
    rendered = RECEIVER.render(message())
    rows = [
        NewNotification(
            id=name,
            receiver="ops",
            group_key=group or name,
            kind="firing",
            severity="critical",
            body=rendered.body,
            content_type=rendered.content_type,
            next_attempt_at=NOW,
            created_at=NOW,
        )
        for name in names
    ]

    def write(conn: Connection) -> None:
        for row in rows:
            outbox.add(conn, row)

    database.write(write).result()


def rows(database: Database) -> dict[str, NotificationRow]:
    with database.read() as conn:
        return {row.id: row for row in outbox.list_notifications(conn, limit=1000)}


def attempts(database: Database, name: str) -> list[str]:
    with database.read() as conn:
        return [attempt.outcome for attempt in outbox.list_attempts(conn, name)]


@contextmanager
def unwritable(database: Database) -> Iterator[None]:
    """The disk is full: no transaction begins, and reading goes on."""

    def refuse(_conn: Connection) -> None:
        raise StorageFull("database or disk is full (SQLITE_FULL)")

    event.listen(database._engine, "begin", refuse)
    try:
        yield
    finally:
        event.remove(database._engine, "begin", refuse)


def test_what_is_due_is_sent_once_though_nothing_can_be_written(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock
) -> None:
    queue(database, "a", "b")
    with unwritable(database):
        for _ in range(50):
            courier.run_once()
            clock.advance(timedelta(minutes=10))
        assert sorted(wire.ids) == ["a", "b"]
        assert {row.status for row in rows(database).values()} == {"pending"}
    assert courier.run_once() == 0
    assert {(row.status, row.attempts) for row in rows(database).values()} == {("sent", 1)}
    assert attempts(database, "a") == attempts(database, "b") == [Action.DONE]
    queue(database, "c")
    assert courier.run_once() == 1
    assert wire.ids[-1] == "c"


def test_a_send_that_could_not_be_marked_is_not_sent_again(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock
) -> None:
    queue(database, "a")
    # The disk fills while the request is under way: it is leased, sent, and cannot be marked.
    full = unwritable(database)
    wire.meanwhile = lambda: full.__enter__()
    assert courier.run_once() == 1
    for _ in range(20):
        clock.advance(timedelta(hours=1))
        assert courier.run_once() == 0
    full.__exit__(None, None, None)
    assert courier.run_once() == 0
    assert (wire.ids, rows(database)["a"].status) == (["a"], "sent")


def test_without_the_store_retries_keep_their_schedule_and_their_order(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock
) -> None:
    queue(database, "trigger", "resolve", group="incident")
    wire.status = 500
    with unwritable(database):
        assert courier.run_once() == 1
        clock.advance(timedelta(seconds=4))
        assert courier.run_once() == 0
        clock.advance(timedelta(seconds=3))
        assert courier.run_once() == 1
        wire.status = 200
        clock.advance(timedelta(seconds=20))
        assert courier.run_once() == 1
        # Its trigger arrived, but is not marked: the order within the group waits for the store.
        assert courier.run_once() == 0
    assert courier.run_once() == 1
    assert wire.ids == ["trigger", "trigger", "trigger", "resolve"]
    assert attempts(database, "trigger") == [Action.RETRY, Action.RETRY, Action.DONE]
    assert rows(database)["trigger"].attempts == 3


@pytest.mark.parametrize(("status", "later"), [(410, timedelta(days=30)), (429, timedelta(seconds=4))])
def test_without_the_store_a_receiver_that_is_held_stays_held(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock, status: int, later: timedelta
) -> None:
    queue(database, "a", "b")
    wire.status = status
    with unwritable(database):
        assert courier.run_once(limit=1) == 1
        clock.advance(later)
        assert courier.run_once() == 0
    courier.run_once()
    with database.read() as conn:
        state = receivers.get(conn, "ops")
    assert (state.broken_since is not None) == (status == 410)


def test_the_first_breakage_is_remembered(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock
) -> None:
    queue(database, "a")
    wire.status = 410
    courier.run_once()
    database.write(lambda conn: receivers.try_again(conn, at=clock.now())).result()
    clock.advance(timedelta(hours=1))
    assert courier.run_once() == 1
    with database.read() as conn:
        assert receivers.get(conn, "ops") == receivers.ReceiverState(
            receiver="ops", broken_since=NOW, hold_until=None, reason="HTTP 410: the endpoint is gone: ok"
        )


def test_no_page_waits_for_the_lease_of_a_dead_daemon(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        queue(daemon.service.database, "a")
        # The scheduler looks at the real clock, and would count every tick missed since the tests' beginning.
        daemon.clock.advance_to(max(NOW, datetime.now(UTC)))

        def claim(conn: Connection) -> list[NotificationRow]:
            now = daemon.clock.now()
            lease = now + timedelta(hours=1)
            return outbox.claim_due(conn, now=now, lease_until=lease, worker="dead", limit=1)

        assert [row.id for row in daemon.service.database.write(claim).result()] == ["a"]
        daemon.service.start()
        deadline = threading.Event()
        for _ in range(600):
            if heard.posts or deadline.wait(0.05):
                break
        assert [headers["webhook-id"] for headers, _ in heard.posts] == ["a"]


def test_a_stop_sends_what_is_due_and_leaves_the_rest(
    database: Database, courier: Courier, wire: Wire, clock: ManualClock
) -> None:
    queue(database, *(f"n{number:03}" for number in range(60)))
    sending, stopping = threading.Event(), threading.Event()

    def hold() -> None:
        sending.set()
        assert stopping.wait(10)

    wire.meanwhile = hold
    couriers = Couriers({"ops": courier})
    couriers.start()
    assert sending.wait(10)
    threading.Timer(0.05, stopping.set).start()
    couriers.stop(60)
    assert len(wire.ids) == len(set(wire.ids)) == 60
    assert {row.status for row in rows(database).values()} == {"sent"}


def test_a_stop_begins_no_send_that_might_not_end_in_time(
    database: Database, courier: Courier, wire: Wire
) -> None:
    queue(database, *(f"n{number}" for number in range(9)))
    couriers = Couriers({"ops": courier})
    wire.meanwhile = lambda: couriers.stop(courier.timeout_seconds / 2) if len(wire.ids) == 1 else None
    couriers._loops["ops"]._run()
    left = [row for row in rows(database).values() if row.status == "pending"]
    assert (len(wire.ids), len(left)) == (1, 8)
