"""Everything that arrives broken, endless or twice, at the installed daemon over real sockets; a good client beside it."""

import gzip
import json
import re
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from detectors.codec import encode_baseline
from tests.monitor import frames
from tests.monitor.cli.test_daemon import TOKEN, Daemon, daemon, write_config

PATH = "/v1/models/m/predictions"
AUTH = f"Authorization: Bearer {TOKEN}\r\n"
CONNECTIONS = 64
MIB = 2**20
LIMITS = f"""
[server]
max_connections = {CONNECTIONS}
head_timeout = "1s"
body_timeout = "1s"
max_body = "1MiB"
max_inflated_body = "8MiB"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("bad-input")
    config = write_config(directory, 0)
    config.write_text(config.read_text().replace("[server]", LIMITS, 1))
    with daemon(directory, config) as running:
        path, media = "/v1/models/m/versions/1/baseline", "application/octet-stream"
        assert running.ask("PUT", path, encode_baseline(frames.baseline()), media)[0] == 200
        yield running
        code, logged = running.stop()
        assert code == 0
        assert "Traceback" not in logged


def good(number: str, **more: object) -> bytes:
    body = {
        "id": number,
        "model_version": "1",
        "rows": [{"ts": datetime.now(UTC).isoformat(), "features": {"temp": 41.5, "carrier": "UA"}}],
    }
    return json.dumps(body | more).encode()


@pytest.fixture(autouse=True)
def good_client(served: Daemon) -> Iterator[None]:
    """Served before, and after whatever the test did, on a connection of its own."""
    yield
    began = time.monotonic()
    status, answer = served.ask("POST", PATH, good(f"good-{time.monotonic_ns()}"))
    assert (status, answer["accepted"]) == (200, 1)
    assert time.monotonic() - began < 5


def connect(served: Daemon) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=20)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass  # it closed while we still sent
    return b"".join(parts)


def problem_of(answer: bytes) -> int:
    """The status of an answer that is problem+json and says so in its body too."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.search(rb"(?i)content-type: application/problem\+json", head), answer[:500]
    status = int(head.split()[1])
    found = json.loads(body)
    assert (found["status"], bool(found["detail"])) == (status, True)
    return status


def exchange(served: Daemon, request: bytes) -> bytes:
    """The answer to bytes that the server must close after."""
    with connect(served) as connection:
        connection.sendall(request)
        return read_to_end(connection)


def post(headers: str, body: bytes = b"", path: str = PATH) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{AUTH}{headers}\r\n"
    return head.encode("latin-1") + body


BODY = good("head")
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

