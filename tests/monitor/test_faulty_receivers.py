"""Every receiver against every fault, through the real transport and the delivery loop, beside one that works."""

import json
import random
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.ports import Secret
from alerts.receivers.registry import RECEIVERS, build
from alerts.retry import JITTER, Action
from alerts.transport import HttpTransport
from monitor.clock import ManualClock
from monitor.deliver import Courier
from monitor.telemetry import Telemetry
from storage import outbox, receivers
from storage.engine import Connection, Database
from tests.alerts.fault.catalogue import FAULTS, Expected, Fault, reply
from tests.alerts.fault.standing import Certificates, make_certificates, standing
from tests.alerts.samples import NOW, message, settings
from tests.alerts.wire import OK, server
from tests.components import require_program

KINDS = sorted(RECEIVERS)
DEADLINE_SECONDS = 1.0
SLACK_SECONDS = 1.5  # for a machine that others use too
MEMORY_BYTES = 8 * 1024 * 1024
PATH = "/services/sEcReTpAtH?token=sEcReTpAtH"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(require_program("openssl"), tmp_path_factory.mktemp("tls"))


@dataclass(slots=True, kw_only=True)
class Post:
    """Couriers of one database, and the clock they go by."""

    database: Database
    clock: ManualClock
    couriers: dict[str, Courier]

    def add(
        self, name: str, kind: str, url: str, ca_file: str = "", *, timeout: float = DEADLINE_SECONDS
    ) -> None:
        receiver = build(
            settings(
                kind, name, url=Secret(url), allow_private=True, timeout_seconds=timeout, ca_file=ca_file
            )
        )
        telemetry, rng = Telemetry(), random.Random(6)
        self.couriers[name] = Courier(
            self.database, receiver, HttpTransport(), self.clock, "worker", telemetry, rng
        )
        self.queue(name, f"msg_{name}", kind)

    def queue(self, name: str, message_id: str, kind: str, word: str = "firing") -> None:
        rendered = build(settings(kind, name)).render(message())
        row = outbox.NewNotification(
            id=message_id,
            receiver=name,
            group_key="group",
            kind=word,
            severity="critical",
            body=rendered.body,
            content_type=rendered.content_type,
            headers=dict(rendered.headers),
            next_attempt_at=self.clock.now(),
            created_at=self.clock.now(),
        )
        self.database.write(lambda conn: outbox.add(conn, row)).result()

    def row(self, name: str) -> outbox.NotificationRow:
        with self.database.read() as conn:
            return outbox.get(conn, f"msg_{name}")

    def deliver(self) -> None:
        """Every courier once, each in its thread as in the daemon."""
        with ThreadPoolExecutor(len(self.couriers)) as threads:
            assert set(threads.map(Courier.run_once, self.couriers.values())) == {1}


@contextmanager
def post(tmp_path: Path) -> Iterator[Post]:
    with Database.open(tmp_path / "state") as database:
        yield Post(database=database, clock=ManualClock(NOW), couriers={})


def check(served: Post, kind: str, fault: Fault, expected: Expected) -> None:
    row = served.row(kind)
    with served.database.read() as conn:
        [attempt] = outbox.list_attempts(conn, row.id)
        state = receivers.get(conn, kind)
    if fault.slow:
        assert DEADLINE_SECONDS * 0.9 < attempt.duration_ms / 1000 < DEADLINE_SECONDS + SLACK_SECONDS
    assert (attempt.outcome, attempt.http_status) == (expected.action, fault.status), attempt.detail
    assert "sEcReT" not in f"{attempt} {row} {state}"
    status = {Action.DONE: "sent", Action.DEAD_LETTER: "dead"}.get(expected.action, "pending")
    assert (row.status, row.attempts) == (status, 1)
    if expected.wait is not None:
        wait = (row.next_attempt_at - NOW).total_seconds()
        assert expected.wait <= wait <= expected.wait * (1 + JITTER)
    if expected.hold is None:
        assert state.hold_until is None
    else:
        assert state.hold_until is not None
        assert expected.hold <= (state.hold_until - NOW).total_seconds() <= expected.hold * (1 + JITTER)
    assert (state.broken_since is not None) == (expected.action is Action.BREAK_RECEIVER)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_delays_its_own_receiver_alone(name: str, tmp_path: Path, certificates: Certificates) -> None:
    fault = FAULTS[name]
    with ExitStack() as stack:
        served = stack.enter_context(post(tmp_path))
        for kind in KINDS:
            place = stack.enter_context(standing(fault, certificates, PATH))
            served.add(kind, kind, place.url, place.ca_file)
        well = stack.enter_context(server(OK))
        served.add("well", "webhook", f"http://127.0.0.1:{well.port}/", timeout=30)
        served.deliver()
        assert served.row("well").status == "sent"
        for kind in KINDS:
            check(served, kind, fault, fault.outcome(kind))


