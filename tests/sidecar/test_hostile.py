"""Whatever the other end does, the application's results, exceptions and waits are those of the bare session."""

import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest

from driftd_sidecar import MonitoredSession, PredictionLogger, Response
from tests.ports import reserved_port
from tests.sidecar import onnx_bytes
from tests.sidecar.fakes import FakeTransport, Sent, close, ok
from tests.sidecar.published import same_bits

Handle = Callable[[socket.socket], None]
MODEL = onnx_bytes.classifier()
GOOD = {"features": np.arange(60, dtype=np.float32).reshape(2, 30)}
BAD = {"features": np.ones((1, 29), np.float32)}


class Endpoint:
    """Hands every connection to a function, in a thread, until it is closed."""

    def __init__(self, handle: Handle) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._handle = handle
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self.requests += 1
                self._handle(connection)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()


@pytest.fixture
def endpoint() -> Iterator[Callable[[Handle], Endpoint]]:
    made: list[Endpoint] = []

    def start(handle: Handle) -> Endpoint:
        made.append(Endpoint(handle))
        return made[-1]

    yield start
    for each in made:
        each.close()


def read_request(connection: socket.socket) -> bool:
    """Reads one request to its end; whether there was one. An answer before that end may be lost in a reset."""
    raw = b""
    while True:
        head, found, body = raw.partition(b"\r\n\r\n")
        if found:
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if length is None or len(body) >= int(length[1]):
                return True
        piece = connection.recv(65_536)
        if not piece:
            return False
        raw += piece


def silent(connection: socket.socket) -> None:
    while connection.recv(65_536):
        continue


def dripping(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.01)  # the drip itself


def hanging_up(connection: socket.socket) -> None:
    connection.recv(100)


