"""The one connection: reused, replaced when it died, checked when it is TLS."""

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driftd_sidecar._transport import HttpTransport
from tests.components import require_program
from tests.sidecar.test_hostile import Endpoint, Handle, read_request

REPLY = b'{"accepted":1,"rejected":0}'
HEADERS = {"Content-Type": "application/octet-stream"}


def answer(status: str = "200 OK", body: bytes = REPLY, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def endpoint() -> Iterator[Callable[[Handle], Endpoint]]:
    made: list[Endpoint] = []

    def start(handle: Handle) -> Endpoint:
        made.append(Endpoint(handle))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    found = HttpTransport()
    yield found
    found.close()


def keeping(connection: Any) -> None:
    while read_request(connection):
        connection.sendall(answer())


def once(connection: Any) -> None:
    read_request(connection)
    connection.sendall(answer())


def test_one_connection_serves_all_requests(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    served = endpoint(keeping)
    for _ in range(5):
        response = transport.send(served.url + "/v1?x=1", b"body", HEADERS, 5.0)
        assert (response.status, response.body) == (200, REPLY)
    assert served.requests == 1


def test_a_connection_that_the_other_side_closed_is_replaced_without_an_error(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    served = endpoint(once)
    for _ in range(3):
        assert transport.send(served.url, b"body", HEADERS, 5.0).status == 200
        (sock,) = [transport._connection.sock] if transport._connection else []
        sock._sock.settimeout(5.0)
        assert sock._sock.recv(1, socket.MSG_PEEK) == b""  # wait for its end to arrive
    assert served.requests == 3


def test_a_connection_that_was_reset_is_replaced_without_an_error(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    reset = threading.Event()

    def slam(connection: Any) -> None:
        read_request(connection)
        connection.sendall(answer())
        linger = struct.pack("ii", 1, 0)  # a close that resets
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
        reset.set()

    served = endpoint(slam)
    for _ in range(2):
        assert transport.send(served.url, b"body", HEADERS, 5.0).status == 200
        assert reset.wait(10)
        reset.clear()
    assert served.requests == 2


@pytest.mark.parametrize(
    "reply",
    [
        answer(headers="Connection: close\r\n"),
        answer(body=b" " * 100_000),
        b"HTTP/1.0 200 OK\r\n\r\n" + REPLY,
    ],
    ids=["told to close", "cut", "until the end"],
)
def test_a_connection_that_is_not_at_its_end_is_not_used_again(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport, reply: bytes
) -> None:
    def handle(connection: Any) -> None:
        read_request(connection)
        connection.sendall(reply)

    served = endpoint(handle)
    for _ in range(2):
        assert transport.send(served.url, b"body", HEADERS, 5.0).status == 200
    assert served.requests == 2


def test_an_answer_in_chunks_is_read(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    def chunks(connection: Any) -> None:
        while read_request(connection):
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n2\r\nab\r\n0\r\n\r\n"
            )

    served = endpoint(chunks)
    for _ in range(2):
        assert transport.send(served.url, b"body", HEADERS, 5.0).body == b"{}\nab"
    assert served.requests == 1


def test_another_origin_gets_a_connection_of_its_own(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    first, second = endpoint(keeping), endpoint(keeping)
    for served in (first, second, second):
        assert transport.send(served.url, b"body", HEADERS, 5.0).status == 200
    assert (first.requests, second.requests) == (1, 1)


def test_a_deadline_that_has_passed_is_said_before_anything_is_opened(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    served = endpoint(keeping)
    with pytest.raises(TimeoutError):
        transport.send(served.url, b"body", HEADERS, 0.0)
    assert served.requests == 0


def test_a_large_body_into_a_full_pipe_ends_at_the_deadline(
    endpoint: Callable[[Handle], Endpoint], transport: HttpTransport
) -> None:
    over = threading.Event()

    def ignore(_: Any) -> None:
        over.wait()

    served = endpoint(ignore)
    with pytest.raises(TimeoutError):
        transport.send(served.url, bytes(1 << 25), HEADERS, 0.3)
    over.set()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, its own authority, with its key in another file."""
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            require_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem"),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return place


def test_tls_is_checked_against_the_given_authority(
    endpoint: Callable[[Handle], Endpoint], certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def secure(connection: Any) -> None:
        connection.settimeout(10.0)
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                keeping(wrapped)
        except ssl.SSLError:
            return

    served = endpoint(secure)
    port = served.url.rsplit(":", 1)[1]
    trusting, strict = HttpTransport(ca_bundle=str(certificate / "cert.pem")), HttpTransport()
    for _ in range(2):
        assert trusting.send(f"https://localhost:{port}/x", b"body", HEADERS, 5.0).status == 200
    assert served.requests == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        trusting.send(f"https://127.0.0.1:{port}/x", b"body", HEADERS, 5.0)  # not the name in it
    with pytest.raises(ssl.SSLCertVerificationError):
        strict.send(f"https://localhost:{port}/x", b"body", HEADERS, 5.0)
    trusting.reset_after_fork()
    assert trusting.send(f"https://localhost:{port}/x", b"body", HEADERS, 5.0).status == 200
    for each in (trusting, strict):
        each.close()
