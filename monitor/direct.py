"""Predictions on the short way: from the HTTP parser to the ingest endpoint and back, past the web framework.

A batch that is counted costs less than what lies between a socket and an endpoint: tasks that are woken for each piece of a body,
copies of it, layers of routing and of exceptions. So the protocol hands POSTs to the predictions of a model to a
`Posting` of their own, which stands where uvicorn's request and response would. What is asked of a request, and what
is answered, is the endpoint's, as it is for a request that takes the long way.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from monitor.api.bodies import check_size
from monitor.api.intake import Intake, refusals, when_done
from monitor.api.ports import SubmitResult
from monitor.api.predictions import Admitted, PredictionsEndpoint, Taken
from monitor.api.problem import ProblemError
from monitor.api.replies import reply

_BEFORE: Final = b"/v1/models/"
_BEHIND: Final = b"/predictions"

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortWay:
    """Where the short way leads: to this endpoint, and to `refuse` for what it raises."""

    endpoint: PredictionsEndpoint
    refuse: Callable[[Request, Exception], Response]


def model_of(target: bytes) -> str | None:
    """The model whose predictions a request's target names in the plainest way; None for all that needs the router.

    >>> model_of(b"/v1/models/credit/predictions"), model_of(b"/v1/models/a%20b/predictions")
    ('credit', None)
    """
    if not (target.startswith(_BEFORE) and target.endswith(_BEHIND)):
        return None
    name = target[len(_BEFORE) : -len(_BEHIND)]
    if not name or not name.isascii() or any(mark in name for mark in b"/%?#"):
        return None
    return name.decode("ascii")


class ClosedEvent:
    """Where uvicorn would wake a task that waits for a body: nobody waits."""

    def set(self) -> None:
        """Do nothing."""


class _Headers(Headers):
    """Headers that are read once, instead of from the first to the last for each question."""

    def __init__(self, raw: RawHeaders) -> None:
        super().__init__(raw=raw)
        self._by_name: dict[str, list[str]] = {}
        for name, value in raw:
            self._by_name.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def getlist(self, key: str) -> list[str]:
        return self._by_name.get(key.lower(), [])

    def __getitem__(self, key: str) -> str:
        return self._by_name[key.lower()][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._by_name


class _Request(Request):
    @property
    def headers(self) -> Headers:
        """Those of the request."""
        if not hasattr(self, "_headers"):
            self._headers: Headers = _Headers(self.scope["headers"])
        return self._headers


class Posting:
    """One request and its answer, in the place of uvicorn's cycle: `response_complete`, `keep_alive` and the like are its.

    `begin` looks at the head and may answer already; the body `grow`s and is fed piece by piece, `finish` ends it and answers from
    a task. Whatever happens, one answer is written, and then `on_response` called.
    """

    message_event: Final = ClosedEvent()

    def __init__(
        self,
        way: ShortWay,
        scope: Mapping[str, Any],
        transport: asyncio.Transport,
        on_response: Callable[[], None],
        *,
        default_headers: RawHeaders,
        keep_alive: bool,
    ) -> None:
        self._way = way
        self._intake: Intake = way.endpoint.intake
        self._request = _Request(dict(scope))
        self._transport = transport
        self._on_response = on_response
        self._default_headers = default_headers
        self._admitted: Admitted | None = None
        self._chunks: list[bytes | bytearray] = []
        self._size = 0
        self._whole = False
        self._late: asyncio.TimerHandle | None = None
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    def begin(self, loop: asyncio.AbstractEventLoop, model: str, *, expects_continue: bool) -> None:
        """Look at the head; the body is asked for, and its time begins, only where it is right."""
        try:
            self._admitted = self._way.endpoint.admit(self._request, model)
        except Exception as error:
            self._answer(self._way.refuse(self._request, error))
            return
        if expects_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._late = loop.call_later(self._intake.limits.read_seconds, self._too_slow)

    @property
    def due(self) -> int:
        """How many bytes of the body are to come still, as far as that was said."""
        length = None if self._admitted is None else self._admitted.length
        return 0 if length is None or self._whole or self.response_complete else length - self._size

    def grow(self, count: int) -> bool:
        """So many bytes of the body have come; False where that is too many, and the answer given."""
        try:
            with refusals():
                check_size(self._size + count, self._intake.limits.wire_bytes)
                self._intake.reserve(count)
        except Exception as error:
            self._answer(self._way.refuse(self._request, error))
            return False
        self._size += count
        return True

    def feed(self, piece: bytes | bytearray) -> None:
        """The next piece of a body that has grown by it."""
        self._chunks.append(piece)

    def finish(self, loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, None] | None:
        """Answer, now that the body is whole: of itself once a batch is committed, or by what has to be run for it."""
        admitted, endpoint = self._admitted, self._way.endpoint
        assert admitted is not None
        self._whole = True
        self._stop_clock()
        body = b"".join(self._chunks)
        self._chunks.clear()
        try:
            with refusals():
                taken = endpoint.take_at_once(admitted, body)
                queued = None if taken is None else endpoint.submit(admitted, taken)
        except Exception as error:
            self._answer(self._way.refuse(self._request, error))
            return None
        if taken is None or queued is None:
            return self._finish(admitted, body)
        self._release()
        when_done(queued, loop, partial(self._committed, taken))
        return None

    def _committed(self, taken: Taken, queued: Future[SubmitResult]) -> None:
        try:
            with refusals():
                response = reply(taken.accepted, queued.result(), idempotent=taken.batch_id is not None)
        except Exception as error:
            response = self._way.refuse(self._request, error)
        self._answer(response)

    async def _finish(self, admitted: Admitted, body: bytes) -> None:
        """Answer where threads have to be asked."""
        try:
            with refusals():
                try:
                    taken = await self._way.endpoint.take(admitted, body)
                finally:
                    del body
                    self._release()
                response = await self._way.endpoint.store(admitted, taken)
        except Exception as error:
            response = self._way.refuse(self._request, error)
        self._answer(response)

    def lose(self) -> None:
        """The client has gone: of a body that is not whole nothing is kept."""
        self.disconnected = True
        self._stop_clock()
        self._chunks.clear()
        self._release()

    def _too_slow(self) -> None:
        seconds = self._intake.limits.read_seconds
        slow = ProblemError(408, f"the body took longer than {seconds:g} s", headers={"Connection": "close"})
        self._answer(self._way.refuse(self._request, slow))

    def _stop_clock(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _release(self) -> None:
        self._intake.release(self._size)
        self._size = 0

    def _answer(self, response: Response) -> None:
        """Write it, in one piece. What still comes of a refused body is thrown away by the parser's owner."""
        self._stop_clock()
        self._chunks.clear()
        self._release()
        self.response_started = self.response_complete = True
        if self.disconnected:
            return
        parts = [STATUS_LINE[response.status_code]]
        closes = False
        for name, value in (*self._default_headers, *response.raw_headers):
            parts += [name, b": ", value, b"\r\n"]
            closes = closes or (name == b"connection" and b"close" in value.lower())
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
        parts += [b"\r\n", bytes(response.body)]
        self._transport.write(b"".join(parts))
        if closes or not self.keep_alive:
            self._transport.close()
        self._on_response()
