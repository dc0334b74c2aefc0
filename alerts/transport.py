"""The daemon's only outbound socket: one POST, one reply, within one wall-clock deadline.

requests alone does not keep these promises: its timeout restarts with every byte that drips in, it follows
redirects (and reads a redirect's body even when told not to), obeys proxy variables and `.netrc`, resolves the
host anew behind any check made before, and quotes the URL in its errors.
"""

import contextlib
import http.client
import logging
import queue
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError, SSLError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from alerts.addresses import refusal
from alerts.ports import Failure, Reply, Request
from alerts.text import clean, cut

log = logging.getLogger("driftd.transport")

REPLY_CAP_BYTES = 64 * 1024
_STEP_BYTES = 8 * 1024

# One entry of getaddrinfo: family, type, protocol, canonical name, socket address.
AddressInfo = tuple[int, int, int, str, Any]
Resolve = Callable[[str, int], Sequence[AddressInfo]]

# In this order: a TLS error may have a reset behind it, and RemoteDisconnected is also a bad status line.
_FAILURES: tuple[tuple[Failure, tuple[type[BaseException], ...]], ...] = (
    (Failure.TLS, (requests.exceptions.SSLError, SSLError, ssl.SSLError)),
    (Failure.TIMEOUT, (requests.Timeout, HttpTimeoutError, TimeoutError)),
    (
        Failure.REQUEST,
        (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, LocationParseError),
    ),
    (Failure.RESET, (ConnectionError, http.client.IncompleteRead)),
)

# urllib3 writes request paths to its logs, at DEBUG for every request and at WARNING for a malformed reply; a
# Slack path is a password. Filters survive a later logging.config, levels do not; a parent's filter would not
# see its children's records.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(lambda _record: False)


