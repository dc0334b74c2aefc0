"""The sidecar's only socket: one keep-alive connection, one deadline per request, no redirects, nothing from the environment.

The standard library's client, not a larger one: it costs a quarter of the CPU, opens no second thread for a deadline,
and knows no proxies, no `.netrc` and no redirects that would have to be switched off.
"""

import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlsplit

_REPLY_BYTES = 65_536
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back: the status, the headers and the body, of the answer to a POST at most 64 KiB."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    body: bytes = b""


class Transport(Protocol):
    """Sends one request. Any exception means that there was no answer and the batch is sent again.

    It may also have `close()`, and `reset_after_fork()` for a forked child that must leave the parent's connections
    alone.
    """

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """POST `body` to `url` and return the answer within `timeout` seconds."""
        ...


class Fetching(Transport, Protocol):
    """A transport that can also GET, which edge mode needs. Any exception means that there was no answer."""

    def fetch(self, url: str, headers: Mapping[str, str], timeout: float, most_bytes: int) -> Response:
        """GET `url` and return the answer, with at most `most_bytes` of its body, within `timeout` seconds."""
        ...


class _TimedSocket:
    """A socket whose every operation may take what is left until the deadline.

    Timeouts of sockets are per operation: with those alone a server that drips one byte a second holds us for ever.
    """

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock = sock
        self._left = left

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._left))

    def close(self) -> None:
        self._sock.close()

    @property
    def dropped(self) -> bool:
        """Whether the other side has closed an idle connection, or said what nobody asked for.

        A readable socket is not enough to tell: with TLS, session tickets come after the answer.
        """
        self._sock.settimeout(0)
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock = sock
        self._left = left
        self._file = sock.makefile("rb", buffering=0)  # keeps a closed socket open until the answer is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Connection(HTTPConnection):
    """One connection to one origin. `deadline` is set before every request, in monotonic seconds."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._context = context
        self.deadline = 0.0

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no complete answer before the deadline")
        return left

    def connect(self) -> None:
        sock = socket.create_connection((self.host, self.port), self._left())
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock.settimeout(self._left())
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock: Any = _TimedSocket(sock, self._left)

    def forget_dropped(self) -> None:
        """Closes a connection that the other side has closed; the next request opens another."""
        if self.sock is not None and self.sock.dropped:
            self.close()


class HttpTransport:
    """The default transport. `ca_bundle` is a file of certificates to trust; absent: those of the operating system."""

    def __init__(self, *, ca_bundle: str | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._origin: tuple[str, str] | None = None
        self._connection: _Connection | None = None

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        return self._request("POST", url, body, headers, timeout, _REPLY_BYTES)

    def fetch(self, url: str, headers: Mapping[str, str], timeout: float, most_bytes: int) -> Response:
        return self._request("GET", url, None, headers, timeout, most_bytes)

    def _request(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
        most_bytes: int,
    ) -> Response:
        scheme, origin, path, query, _ = urlsplit(url)
        connection = self._connected(scheme, origin)
        connection.deadline = time.monotonic() + timeout
        whole = False
        try:
            connection.forget_dropped()
            connection.request(method, f"{path}?{query}" if query else path, body, dict(headers))
            with connection.getresponse() as reply:
                content = reply.read(most_bytes)
                whole = reply.isclosed()  # read to its end: the connection can be used again
                return Response(status=reply.status, headers=dict(reply.headers), body=content)
        finally:
            if not whole:
                connection.close()

    def _connected(self, scheme: str, origin: str) -> _Connection:
        """The connection to this origin, which is opened with the first request."""
        if self._connection is None or self._origin != (scheme, origin):
            self.close()
            parts = urlsplit(f"{scheme}://{origin}")
            context = ssl.create_default_context(cafile=self._ca_bundle) if scheme == "https" else None
            self._connection = _Connection(parts.hostname or "", parts.port or _PORTS[scheme], context)
            self._origin = (scheme, origin)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def reset_after_fork(self) -> None:
        """The parent goes on using its connection. Closing our copy of it puts no word on the wire."""
        self.close()