def test_receivers_that_hang_keep_nobody_waiting(tmp_path: Path) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hangs(peer: socket.socket, _request: bytes) -> None:
        arrived.set()
        assert release.wait(30)

    def answers(peer: socket.socket, _request: bytes) -> None:
        assert arrived.wait(30)
        peer.sendall(OK)

    with ExitStack() as stack:
        served = stack.enter_context(post(tmp_path))
        for kind in KINDS:
            stuck = stack.enter_context(server(hangs))
            served.add(kind, kind, f"http://127.0.0.1:{stuck.port}{PATH}", timeout=60)
        well = stack.enter_context(server(answers))
        served.add("well", "webhook", f"http://127.0.0.1:{well.port}/", timeout=60)
        with ThreadPoolExecutor(len(served.couriers)) as threads:
            sends = {name: threads.submit(courier.run_once) for name, courier in served.couriers.items()}
            assert sends["well"].result(30) == 1
            assert served.row("well").status == "sent"
            assert not any(sends[kind].done() for kind in KINDS)
            release.set()


@pytest.mark.parametrize("name", ["gzip of 50 MiB", "50 MiB of gzip", "redirect with a body"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_reply_costs_no_memory(
    kind: str, name: str, tmp_path: Path, certificates: Certificates
) -> None:
    fault = FAULTS[name]
    with post(tmp_path) as served, standing(fault, certificates, PATH) as place:
        served.add(kind, kind, place.url, timeout=10)
        tracemalloc.start()
        try:
            served.deliver()
            assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
        finally:
            tracemalloc.stop()
        check(served, kind, fault, fault.outcome(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_held_back_arrives_in_order_under_its_own_id(kind: str, tmp_path: Path) -> None:
    answers = [reply(429, Retry_After="60"), OK, OK]
    with post(tmp_path) as served, server(lambda peer, _: peer.sendall(answers.pop(0))) as peer:
        served.add(kind, kind, f"http://127.0.0.1:{peer.port}{PATH}")
        courier = served.couriers[kind]
        assert courier.run_once() == 1
        served.queue(kind, "msg_end", kind, "resolved")  # it resolves while its trigger is held back
        served.clock.advance(timedelta(seconds=59))
        assert courier.run_once() == 0
        served.clock.advance(timedelta(seconds=14))
        assert (courier.run_once(), courier.run_once()) == (1, 1)
        with served.database.read() as conn:
            rows = outbox.list_notifications(conn)[::-1]
        assert [(row.id, row.status) for row in rows] == [(f"msg_{kind}", "sent"), ("msg_end", "sent")]
        assert len(peer.requests) == 3
        assert content_of(peer.requests[0]) == content_of(peer.requests[1])


def content_of(request: bytes) -> Any:
    """The body, without the end that each attempt gives to an alert that fires (Alertmanager)."""
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    if isinstance(body, list):
        return [{name: value for name, value in alert.items() if name != "endsAt"} for alert in body]
    return body


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_never_recovers_is_given_up_after_its_schedule(kind: str, tmp_path: Path) -> None:
    with post(tmp_path) as served, server(reply(500)) as peer:
        served.add(kind, kind, f"http://127.0.0.1:{peer.port}{PATH}")
        attempts = 0
        while served.row(kind).status == "pending":
            attempts += served.couriers[kind].run_once()
            served.clock.advance_to(max(served.clock.now(), served.row(kind).next_attempt_at))
        assert (attempts, served.row(kind).status) == (14, "dead")
        assert len(peer.requests) == 14
        spent = served.clock.now() - NOW
        assert timedelta(hours=75) < spent < timedelta(hours=75) * (1 + JITTER) + timedelta(hours=1)


def test_a_broken_receiver_keeps_its_rows(tmp_path: Path) -> None:
    with post(tmp_path) as served, server(reply(410)) as peer:
        served.add("webhook", "webhook", f"http://127.0.0.1:{peer.port}{PATH}")
        assert served.couriers["webhook"].run_once() == 1
        served.clock.advance(timedelta(days=2))
        assert served.couriers["webhook"].run_once() == 0
        assert served.row("webhook").status == "pending"

        def repaired(conn: Connection) -> None:
            receivers.clear(conn, "webhook")

        served.database.write(repaired).result()
        assert served.couriers["webhook"].run_once() == 1
