"""Bodies on their way in: how many bytes of them at once, in which threads they are decoded, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from monitor.api.bodies import read_body
from monitor.api.ports import (
    InFlightError,
    IngestPort,
    PortError,
    QueueFullError,
    StorageUnavailableError,
    TooManyVersionsError,
)
from monitor.api.problem import ProblemError
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.schema import ModelHandle

T = TypeVar("T")

_STATUS: dict[type[PortError], int] = {
    InFlightError: 409,
    TooManyVersionsError: 422,
    QueueFullError: 429,
    StorageUnavailableError: 503,
}
_FOR_GOOD = (TooManyVersionsError,)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """Bounds of what is taken in. Bytes unless said otherwise.

    `wire_bytes` and `inflated_bytes` bound one body before and after its content encoding; `inflight_bytes` all
    bodies being read or decoded at once (beyond it 429). What is decoded at once on the event loop takes it no longer than
    a change of threads would: `inline_bytes` of JSON, `inline_binary_bytes` in all. The rest is decoded in `workers` threads,
    so that the event loop keeps answering.
    """

    wire_bytes: int = 8 * 2**20
    inflated_bytes: int = 64 * 2**20
    inflight_bytes: int = 64 * 2**20
    inline_bytes: int = 64 * 2**10
    inline_binary_bytes: int = 512 * 2**10
    read_seconds: float = 60.0
    retry_after_seconds: int = 1
    workers: int = 2
    decode: DecodeLimits = field(default_factory=DecodeLimits)


class Intake:
    """What the ingest endpoints share; `close` ends its threads."""

    def __init__(self, limits: IngestLimits | None = None) -> None:
        self.limits = limits or IngestLimits()
        self._pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="ingest")
        self._inflight = 0
        self._lent = 0

    @property
    def inflight_bytes(self) -> int:
        """Bytes of the bodies being read or decoded now."""
        return self._inflight

    @property
    def lent_bytes(self) -> int:
        """Room lent for bodies that are coming."""
        return self._lent

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def reserve(self, count: int) -> None:
        """Count bytes of a body among those in flight until they are released. QueueFullError beyond their limit."""
        if self._inflight + count > self.limits.inflight_bytes:
            raise QueueFullError("too many bodies are being read at once", self.limits.retry_after_seconds)
        self._inflight += count

    def release(self, count: int) -> None:
        """These bytes are no longer a body."""
        self._inflight -= count

    def lend(self, count: int) -> bytearray | None:
        """Room for a body that has not come yet, to be given back; None where as much is lent as may be in flight."""
        if self._lent + count > self.limits.inflight_bytes:
            return None
        self._lent += count
        return bytearray(count)

    def give_back(self, count: int) -> None:
        """Room that was lent is needed no more."""
        self._lent -= count

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The raw body, counted among the bytes in flight until the block ends. QueueFullError beyond their limit."""
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            self.reserve(count)
            reserved += count

        try:
            yield await read_body(request, self.limits.wire_bytes, self.limits.read_seconds, reserve)
        finally:
            self.release(reserved)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` where it does not hold the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def known_model(port: IngestPort, name: str) -> ModelHandle:
    """The registered model of this name; ProblemError 404 where there is none."""
    model = port.model(name)
    if model is None:
        raise ProblemError(404, f"no model {name[:100]!r} is registered; driftd baseline build adds it")
    return model


async def committed(future: Future[T]) -> T:
    """The result of a write. A request that goes away does not take a queued write with it: `future` is never cancelled."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: Future[T]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    when_done(future, loop, wake)
    await waiter
    return future.result()


def when_done(future: Future[T], loop: asyncio.AbstractEventLoop, call: Callable[[Future[T]], None]) -> None:
    """Have the event loop call when a write is through, if it still runs then.

    `call` must not hold the future, which holds it: nobody would free the batch that both belong to for a long time.
    """

    def tell(done: Future[T]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call, done)

    future.add_done_callback(tell)


@contextmanager
def refusals() -> Iterator[None]:
    """What the daemon cannot take, as the answer that tells it."""
    try:
        yield
    except PortError as error:
        retry = {} if isinstance(error, _FOR_GOOD) else {"Retry-After": str(error.retry_after_seconds)}
        raise ProblemError(_STATUS[type(error)], error.detail, headers=retry) from error