def babbling(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(bytes(range(256)) * 100)


def saying(status: str, body: bytes = b"<html><body>no</body></html>", headers: str = "") -> Handle:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    return handle


HOSTILE = {
    "blackholed": silent,
    "dripping": dripping,
    "hanging up": hanging_up,
    "babbling": babbling,
    "500": saying("500 Internal Server Error"),
    "413": saying("413 Content Too Large"),
    "401": saying("401 Unauthorized", headers="WWW-Authenticate: Bearer\r\n"),
    "HTML": saying("200 OK"),
    "redirect": saying("302 Found", headers="Location: http://127.0.0.1:9/\r\n"),
    "endless header": saying("200 OK", headers="X: " + "y" * 100_000 + "\r\n"),
}
REFUSED_FOR_GOOD = {"413", "401", "redirect"}


def use(session: Any, bare: Any, calls: int = 100) -> None:
    """An application: what it gets and what is raised are the bare session's."""
    wanted = bare.run(None, GOOD)
    with pytest.raises(Exception) as expected:
        bare.run(None, BAD)
    for _ in range(calls):
        assert same_bits(session.run(None, GOOD), wanted)
    with pytest.raises(type(expected.value)) as found:
        session.run(None, BAD)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_application_notices_nothing(
    endpoint: Callable[[Handle], Endpoint], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bare = onnxruntime.InferenceSession(MODEL)
    served = endpoint(HOSTILE[name])
    session = MonitoredSession(
        MODEL,
        model="m",
        version="1",
        endpoint=served.url,
        token="wrong",
        flush_seconds=0.02,
        timeout_seconds=0.2,
    )
    use(session, bare)
    flushed = session.flush(1.0)
    assert served.requests > 0
    stats = session.stats()
    assert (stats.seen, stats.sent, stats.failed_inferences) == (200, 0, 1)
    assert (stats.gave_up == 200) == (name in REFUSED_FOR_GOOD)
    assert not flushed or name in REFUSED_FOR_GOOD  # given up before the flush: nothing waited
    close(session.logger, 0.5)
    stats = session.stats()
    assert (stats.seen, stats.dropped, stats.pending, stats.pending_bytes) == (200, 200, 0, 0)
    assert 1 <= len(caplog.records) <= 3  # said, and not once per batch
    assert "wrong" not in caplog.text


def test_a_refused_connection_is_like_an_outage() -> None:
    bare = onnxruntime.InferenceSession(MODEL)
    endpoint = f"http://127.0.0.1:{reserved_port()}"
    session = MonitoredSession(MODEL, model="m", version="1", endpoint=endpoint)
    use(session, bare)
    close(session.logger, 0.1)
    assert session.stats().dropped == session.stats().seen == 200


def test_no_call_waits_for_the_network() -> None:
    """The transport is stuck until the calls are over: they do not need it."""
    over, stuck = threading.Event(), threading.Event()
    transport = FakeTransport()

    def wait(_: Sent) -> Response:
        stuck.set()
        over.wait()
        return ok()

    transport.always = wait
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    bare = onnxruntime.InferenceSession(MODEL)
    with MonitoredSession(MODEL, transport=transport, flush_seconds=0.01, **options) as session:
        use(session, bare, 10)
        assert stuck.wait(10)
        use(session, bare, 5000)
        over.set()
    stats = session.stats()
    assert stats.sent == stats.seen == 2 * 5010
    assert stats.failed_inferences == 2


def test_an_hour_of_traffic_without_a_daemon() -> None:
    """At 12 rows a second, in steps of simulated time: bounded bytes, no exception, every loss counted."""
    from tests.sidecar.test_shipping import Bench

    bench = Bench(buffer_bytes=1 << 18)
    bench.transport.always = lambda _: OSError("no route to host")
    most = 0
    for _ in range(3600):
        for _ in range(4):
            bench.log(3)
        bench.run(1.0)
        most = max(most, bench.buffer.stats().pending_bytes)
    assert most <= 1 << 18
    bench.transport.always = lambda _: ok()
    bench.transport.sent.clear()
    bench.run(120.0)
    bench.log(1)
    bench.run(2.0)
    stats = bench.buffer.stats()
    assert (stats.seen, stats.pending) == (43_201, 0)
    assert stats.sent + stats.dropped == stats.seen
    assert stats.dropped > 0
    told = [sent.parameters for sent in bench.transport.sent]
    assert sum(each["kept"] for each in told) == stats.sent
    assert sum(each["dropped"] for each in told) == stats.dropped


def test_a_clock_that_steps_back_and_forth_is_shipped_as_it_was() -> None:
    steps = [10**18, 10**18 + 5, 10**18 - 3_600 * 10**9, 0, 10**18 + 6]
    times = iter(steps)
    transport = FakeTransport()
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    one = {"features": np.ones((1, 30), np.float32)}
    with MonitoredSession(MODEL, transport=transport, clock=lambda: next(times), **options) as session:
        for _ in steps:
            session.run(None, one)
        session.run(None, one)  # the clock ends
    (sent,) = transport.sent
    assert sent.inputs["driftd.ts"].tolist() == steps
    assert (session.stats().sent, session.stats().errors) == (5, 1)


def test_a_storm_of_threads_loses_no_row() -> None:
    transport = FakeTransport()
    transport.answers = [OSError("down"), Response(status=503), TimeoutError()]
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    bare = onnxruntime.InferenceSession(MODEL)
    wanted = bare.run(None, GOOD)
    wrong: list[int] = []
    with MonitoredSession(MODEL, transport=transport, flush_seconds=0.01, **options) as session:

        def call(seed: int) -> None:
            rng = random.Random(seed)
            for number in range(150):
                features = GOOD["features"].copy()
                found = session.run(["label"] if rng.random() < 0.3 else None, {"features": features})
                if found[0].tobytes() != wanted[0].tobytes():
                    wrong.append(number)
                features[:] = -1  # reused at once

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.flush(30)
    assert wrong == []
    stats = session.stats()
    assert stats.seen == stats.sent == 32 * 150 * 2
    delivered = {sent.header["id"]: sent for sent in transport.sent}  # the retried ones once
    assert sum(sent.rows for sent in delivered.values()) == stats.sent
    for sent in delivered.values():
        np.testing.assert_array_equal(sent.inputs["features"], np.tile(GOOD["features"], (sent.rows // 2, 1)))


def test_what_the_model_raises_and_what_the_caller_raises_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt inside run is nobody's failed inference."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_: Any) -> None:
        raise Interrupted

    real = onnxruntime.InferenceSession(MODEL)
    monkeypatch.setattr(real, "run", interrupt, raising=False)
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    with MonitoredSession(real, transport=FakeTransport(), **options) as session:
        with pytest.raises(Interrupted):
            session.run(None, GOOD)
        assert session.stats().failed_inferences == 0


@pytest.mark.parametrize("ending", ["os._exit(7)", "os.kill(os.getpid(), 9)", "raise SystemExit(7)"])
def test_a_process_that_ends_in_the_middle_ends_at_once_and_as_it_said(ending: str) -> None:
    code = (
        "import os, sys, numpy, driftd_sidecar\n"
        "logger = driftd_sidecar.PredictionLogger(model='m', version='1', endpoint='http://127.0.0.1:9')\n"
        "for _ in range(1000): logger.log({'x': numpy.ones(7)}, {})\n"
        f"{ending}\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == (-9 if "kill" in ending else 7)
    assert b"Traceback" not in done.stderr
    assert b"ResourceWarning" not in done.stderr


def test_a_fork_under_load_leaves_the_child_usable() -> None:
    """Forked while other threads hold the locks of the logger; the child logs and does not hang."""
    code = (
        "import os, sys, threading, numpy, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "from driftd_sidecar import PredictionLogger\n"
        "from tests.sidecar.fakes import FakeTransport\n"
        "logger = PredictionLogger(model='m', version='1', endpoint='http://127.0.0.1:9', transport=FakeTransport(),\n"
        "                          flush_seconds=0.01)\n"
        "stop = threading.Event()\n"
        "def load():\n"
        "    while not stop.is_set(): logger.log({'x': numpy.ones(7)}, {})\n"
        "threads = [threading.Thread(target=load) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "bad = 0\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        logger.log({'x': numpy.ones(3)}, {})\n"
        "        done = logger.flush(20)\n"
        "        os._exit(0 if done and logger.stats().sent == 3 else 1)\n"
        "    bad += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "stop.set()\n"
        "for thread in threads: thread.join()\n"
        "logger.close()\n"
        "stats = logger.stats()\n"
        "print(bad, stats.pending == 0 < stats.sent and stats.sent + stats.dropped == stats.seen)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=120, check=False, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "True"], done.stderr


def test_logging_is_left_as_it_was() -> None:
    import logging

    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("driftd_sidecar").level)
    logger = PredictionLogger(
        model="m", version="1", endpoint="http://127.0.0.1:9", transport=FakeTransport()
    )
    logger.log({"x": np.ones(1)}, {})
    logger.close()
    assert (root.level, list(root.handlers), logging.getLogger("driftd_sidecar").level) == before
    assert logging.getLogger("driftd_sidecar").level == logging.NOTSET
    assert os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