def system_resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Ask the system's resolver for stream addresses."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class HttpTransport:
    """Sends requests over HTTP(S); safe to share between threads, as every exchange has its own connection."""

    def __init__(
        self, *, resolve: Resolve = system_resolve, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolve = resolve
        self._monotonic = monotonic

    def send(self, request: Request) -> Reply:
        """Exchange `request` for a reply; every failure is a Reply whose detail holds scheme and host only."""
        started = self._monotonic()
        exchange = _Exchange(request, self._resolve, self._monotonic)
        try:
            reply = _post(request, exchange)
        except (
            requests.RequestException,
            HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as error:
            reply = Reply(failure=_failure(error))
            exchange.why = exchange.why or _tls_reason(error)
        except Exception as error:
            # Nobody foresaw it, so nobody knows what its text holds: only what and where is said.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("a defect: %s in %s, line %s", type(error).__name__, where.name, where.lineno)
            reply = Reply(failure=Failure.REQUEST)
            exchange.why = f"a defect: {type(error).__name__}"
        finally:
            exchange.close()
        if exchange.failure is not None:
            reply = replace(reply, failure=exchange.failure)
        if reply.failure is not None:
            why = f" ({exchange.why})" if exchange.why else ""
            if reply.failure is Failure.REQUEST and request.ca_file and not exchange.why:
                why = " (can ca_file be read?)"
            reply = replace(reply, detail=f"{request.destination}: {reply.failure.value}{why}")
        return replace(reply, elapsed_seconds=self._monotonic() - started)


class _Exchange:
    """The connection of one request: resolved, checked, connected and, at the deadline, cut."""

    def __init__(self, request: Request, resolve: Resolve, monotonic: Callable[[], float]) -> None:
        self.failure: Failure | None = None
        self.why = ""
        self._request = request
        self._resolve = resolve
        self._monotonic = monotonic
        self._deadline = monotonic() + request.timeout_seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._watchdog: threading.Timer | None = None

    def remaining(self) -> float:
        """Seconds to the deadline, at least a millisecond (0 would mean non-blocking)."""
        return max(self._deadline - self._monotonic(), 0.001)

    def connect(self, host: str, port: int) -> socket.socket:
        """Resolve once, keep the addresses that are allowed, connect to one of those very addresses."""
        found = self._lookup(host.strip("[]"), port)
        allowed = []
        for info in found:
            reason = refusal(str(info[4][0]), allow_private=self._request.allow_private)
            if reason is None:
                allowed.append(info)
            else:
                self.why = reason
        if not allowed:
            raise self._fail(Failure.ADDRESS, self.why or "no address")
        for index, info in enumerate(allowed):
            # A black hole may eat its share of the time, never that of the addresses after it.
            sock = self._try(info, self.remaining() / (len(allowed) - index))
            if sock is not None:
                self.why = ""
                return sock
        raise self._fail(Failure.CONNECT, self.why)

    def close(self) -> None:
        """Stand the watchdog down and drop its handle."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _lookup(self, host: str, port: int) -> Sequence[AddressInfo]:
        # getaddrinfo knows no timeout, so it runs in a thread that is left behind when it is late.
        answers: queue.SimpleQueue[Sequence[AddressInfo] | None] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolve(host, port))
            except (OSError, UnicodeError):
                answers.put(None)

        threading.Thread(target=ask, name="driftd-resolve", daemon=True).start()
        try:
            found = answers.get(timeout=self.remaining())
        except queue.Empty:
            raise self._fail(Failure.TIMEOUT, "resolving the host name") from None
        if not found:
            raise self._fail(Failure.DNS, "")
        return found

    def _try(self, info: AddressInfo, seconds: float) -> socket.socket | None:
        sock = socket.socket(info[0], info[1], info[2])
        try:
            sock.settimeout(seconds)
            sock.connect(info[4])
            sock.settimeout(self.remaining())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(sock)
        except OSError as error:
            sock.close()
            self.why = "timed out" if isinstance(error, TimeoutError) else clean(error.strerror or "refused")
            return None
        return sock

    def _watch(self, sock: socket.socket) -> None:
        # A duplicate of the descriptor outlives the TLS wrapping, which detaches the original; shutting it
        # down ends any read on the connection, whether in handshake, headers or body.
        self._handle = sock.dup()
        self._watchdog = threading.Timer(self.remaining(), self._cut)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _cut(self) -> None:
        with self._lock:
            if self._handle is None:
                return
            self.failure, self.why = Failure.TIMEOUT, f"after {self._request.timeout_seconds:g} s"
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def _fail(self, failure: Failure, why: str) -> OSError:
        self.failure, self.why = failure, why
        return OSError(failure.value)


class _Adapter(HTTPAdapter):
    """requests' adapter whose sockets come from one exchange."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the pool manager connection classes that connect through the exchange."""
        super().init_poolmanager(*args, **kwargs)
        exchange = self._exchange

        class PlainConnection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return exchange.connect(self._dns_host, self.port)

        class TlsConnection(HTTPSConnection):
            # Host header, SNI and certificate check go by the name; only the connect goes by the address.
            def _new_conn(self) -> socket.socket:
                return exchange.connect(self._dns_host, self.port)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = TlsConnection

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}


def _post(request: Request, exchange: _Exchange) -> Reply:
    """POST through the adapter alone.

    Without a Session there is nobody to follow a redirect, to read its body, to keep cookies, or to look for
    `.netrc` and proxy variables.
    """
    headers = {"User-Agent": "driftd", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    prepared = requests.Request(
        "POST", request.url, data=request.body, headers={**headers, **request.headers}
    ).prepare()
    seconds = exchange.remaining()
    with contextlib.closing(_Adapter(exchange)) as adapter:
        response = adapter.send(
            prepared,
            stream=True,
            timeout=(seconds, seconds),
            verify=request.ca_file or True,
            proxies={},
        )
        with contextlib.closing(response):
            return _read(response)


def _read(response: requests.Response) -> Reply:
    body = bytearray()
    failure = None
    try:
        for step in _steps(response):
            body += step
            if len(body) > REPLY_CAP_BYTES:
                break
    except (HTTPError, http.client.HTTPException, OSError) as error:
        failure = _failure(error)
    return Reply(
        status=response.status_code,
        headers={name.lower(): cut(clean(value), 1000) for name, value in response.headers.items()},
        body=bytes(body[:REPLY_CAP_BYTES]),
        truncated=len(body) > REPLY_CAP_BYTES,
        failure=failure,
    )


def _steps(response: requests.Response) -> Iterator[bytes]:
    # decode_content=False: 64 KiB of gzip can be 64 MiB of text.
    while step := response.raw.read(_STEP_BYTES, decode_content=False):
        yield step


def _failure(error: Exception) -> Failure:
    """The class of an exception of requests, urllib3, http.client or the socket, by what is behind it."""
    if type(error) is OSError:  # requests' way to say that the file of authorities cannot be read
        return Failure.REQUEST
    causes = _causes(error)
    for failure, types in _FAILURES:
        if any(isinstance(cause, types) for cause in causes):
            return failure
    return Failure.PROTOCOL


def _tls_reason(error: BaseException) -> str:
    """What OpenSSL objects to (expired, self-signed, wrong host), which names no more than the host."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return clean(getattr(cause, "verify_message", "") or cause.reason or "")
    return ""


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, what it was raised from, and the exceptions among its arguments."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop()
        if any(current is seen for seen in found):
            continue
        found.append(current)
        linked = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        waiting += [item for item in linked if isinstance(item, BaseException)]
    return found
