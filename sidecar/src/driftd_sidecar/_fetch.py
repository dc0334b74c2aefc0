"""Asking the daemon for the cells of its baseline: when, and what to make of its answer."""

import contextlib
import random
import zlib
from collections.abc import Callable, Mapping

from driftd_sidecar._cells import MEDIA_TYPE, Cells, CellsError, parse
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._notices import Notices
from driftd_sidecar._retry import backoff, retry_after
from driftd_sidecar._transport import Fetching, Response

DOCUMENT_BYTES = 64 << 20
# How long cells are gone by before the daemon is asked whether they still are the ones.
_FRESH_SECONDS = 3600.0
_IMPATIENT_SECONDS = 1.0  # a flush asks no more often than this


class CellsSource:
    """The cells of one model version, remembered and renewed. Only one thread may use it."""

    def __init__(
        self,
        *,
        transport: Fetching,
        url: str,
        headers: Mapping[str, str],
        timeout: float,
        notices: Notices,
        rng: random.Random,
        wall_ns: Callable[[], int],
        store: CellStore | None = None,
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._notices = notices
        self._rng = rng
        self._wall_ns = wall_ns
        self._store = store
        self._known: Cells | None = None
        self._etag = ""
        self._read = store is None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """A child asks for itself."""
        self._failures = 0
        self._asked_at = float("-inf")
        self._ask_at = float("-inf")

    def forget(self) -> None:
        """These cells are no more the daemon's: ask at once."""
        self._known = None
        self._etag = ""
        self._ask_at = float("-inf")
        if self._store is not None:
            self._store.clear()

    def cells(self, now: float, *, urgent: bool) -> Cells | None:
        """The cells to count on at `now`, in monotonic seconds; None while there are none. Asks when it is time.

        `urgent`: somebody waits for them.
        """
        if not self._read and self._store is not None:
            self._read = True
            document = self._store.read()
            if document is not None:
                with contextlib.suppress(CellsError):  # of another version of the sidecar
                    self._take(document, "")
        impatient = urgent and self._known is None and now - self._asked_at >= _IMPATIENT_SECONDS
        if now >= self._ask_at or impatient:
            self._ask(now)
        return self._known

    def _ask(self, now: float) -> None:
        self._asked_at = now
        headers = {**self._headers, "Accept": MEDIA_TYPE, "Accept-Encoding": "gzip"}
        if self._etag:
            headers["If-None-Match"] = self._etag
        try:
            response = self._transport.fetch(self._url, headers, self._timeout, DOCUMENT_BYTES)
        except Exception as error:  # a transport may fail in any way; each means: no answer
            self._failed(now, None, f"no answer ({type(error).__name__})")
            return
        if response.status == 304 and self._known is not None:
            self._succeeded(now)
        elif response.status == 200:
            self._read_answer(now, response)
        else:
            if response.status == 404 and self._known is not None:
                self.forget()
            self._failed(now, response, f"HTTP {response.status}")

    def _read_answer(self, now: float, response: Response) -> None:
        named = {name.lower(): value for name, value in response.headers.items()}
        try:
            document = _inflated(response.body, named.get("content-encoding", ""))
            self._take(document, named.get("etag", ""))
        except (CellsError, zlib.error) as error:
            self._failed(now, response, str(error))
            return
        self._succeeded(now)
        if self._store is not None:
            self._store.write(document)

    def _take(self, document: bytes, etag: str) -> None:
        self._known = parse(document)
        self._etag = etag

    def _succeeded(self, now: float) -> None:
        self._failures = 0
        self._ask_at = now + _FRESH_SECONDS

    def _failed(self, now: float, response: Response | None, reason: str) -> None:
        headers = {} if response is None else response.headers
        told = retry_after(headers, self._wall_ns() / 1e9)
        delay = backoff(self._failures, self._rng.random()) if told is None else told
        self._failures += 1
        self._ask_at = now + delay
        self._notices.once(
            f"cells {reason}", "the daemon does not say how to count, rows are kept: %s", reason
        )


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() != "gzip":
        return body
    unpacker = zlib.decompressobj(wbits=31)
    document = unpacker.decompress(body, DOCUMENT_BYTES)
    if not unpacker.eof:
        raise CellsError("the answer is cut short")
    return document
