"""The transport against servers that misbehave, asserting on bytes and on the wall clock."""

import contextlib
import dataclasses
import gzip
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.ports import Failure, ReceiverSettings, Reply, Request, Secret
from alerts.transport import REPLY_CAP_BYTES, AddressInfo, HttpTransport, system_resolve
from tests.alerts.wire import OK, Server, reset, server
from tests.components import require_program
from tests.ports import reserved_port

SECRET = "sEcReTpAtH"


def request(port: int, host: str = "127.0.0.1", **changes: Any) -> Request:
    values: dict[str, Any] = {
        "url": f"http://{host}:{port}/services/{SECRET}?token={SECRET}",
        "body": '{"µ":1}'.encode(),
        "headers": {"Content-Type": "application/json", "Authorization": "Bearer ours"},
        "timeout_seconds": 5.0,
        "allow_private": True,
    }
    return Request(**{**values, **changes})


def send(to: Server, **changes: Any) -> Reply:
    return HttpTransport().send(request(to.port, **changes))


def test_the_very_bytes_arrive_once() -> None:
    with server(OK) as peer:
        reply = send(peer)
    assert (reply.status, reply.body, reply.failure, reply.truncated) == (200, b"ok", None, False)
    [sent] = peer.requests
    head, _, body = sent.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == f"POST /services/{SECRET}?token={SECRET} HTTP/1.1".encode()
    assert body == '{"µ":1}'.encode()
    assert b"Authorization: Bearer ours" in lines
    assert f"Host: 127.0.0.1:{peer.port}".encode() in lines
    assert b"Accept-Encoding: identity" in lines
    assert b"User-Agent: driftd" in lines