HEADS: list[tuple[str, bytes, int]] = [
    ("length -1", post("Content-Length: -1\r\n", BODY), 400),
    ("length +2", post("Content-Length: +2\r\n", b"{}"), 400),
    ("length 0_2", post("Content-Length: 0_2\r\n", b"{}"), 400),
    ("length 0x2", post("Content-Length: 0x2\r\n", b"{}"), 400),
    ("length of 400 digits", post(f"Content-Length: {'9' * 400}\r\n"), 400),
    ("two lengths", post(f"Content-Length: 2\r\n{LENGTH}", BODY), 400),
    ("the same length twice", post(LENGTH * 2, BODY), 400),
    ("two lengths in one", post("Content-Length: 2, 3\r\n", BODY), 400),
    ("length and chunked", post(LENGTH + CHUNKED, CHUNKS), 400),
    ("chunked and length", post(CHUNKED + LENGTH, CHUNKS), 400),
    ("unknown transfer encoding", post("Transfer-Encoding: gzip\r\n", BODY), 400),
    ("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", CHUNKS), 400),
    ("bad chunk size", post(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"), 400),
    ("negative chunk size", post(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"), 400),
    ("chunk longer than said", post(CHUNKED, b"2\r\n{}}\r\n0\r\n\r\n"), 400),
    ("space before the colon", post(f"Content-Length : {len(BODY)}\r\n", BODY), 400),
    ("no colon", post("Content-Length\r\n", BODY), 400),
    ("NUL in a header", post("X: a\x00b\r\n" + LENGTH, BODY), 400),
    ("no method", b"\r\n\r\n /\r\n\r\n", 400),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    ("HTTP/9.9", b"GET /healthz HTTP/9.9\r\n\r\n", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("100 KiB of headers", post("".join(f"X-{i}: {'a' * 1000}\r\n" for i in range(300)) + LENGTH, BODY), 431),
    ("an endless header", post("X: " + "a" * 400_000), 431),
    ("an endless address", b"GET /" + b"a" * 400_000, 431),
    ("endless trailers", post(CHUNKED, b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 100_000), 431),
]  # fmt: skip


@pytest.mark.parametrize(("_", "request_", "status"), HEADS, ids=[case[0] for case in HEADS])
def test_heads_that_lie_are_refused_and_the_connection_closed(
    served: Daemon, _: str, request_: bytes, status: int
) -> None:
    # What stands behind a head that lies is never taken for a next request.
    answer = exchange(served, request_ + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert problem_of(answer) == status


def test_chunks_are_a_body_and_what_follows_them_the_next_request(served: Daemon) -> None:
    body = good("chunked")
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body))) + b"0\r\n\r\n"
    following = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(served, post(CHUNKED, pieces) + following)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"accepted": 1' in answer


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(served: Daemon) -> None:
    with connect(served) as connection:
        connection.sendall(post("Content-Length: 99999999999\r\nConnection: close\r\n"))
        assert problem_of(read_to_end(connection)) == 413
    chunk = b"%x\r\n%b\r\n" % (65536, b" " * 65536)
    with connect(served) as connection:
        connection.sendall(post(CHUNKED + "Connection: close\r\n"))
        try:
            for _ in range(64):
                connection.sendall(chunk)
        except OSError:
            pass  # it has answered and closed
        assert read_to_end(connection).startswith(b"HTTP/1.1 413")


ROW = good("")
NOW = datetime.now(UTC)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in ROW
    return ROW.replace(old, new).replace(b'"id": "", ', b"")


def timed(ts: str) -> bytes:
    body = {"model_version": "1", "rows": [{"ts": ts, "features": {"temp": 41.5, "carrier": "UA"}}]}
    return json.dumps(body).encode().replace(b'"epoch"', b"1772366400")


BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, ""),
    ("duplicate key", changed(b'"temp"', b'"temp": 1, "temp"'), 400, ""),
    ("duplicate outer key", changed(b'"model_version"', b'"model_version": "2", "model_version"'), 400, ""),
    ("depth 100 000", b"[" * 100_000, 400, ""),
    ("depth 100 000 inside", changed(b"41.5", b"[" * 100_000 + b"]" * 100_000), 400, ""),
    ("objects 100 000 deep", changed(b"41.5", b'{"a":' * 100_000 + b"1" + b"}" * 100_000), 400, ""),
    ("byte order mark", b"\xef\xbb\xbf" + ROW, 400, ""),
    ("UTF-16", ROW.decode().encode("utf-16"), 400, ""),
    ("invalid UTF-8", changed(b"UA", b"\xff"), 400, ""),
    ("NaN", changed(b"41.5", b"NaN"), 400, ""),
    ("Infinity", changed(b"41.5", b"-Infinity"), 400, ""),
    ("lone surrogate", changed(b"UA", b"\\ud800"), 422, "/rows/0/features/carrier"),
    ("NUL in a category", changed(b"UA", b"\\u0000"), 422, "/rows/0/features/carrier"),
    ("NUL in the id", ROW.replace(b'"id": ""', b'"id": "a\\u0000"'), 422, "/id"),
    ("1e999", changed(b"41.5", b"1e999"), 422, "/rows/0/features/temp"),
    ("2^63 for text", changed(b'"UA"', b"9223372036854775808"), 422, "/rows/0/features/carrier"),
    ("5000 digits", changed(b"41.5", b"9" * 5000), 422, "/rows/0/features/temp"),
    ("naive time", timed("2026-03-01T11:00:00"), 422, "/rows/0/ts"),
    ("year 9999", timed("9999-12-31T23:59:59Z"), 422, "/rows/0/ts"),
    ("year 1, +14:00", timed("0001-01-01T00:00:00+14:00"), 422, "/rows/0/ts"),
    ("second 60 at noon", timed("2026-03-01T12:00:60Z"), 422, "/rows/0/ts"),
    ("seconds for nanoseconds", timed("epoch"), 422, "/rows/0/ts"),
    ("ten years ahead", timed(f"{NOW.year + 10}-03-01T00:00:00Z"), 422, "/rows/0/ts"),
]


