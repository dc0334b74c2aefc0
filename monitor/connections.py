"""Connections that nobody can hold for ever: uvicorn's HTTP protocol with deadlines, a bound on heads and on sockets.

uvicorn waits for a request's head without end, cancels its keep-alive timer at any byte, and counts idle sockets
against its limit of requests, so that a few hundred open sockets would shut out everybody. Here a head, and a
whole exchange, has a deadline as a whole, however it drips; a new connection beyond the limit takes the place of the one
that has been idle longest; and what is no HTTP is told so in problem+json, like everything else.
"""

import asyncio
import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from monitor import bodyreader
from monitor.bodyreader import BodyReader
from monitor.direct import Posting, ShortWay, model_of

HEAD_BYTES: Final = 64 * 2**10
"""The most a request's line and headers may take, and its trailers."""
OVERHEAD: Final = 8
"""Bytes of framing per byte of body: chunks of one byte cost six."""

# Whoever can connect could fill the log with uvicorn's warnings of bad requests; defects are errors, and stay.
_log: Final = logging.getLogger("driftd.connections")
_log.setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many at once, and how many seconds for a head and for a whole exchange from head to answer."""

    connections: int
    head_seconds: float
    exchange_seconds: float


@dataclass(slots=True, kw_only=True)
class Connections:
    """The open connections of one server: those under way, and the idle ones, longest idle first."""

    limits: ConnectionLimits
    busy: "set[GuardedProtocol]" = field(default_factory=set)
    idle: "dict[GuardedProtocol, None]" = field(default_factory=dict)

    def rest(self, connection: "GuardedProtocol") -> None:
        """It is idle from now on."""
        self.busy.discard(connection)
        self.idle.pop(connection, None)
        self.idle[connection] = None

    def work(self, connection: "GuardedProtocol") -> None:
        """A request of it is under way."""
        self.idle.pop(connection, None)
        self.busy.add(connection)

    def forget(self, connection: "GuardedProtocol") -> None:
        """It is closed."""
        self.busy.discard(connection)
        self.idle.pop(connection, None)

    def make_room(self) -> bool:
        """Close the longest idle connection if there are too many; False where all are at work."""
        if len(self.busy) + len(self.idle) < self.limits.connections:
            return True
        victim = next(iter(self.idle), None)
        if victim is None:
            return False
        self.forget(victim)
        victim.transport.close()
        return True


class GuardedProtocol(HttpToolsProtocol):
    """One connection. At any time it has one deadline: that of the head, of the exchange, or uvicorn's keep-alive.

    With a `short_way`, predictions take it (see `direct`), unless they come while the answer before them is due.
    """

    def __init__(
        self, *args: Any, connections: Connections, short_way: ShortWay | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.logger = _log
        self._short_way = short_way
        self._all = connections
        self._limits = connections.limits
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_exchange = False
        self._received = 0
        self._body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        room = self._all.make_room()
        super().connection_made(transport)
        if not room:
            self._refuse(503, "too many connections are at work", {"Retry-After": "1"})
            return
        self._all.rest(self)
        self._due(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.forget(self)
        self._undue()
        self._unset_keepalive_if_required()
        cycle: object = self.cycle
        if isinstance(cycle, Posting) and not cycle.response_complete:
            cycle.lose()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._came(len(data))
        super().data_received(data)
        if (
            self._received - self._body > HEAD_BYTES + OVERHEAD * self._body
            and not self.transport.is_closing()
        ):
            self._refuse(431, f"the head of the request takes more than {HEAD_BYTES} bytes")
            return
        cycle: object = self.cycle
        if isinstance(cycle, Posting) and cycle.due >= bodyreader.LEAST_BYTES:
            self._read_directly(cycle)

    def _came(self, count: int) -> None:
        # Also what is no head yet, or the rest of a body whose answer was given: any byte stops the keep-alive timer.
        if self._deadline is None:
            self._due(self._limits.head_seconds)
        self._received += count

    def _read_directly(self, posting: Posting) -> None:
        """Have the rest of the body read without the parser, which ends with it."""
        assert self._short_way is not None
        intake = self._short_way.endpoint.intake
        room = intake.lend(posting.due)
        if room is not None:
            self.transport.set_protocol(BodyReader(self, posting, room, intake.give_back))

    def body_came(self, count: int) -> None:
        """Bytes of a body that is read directly."""
        self._came(count)
        self._unset_keepalive_if_required()
        self._body += count

    def body_ended(self) -> None:
        """A body that was read directly has come to its end; what follows is another request, and a parser's again."""
        if self.transport.is_closing():
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.transport.set_protocol(self)
        self.on_message_complete()

    def on_message_begin(self) -> None:
        self._received = self._body = 0
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._in_exchange = False, True
        self._all.work(self)
        self._due(self._limits.exchange_seconds)
        if not self._posts():
            super().on_headers_complete()

    def _posts(self) -> bool:
        """Whether the request takes the short way; it has begun, then."""
        way, model = self._short_way, model_of(self.url)
        if way is None or model is None or self.parser.get_method() != b"POST":
            return False
        before: object = self.cycle
        if (before is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return False
        if self.parser.should_upgrade():
            return False
        posting = Posting(
            way,
            self.scope,
            self.transport,
            self.on_response_complete,
            default_headers=self.server_state.default_headers,
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
        )
        self.cycle = posting  # type: ignore[assignment]  # it has what the protocol asks of a cycle
        posting.begin(self.loop, model, expects_continue=self.expect_100_continue)
        return True

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        cycle: object = self.cycle
        if not isinstance(cycle, Posting):
            super().on_body(body)
        elif not cycle.response_complete and cycle.grow(len(body)):
            cycle.feed(body)

    def on_message_complete(self) -> None:
        cycle: object = self.cycle
        if not isinstance(cycle, Posting):
            super().on_message_complete()
        elif not cycle.response_complete:
            rest = cycle.finish(self.loop)
            if rest is not None:
                task = self.loop.create_task(rest)
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if waiting or self.transport.is_closing():
            return
        self._in_exchange = False
        self._undue()
        self._all.rest(self)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """uvicorn's name for: these bytes are no HTTP request."""
        self._refuse(400, "the bytes are no HTTP request, or one that could be read in two ways")

    def _due(self, seconds: float) -> None:
        self._undue()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _undue(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._in_exchange:
            # Somebody who sends no body, or reads no answer: there is nobody to tell.
            self.transport.abort()
        elif self._in_head:
            self._refuse(408, f"no whole request came within {self._limits.head_seconds:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer outside of any request, and close."""
        phrase = HTTPStatus(status).phrase
        body = json.dumps(
            {"type": "about:blank", "title": phrase, "status": status, "detail": detail}
        ).encode("ascii")
        fields = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
        # In the middle of an answer there is no place for another.
        if not (self._in_exchange and self.cycle.response_started):
            self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self.transport.close()