def test_headers_of_the_reply_are_lower_case() -> None:
    with server(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n") as peer:
        reply = send(peer)
    assert (reply.status, reply.headers["retry-after"], reply.failure) == (429, "7", None)


def test_a_refused_connection() -> None:
    port = reserved_port()
    reply = HttpTransport().send(request(port))
    assert (reply.status, reply.failure) == (None, Failure.CONNECT)
    assert reply.detail == f"http://127.0.0.1:{port}: cannot connect (Connection refused)"


def half_a_reply(peer: socket.socket, _request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
    reset(peer, b"")


def closes_early(peer: socket.socket, _request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")


@pytest.mark.parametrize("script", [reset, half_a_reply, closes_early, lambda peer, request: None])
def test_a_lost_connection(script: Callable[[socket.socket, bytes], None]) -> None:
    with server(script) as peer:
        reply = send(peer)
    assert reply.failure is Failure.RESET
    assert SECRET not in str(reply)


@pytest.mark.parametrize(
    "junk", [b"not http at all\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x16\x03\x01\x00\x05"]
)
def test_a_reply_that_is_not_http(junk: bytes) -> None:
    with server(junk) as peer:
        reply = send(peer)
    assert reply.failure is Failure.PROTOCOL
    assert SECRET not in str(reply)


PACE = threading.Event()  # never set: its wait is the peer's slowness, which is the thing under test


def drips(first: bytes, drop: bytes) -> Callable[[socket.socket, bytes], None]:
    def script(peer: socket.socket, _request: bytes) -> None:
        peer.sendall(first)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            peer.sendall(drop)
            PACE.wait(0.05)

    return script


def silent(peer: socket.socket, _request: bytes) -> None:
    with contextlib.suppress(TimeoutError):
        peer.recv(1)  # nothing comes until the other side gives up


SLOW = {
    "before the status line": drips(b"", b"H"),
    "in the headers": drips(b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "between headers": drips(b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
    "in provisional replies": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "in the body": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"a"),
    "in a body without length": drips(b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
    "in chunks": drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "silence": silent,
}


@pytest.mark.parametrize("phase", SLOW)
def test_a_dripping_reply_is_cut_at_the_deadline(phase: str) -> None:
    with server(SLOW[phase]) as peer:
        started = time.monotonic()
        reply = send(peer, timeout_seconds=0.4)
        took = time.monotonic() - started
    assert reply.failure is Failure.TIMEOUT
    assert 0.35 <= took < 2.5
    assert reply.elapsed_seconds == pytest.approx(took, abs=0.2)
    assert reply.detail.startswith(f"http://127.0.0.1:{peer.port}: timed out")


def test_a_dripping_tls_handshake_is_cut_at_the_deadline() -> None:
    # A TLS record header that announces 16 kB, then one byte at a time.
    with server(drips(b"\x16\x03\x03\x40\x00", b"\x00"), read=False) as peer:
        started = time.monotonic()
        url = f"https://127.0.0.1:{peer.port}/{SECRET}"
        reply = send(peer, url=url, timeout_seconds=0.4)
        took = time.monotonic() - started
    assert reply.failure is Failure.TIMEOUT
    assert took < 2.5


def test_a_resolver_that_hangs_is_left_behind_at_the_deadline() -> None:
    release = threading.Event()

    def hangs(host: str, port: int) -> Sequence[AddressInfo]:
        release.wait(5)
        return []

    started = time.monotonic()
    reply = HttpTransport(resolve=hangs).send(request(80, "slow.example", timeout_seconds=0.2))
    release.set()
    assert time.monotonic() - started < 2.5
    assert reply.failure is Failure.TIMEOUT
    assert "resolving" in reply.detail


def test_a_big_reply_is_cut_and_not_inflated() -> None:
    bomb = gzip.compress(b"\x00" * 20_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with server(head + bomb) as peer:
        small = send(peer)
    assert small.body == bomb[:REPLY_CAP_BYTES]

    def endless(peer: socket.socket, _request: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    with server(endless) as peer:
        big = send(peer)
    assert (len(big.body), big.truncated, big.failure) == (REPLY_CAP_BYTES, True, None)
    assert big.elapsed_seconds < 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_and_their_bodies_not_swallowed(status: int) -> None:
    with server(OK) as elsewhere:
        to = f"http://127.0.0.1:{elsewhere.port}/latest/meta-data"

        def redirects(peer: socket.socket, _request: bytes) -> None:
            peer.sendall(f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\n\r\n".encode())
            for _ in range(400):  # 25 MiB, which requests would read before it hands the redirect out
                peer.sendall(b"x" * 65536)

        with server(redirects) as peer:
            reply = send(peer)
    assert (reply.status, reply.failure, reply.truncated) == (status, None, True)
    assert len(peer.requests) == 1
    assert elsewhere.requests == []


def test_proxies_and_netrc_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password hijack\ndefault login eve password hijack\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(netrc.read_text())
    with server(OK) as proxy, server(OK) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        ours = send(peer)
        bare = send(peer, headers={})
    assert ours.status == bare.status == 200
    assert proxy.requests == []
    assert b"Authorization: Bearer ours" in peer.requests[0]
    assert b"uthorization" not in peer.requests[1]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::127.0.0.1]",
        "[fec0::1]",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "192.0.0.8",
        "0177.0.0.1",
        "[fe80::1]",
    ],
)
def test_disguised_private_addresses_are_refused_before_any_byte(host: str) -> None:
    with server(OK) as peer:
        reply = HttpTransport().send(request(peer.port, host, allow_private=False))
    assert (reply.status, reply.failure) == (None, Failure.ADDRESS)
    assert peer.requests == []
    assert SECRET not in reply.detail


def answers(*addresses: str) -> Callable[[str, int], Sequence[AddressInfo]]:
    """A resolver that gives one answer after the other."""
    left = list(addresses)

    def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        return system_resolve(left.pop(0), port)

    return resolve


def test_the_checked_address_is_the_one_connected_to() -> None:
    # One lookup per exchange: a second would get the other answer, and fail on the empty list after it.
    with server(OK) as peer:
        transport = HttpTransport(resolve=answers("127.0.0.1", "203.0.113.1"))
        reply = transport.send(request(peer.port, "hooks.example"))
        assert reply.status == 200
        assert f"Host: hooks.example:{peer.port}".encode() in peer.requests[0]
        again = transport.send(request(peer.port, "hooks.example"))
    assert again.failure is Failure.ADDRESS
    assert len(peer.requests) == 1


def test_a_name_that_turns_private_is_never_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        reached.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", connect)
    transport = HttpTransport(resolve=answers("1.1.1.1", "127.0.0.1", "169.254.169.254"))
    wanted = request(80, "rebinds.example", allow_private=False)
    assert transport.send(wanted).failure is Failure.CONNECT
    assert [transport.send(wanted).failure for _ in range(2)] == [Failure.ADDRESS] * 2
    assert reached == ["1.1.1.1"]


@pytest.mark.parametrize(
    "url",
    [
        f"file:///etc/{SECRET}",
        f"http://user:{SECRET}@127.0.0.1/",
        f"ftp://127.0.0.1/{SECRET}",
        f"gopher://127.0.0.1/{SECRET}",
        f"http://127.0.0.1\\@hooks.example/{SECRET}",
        f"http://127.0.0.1#@hooks.example/{SECRET}",
        f"//127.0.0.1/{SECRET}",
    ],
)
def test_a_url_that_is_more_than_an_address_is_refused_where_it_is_configured(url: str) -> None:
    with pytest.raises(AlertError, match=r"^url: ") as refused:
        ReceiverSettings(name="team", kind="webhook", url=Secret(url))
    assert SECRET not in str(refused.value)


def test_only_the_allowed_ones_of_several_addresses_are_tried() -> None:
    with server(OK) as peer:

        def both(host: str, port: int) -> Sequence[AddressInfo]:
            return [*system_resolve("169.254.169.254", port), *system_resolve("127.0.0.1", port)]

        assert HttpTransport(resolve=both).send(request(peer.port, "both.example")).status == 200


def test_a_name_that_does_not_exist() -> None:
    def missing(host: str, port: int) -> Sequence[AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    reply = HttpTransport(resolve=missing).send(request(80, "nowhere.example"))
    assert reply.failure is Failure.DNS
    assert reply.detail == "http://nowhere.example:80: host name not found"


def test_tls_against_a_plain_server_fails_as_tls() -> None:
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n", read=False) as peer:
        reply = send(peer, url=f"https://127.0.0.1:{peer.port}/{SECRET}")
    assert reply.failure is Failure.TLS
    assert SECRET not in str(reply)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example, its own authority, with its key in one file."""
    openssl = require_program("openssl")
    place = tmp_path_factory.mktemp("tls")
    key, pem = place / "key.pem", place / "cert.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example",
            "-keyout", str(key), "-out", str(pem),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return place


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def to_localhost(host: str, port: int) -> Sequence[AddressInfo]:
    return system_resolve("127.0.0.1", port)


def test_tls_is_checked_against_the_name_though_the_address_is_connected_to(certificate: Path) -> None:
    transport = HttpTransport(resolve=to_localhost)
    with server(OK, tls_server(certificate)) as peer:
        wanted = request(
            peer.port, url=f"https://hooks.example:{peer.port}/x", ca_file=str(certificate / "cert.pem")
        )
        assert transport.send(wanted).status == 200
        assert peer.names == ["hooks.example"]
        assert f"Host: hooks.example:{peer.port}".encode() in peer.requests[0]
        other = dataclasses.replace(wanted, url=f"https://other.example:{peer.port}/x")
        mismatch = transport.send(other)
        assert mismatch.failure is Failure.TLS
        assert "Hostname mismatch" in mismatch.detail
        public = dataclasses.replace(wanted, ca_file="")
        assert transport.send(public).failure is Failure.TLS
    assert len(peer.requests) == 1


def test_a_dripping_reply_over_tls_is_cut_at_the_deadline(certificate: Path) -> None:
    transport = HttpTransport(resolve=to_localhost)
    with server(SLOW["in the headers"], tls_server(certificate)) as peer:
        started = time.monotonic()
        reply = transport.send(
            request(
                peer.port,
                url=f"https://hooks.example:{peer.port}/x",
                ca_file=str(certificate / "cert.pem"),
                timeout_seconds=0.5,
            )
        )
        assert time.monotonic() - started < 2.5
    assert reply.failure is Failure.TIMEOUT


def test_a_missing_ca_file_is_named() -> None:
    with server(OK) as peer:
        reply = send(peer, url=f"https://127.0.0.1:{peer.port}/{SECRET}", ca_file="/nonexistent/ca.pem")
    assert reply.failure is Failure.REQUEST
    assert "ca_file" in reply.detail


@pytest.mark.parametrize("headers", [{"X": "a\r\nX-Injected: 1"}, {"X\r\nY": "a"}])
def test_a_header_cannot_be_injected(headers: dict[str, str]) -> None:
    with server(OK) as peer:
        reply = send(peer, headers=headers)
    assert reply.failure is Failure.REQUEST
    assert peer.requests == []


@pytest.mark.parametrize(
    "reply_bytes",
    [OK, b"HTTP/1.1 200 OK\r\nbroken header line\r\nContent-Length: 2\r\n\r\nok", b"junk\r\n\r\n"],
)
def test_no_log_ever_holds_the_path(reply_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    try:
        with server(reply_bytes) as peer:
            send(peer)
    finally:
        logging.getLogger("urllib3").setLevel(logging.NOTSET)
    assert SECRET not in caplog.text


def test_cookies_are_not_kept() -> None:
    with server(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n") as peer:
        transport = HttpTransport()
        transport.send(request(peer.port))
        transport.send(request(peer.port))
    assert b"ookie" not in peer.requests[1]