@pytest.mark.parametrize(("_", "body", "status", "pointer"), BODIES, ids=[case[0] for case in BODIES])
def test_bad_bodies_are_told_apart_and_named(
    served: Daemon, _: str, body: bytes, status: int, pointer: str
) -> None:
    answer = exchange(served, post(f"Content-Length: {len(body)}\r\nConnection: close\r\n", body))
    assert problem_of(answer) == status
    assert [e["pointer"] for e in json.loads(answer.partition(b"\r\n\r\n")[2]).get("errors", [])] == (
        [pointer] if pointer else []
    )


ZEROS = gzip.compress(bytes(200 * MIB), 1)
COMPRESSED: list[tuple[str, str, bytes, int]] = [
    ("200 MiB of zeros, gzip", "gzip", ZEROS, 413),
    ("200 MiB of zeros, zstd", "zstd", zstandard.compress(bytes(200 * MIB)), 413),
    ("two members", "gzip", gzip.compress(ROW) * 2, 400),
    ("truncated", "gzip", gzip.compress(ROW)[:-9], 400),
    ("trailing junk", "gzip", gzip.compress(ROW) + b"junk", 400),
    ("truncated zstd", "zstd", zstandard.compress(ROW)[:-3], 400),
    ("two frames", "zstd", zstandard.compress(ROW) * 2, 400),
    ("not compressed", "gzip", ROW, 400),
    ("unknown", "br", ROW, 415),
    ("twice", "gzip, gzip", gzip.compress(gzip.compress(ROW)), 415),
]


