"""The sidecar's only socket: one keep-alive session, a wall-clock deadline, no redirects, nothing from the environment."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from types import MappingProxyType
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_REPLY_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back: the status, the headers and at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    body: bytes = b""


class Transport(Protocol):
    """Sends one request. Any exception means that there was no answer and the batch is sent again."""

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """POST `body` to `url` and return the answer within `timeout` seconds."""
        ...


class _Deadline:
    """Shuts the connection in use when time is up.

    The timeouts of requests are per socket operation: a server that drips one byte a second holds a request for
    ever. A timer that shuts the socket down ends any of them, in the TLS handshake as well.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._connection: HTTPConnection | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def watch(self, connection: HTTPConnection) -> None:
        self._connection = connection
        if self.expired:
            raise TimeoutError("the deadline passed while connecting")

    def _expire(self) -> None:
        self.expired = True
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(SHUT_RDWR)
            except OSError:
                return

    def __enter__(self) -> "_Deadline":
        _in_use.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _in_use.deadline = None
        self._connection = None


_in_use = threading.local()  # connections are made deep inside urllib3; the thread tells them their deadline


def _watched(connection: HTTPConnection) -> None:
    deadline = getattr(_in_use, "deadline", None)
    if deadline is not None:
        deadline.watch(connection)


class _PlainConnection(HTTPConnection):
    def connect(self) -> None:
        _watched(self)
        super().connect()
        _watched(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watched(self)
        super().request(*args, **kwargs)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        _watched(self)
        super().connect()
        _watched(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watched(self)
        super().request(*args, **kwargs)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}


class RequestsTransport:
    """The default transport. `ca_bundle` is a file of certificates to trust; absent: those that requests ships."""

    def __init__(self, *, ca_bundle: str | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._session: requests.Session | None = None

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        session = self._session or self._connect()
        with (
            _Deadline(timeout) as deadline,
            session.post(
                url, data=body, headers=dict(headers), timeout=timeout, allow_redirects=False, stream=True
            ) as reply,
        ):
            content = reply.raw.read(_REPLY_BYTES, decode_content=True)
            if deadline.expired:  # a header cut short by the shutdown reads like a complete one
                raise TimeoutError("no complete answer before the deadline")
            return Response(status=reply.status_code, headers=dict(reply.headers), body=content)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def reset_after_fork(self) -> None:
        """The parent goes on using its connections: forget them without a word on the wire."""
        self._session = None

    def _connect(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no proxies, no .netrc that would replace our Authorization
        if self._ca_bundle is not None:
            session.verify = self._ca_bundle
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(pool_connections=1, pool_maxsize=1, max_retries=0))
        self._session = session
        return session
