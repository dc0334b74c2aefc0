"""The default transport and the whole sidecar against real sockets on loopback."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import MonitoredSession, PredictionLogger
from driftd_sidecar._transport import HttpTransport
from tests.sidecar import onnx_bytes
from tests.sidecar.fakes import Sent


class Daemon:
    """A loopback HTTP server that decodes what it gets and answers 200."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.paths: list[str] = []
        self.ports: set[int] = set()  # of the clients: one per connection
        self.statuses: list[int] = []
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                daemon.ports.add(self.client_address[1])
                daemon.paths.append(self.path)
                daemon.sent.append(Sent(self.path, body, dict(self.headers)))
                reply = json.dumps({"accepted": daemon.sent[-1].rows, "rejected": 0, "errors": []}).encode()
                self.send_response(daemon.statuses.pop(0) if daemon.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    found = Daemon()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def test_a_session_ships_over_one_connection(daemon: Daemon) -> None:
    features = np.random.default_rng(1).normal(size=(5, 30)).astype(np.float32)
    options: dict[str, Any] = {"endpoint": daemon.url, "token": "secret", "flush_seconds": 0.02}
    with MonitoredSession(onnx_bytes.classifier(), model="credit", version="3", **options) as session:
        for _ in range(4):
            session.run(None, {"features": features})
            assert session.flush(10)
    assert daemon.paths == ["/v1/models/credit/predictions"] * 4
    assert len(daemon.ports) == 1
    for sent in daemon.sent:
        np.testing.assert_array_equal(sent.inputs["features"], features)
        assert sent.headers["Authorization"] == "Bearer secret"
        assert sent.headers["Content-Type"] == "application/octet-stream"
        assert sent.headers["Idempotency-Key"] == sent.header["id"]
    assert session.stats().sent == 20


def test_a_daemon_that_comes_back_gets_the_same_batch(daemon: Daemon) -> None:
    daemon.statuses = [503]
    with PredictionLogger(model="m", version="1", endpoint=daemon.url, flush_seconds=0.02) as logger:
        logger.log({"x": np.ones(2)}, {})
        assert logger.flush(10)
    first, second = daemon.sent
    assert first.body == second.body
    assert logger.stats().retries == 1


def test_a_redirect_is_not_followed(daemon: Daemon) -> None:
    daemon.statuses = [302]
    transport = HttpTransport()
    response = transport.send(daemon.url + "/here", *minimal(), 5.0)
    transport.close()
    assert response.status == 302
    assert daemon.paths == ["/here"]


def minimal() -> tuple[bytes, dict[str, str]]:
    header = b'{"inputs":[{"name":"driftd.ts","datatype":"INT64","shape":[0],"parameters":{"binary_data_size":0}}],"outputs":[]}'
    return header, {"Inference-Header-Content-Length": str(len(header)), "Authorization": "Bearer mine"}


def test_the_environment_changes_nothing(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    transport = HttpTransport()
    assert transport.send(daemon.url, *minimal(), 5.0).status == 200
    assert daemon.sent[0].headers["Authorization"] == "Bearer mine"
    transport.close()


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a server whose only connection is handled by a function; gives its URL."""
    ends: list[Callable[[], None]] = []

    def start(handle: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    handle(connection)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        ends.extend([listener.close, thread.join])
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for end in ends:
        end()


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"], ids=["header", "body"]
)
def test_a_dripping_answer_ends_at_the_deadline(
    answering: Callable[[Callable[[socket.socket], None]], str], start: bytes
) -> None:
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(start or b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not gone.wait(0.02):
            connection.sendall(b"a")

    url = answering(drip)
    began = time.monotonic()
    transport = HttpTransport()
    with pytest.raises(Exception, match=r"."):
        transport.send(url, *minimal(), 0.3)
    gone.set()
    transport.close()
    assert 0.25 < time.monotonic() - began < 3.0


def test_a_long_answer_is_cut(answering: Callable[[Callable[[socket.socket], None]], str]) -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b" " * 900_000)

    transport = HttpTransport()
    response = transport.send(answering(flood), *minimal(), 5.0)
    transport.close()
    assert len(response.body) == 65_536


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 and newer
def test_a_forked_child_ships_its_own_rows_and_only_those(daemon: Daemon) -> None:
    options: dict[str, Any] = {"endpoint": daemon.url, "flush_seconds": 30.0}
    with PredictionLogger(model="m", version="1", **options) as logger:
        logger.log({"x": np.full(3, 1.0)}, {})
        assert logger.flush(10)  # the connection is open when the process forks
        logger.log({"x": np.full(2, 2.0)}, {})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                before = logger.stats()
                logger.log({"x": np.full(5, 3.0)}, {})
                shipped = logger.flush(10)
                status = 0 if shipped and before.seen == 0 and logger.stats().sent == 5 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert logger.stats().sent == 5
    assert sorted(sent.inputs["x"].tolist() for sent in daemon.sent) == [[1.0] * 3, [2.0] * 2, [3.0] * 5]
    assert len(daemon.ports) == 2


def test_what_is_left_is_shipped_when_the_interpreter_ends(daemon: Daemon) -> None:
    from tests.sidecar.test_exports import python

    python(
        "import numpy, driftd_sidecar\n"
        f"logger = driftd_sidecar.PredictionLogger(model='m', version='1', endpoint={daemon.url!r}, flush_seconds=60)\n"
        "logger.log({'x': numpy.ones(7)}, {})"
    )
    assert [sent.rows for sent in daemon.sent] == [7]


def test_an_interpreter_ends_in_time_when_nobody_listens() -> None:
    from tests.sidecar.test_exports import python

    told = python(
        "import atexit, time\n"
        "atexit.register(lambda: print(time.monotonic() - ended))  # the first in is the last out\n"
        "import numpy, driftd_sidecar\n"
        "logger = driftd_sidecar.PredictionLogger(model='m', version='1', endpoint='http://127.0.0.1:9')\n"
        "logger.log({'x': numpy.ones(7)}, {})\n"
        "ended = time.monotonic()"
    )
    assert 0 < float(told) < 10