def high_water(served: Daemon) -> int:
    """The most memory the daemon has held, in bytes."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    ("_", "encoding", "body", "status"), COMPRESSED, ids=[case[0] for case in COMPRESSED]
)
def test_compressed_bodies_cost_their_limit_and_not_their_size(
    served: Daemon, _: str, encoding: str, body: bytes, status: int
) -> None:
    before = high_water(served)
    head = f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    assert problem_of(exchange(served, post(head, body))) == status
    # max_inflated_body is 8 MiB.
    assert high_water(served) - before < 18 * MIB


def test_an_id_used_for_another_body_is_refused_and_a_retry_is_not(served: Daemon) -> None:
    first = good("reused")
    assert served.ask("POST", PATH, first)[1]["duplicate"] is False
    assert served.ask("POST", PATH, first)[1]["duplicate"] is True
    status, answer = served.ask("POST", PATH, good("reused", parameters={"x": 1}))
    assert (status, answer["status"]) == (422, 422)


@pytest.mark.parametrize(
    ("authorization", "path", "status"),
    [
        ("Authorization: Bearer wrong\r\n", PATH, 401),
        ("Authorization: Bearer caf\xe9\r\n", PATH, 401),
        ("", PATH, 401),
        (AUTH * 2, PATH, 401),
        (AUTH, "/v1/models/unknown/predictions", 404),
        (AUTH, "/v1/models/a%00b/predictions", 404),
        (AUTH, "/v1/models/%ff/predictions", 404),
        (AUTH, f"/v1/models/{'m' * 2000}/predictions", 404),
    ],
)
def test_strangers_and_unknown_models(served: Daemon, authorization: str, path: str, status: int) -> None:
    request = post(LENGTH + "Connection: close\r\n", BODY, path).replace(
        AUTH.encode(), authorization.encode("latin-1")
    )
    assert problem_of(exchange(served, request)) == status


def drip(connection: socket.socket, pieces: Callable[[], bytes], limit: float = 15.0) -> tuple[bytes, float]:
    """Send a piece every twentieth of a second until the server closes; what it said, and after how long."""
    began = time.monotonic()
    said = b""
    while time.monotonic() - began < limit:
        readable, _, _ = select.select([connection], [], [], 0.05)
        try:
            if readable:
                part = connection.recv(65536)
                if not part:
                    break
                said += part
            connection.sendall(pieces())
        except OSError:
            break
    return said, time.monotonic() - began


DRIPS: list[tuple[str, bytes, bytes, bytes]] = [
    ("a head", b"GET /healthz HTTP/1.1\r\nX: ", b"a", b"HTTP/1.1 408"),
    ("blank lines", b"", b"\r\n", b""),
    ("a body", post("Content-Length: 1000\r\n"), b" ", b"HTTP/1.1 408"),
    ("a chunked body", post(CHUNKED), b"1\r\n \r\n", b"HTTP/1.1 408"),
    ("a body nobody asked for", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n", b" ", b"HTTP/1.1 200"),
    ("a body refused long ago", post("Content-Length: 99999999\r\n"), b" ", b"HTTP/1.1 413"),
]  # fmt: skip


@pytest.mark.parametrize(("_", "start", "piece", "said"), DRIPS, ids=[case[0] for case in DRIPS])
def test_a_client_that_drips_is_closed_by_the_deadline(
    served: Daemon, _: str, start: bytes, piece: bytes, said: bytes
) -> None:
    with connect(served) as connection:
        connection.sendall(start)
        answer, seconds = drip(connection, lambda: piece)
    # The deadline is one second, of the head and then of the body.
    assert 0.5 < seconds < 10
    assert answer.startswith(said)
    assert answer.count(b"HTTP/1.1") == (1 if said else 0)


def test_an_idle_socket_is_closed_without_a_word(served: Daemon) -> None:
    with connect(served) as connection:
        assert read_to_end(connection) == b""


def still_open(sockets: Sequence[socket.socket]) -> int:
    """How many the server has not closed: a closed one is readable."""
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    return len(sockets) - len(poll.poll(0))


def test_2000_idle_sockets_take_nobodys_place(served: Daemon) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2500:
        if hard < 2500:
            pytest.skip(f"this machine allows {hard} open files to a process; 2500 are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (2500, hard))
    with ExitStack() as opened:
        sockets = []
        for number in range(2000):
            sockets.append(opened.enter_context(connect(served)))
            if number % 400 == 399:
                assert served.ask("POST", PATH, good(f"beside-{number}"))[0] == 200
        assert still_open(sockets) <= CONNECTIONS


def test_where_every_connection_is_at_work_a_new_one_is_told_503(served: Daemon) -> None:
    with ExitStack() as opened:
        busy = [opened.enter_context(connect(served)) for _ in range(CONNECTIONS)]
        for one in busy:
            # Each has been asked for its body, so its request is under way.
            one.sendall(post("Content-Length: 10\r\nExpect: 100-continue\r\n"))
            assert one.recv(100).startswith(b"HTTP/1.1 100")
        assert problem_of(exchange(served, b"")) == 503
        for one in busy:
            assert read_to_end(one).startswith(b"HTTP/1.1 408")


def test_a_client_that_goes_away_in_its_body_leaves_nothing(served: Daemon) -> None:
    body = good("gone")
    for cut in (1, len(body) // 2, len(body) - 1):
        with connect(served) as connection:
            connection.sendall(post(f"Content-Length: {len(body)}\r\n", body[:cut]))
    assert served.ask("POST", PATH, body)[1]["duplicate"] is False


def test_a_client_that_does_not_wait_for_the_answer_is_stored_once(served: Daemon) -> None:
    body = good("impatient")
    for _ in range(3):
        with connect(served) as connection:
            connection.sendall(post(f"Content-Length: {len(body)}\r\n", body))
    status, answer = served.ask("POST", PATH, body)
    assert (status, answer["accepted"]) == (200, 1)
    assert served.ask("POST", PATH, body)[1]["duplicate"] is True


def test_many_good_clients_are_served_beside_many_bad_ones(served: Daemon) -> None:
    """Twenty bad ones at a time drip, lie and leave, while four good ones post."""
    ended = threading.Event()
    answers: list[int] = []

    def bad(kind: int) -> None:
        while not ended.is_set():
            try:
                with connect(served) as connection:
                    connection.sendall(HEADS[kind % len(HEADS)][1] if kind % 2 else DRIPS[kind % 6][1])
                    if kind % 3:
                        drip(connection, lambda: b" ", 0.3)
            except OSError:
                continue

    def well(name: int) -> None:
        answers.extend(served.ask("POST", PATH, good(f"beside-{name}-{i}"))[0] for i in range(20))

    bads = [threading.Thread(target=bad, args=(kind,), daemon=True) for kind in range(20)]
    goods = [threading.Thread(target=well, args=(name,), daemon=True) for name in range(4)]
    for thread in (*bads, *goods):
        thread.start()
    for thread in goods:
        thread.join(60)
    ended.set()
    for thread in bads:
        thread.join(30)
    assert answers == [200] * 80
