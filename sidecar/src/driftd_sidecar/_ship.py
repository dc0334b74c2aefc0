"""Shipping: slices become batches, batches are posted in order, one at a time, until the daemon has them."""

import contextlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._ids import uuid7
from driftd_sidecar._lane import Entry, Recipe
from driftd_sidecar._notices import Notices
from driftd_sidecar._retry import Delivered, Retry, decide
from driftd_sidecar._transport import Response, Transport
from driftd_sidecar._wire import Envelope, Table, encode, join

_TICKS = 10  # looks per flush interval while rows wait
_BATCH_OVERHEAD_BYTES = 2048  # header, ids, objects
_COLLECTED_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where batches go."""

    url: str
    model_version: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is full or old, and how long one request may take."""

    batch_rows: int
    batch_bytes: int
    flush_seconds: float
    timeout_seconds: float


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Waiting rows. Encoded at the first attempt and never again: a repeated id must carry the same bytes."""

    number: int
    rows: int
    rate: float
    cost: int
    table: Table | None
    id: str = ""
    body: bytes = b""
    header_bytes: int = 0
    dropped: int = 0


@dataclass(slots=True, kw_only=True)
class _Flush:
    """Somebody waits for everything up to batch `last`."""

    last: int | None = None
    lost: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class Shipper:
    """Drives one buffer to one target. `step` is the whole logic; the thread only repeats it."""

    def __init__(
        self,
        *,
        buffer_bytes: int,
        transport: Transport,
        target: Target,
        limits: Limits,
        notices: Notices,
        rng: random.Random,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        threaded: bool = True,
    ) -> None:
        self._transport = transport
        self._target = target
        self._limits = limits
        self._notices = notices
        self._rng = rng
        self._monotonic = monotonic
        self._wall_ns = wall_ns
        self._threaded = threaded
        self._wake = threading.Event()
        self._flushes: list[_Flush] = []
        self._thread: threading.Thread | None = None
        self._restart()
        self.buffer = Buffer(buffer_bytes, rng=rng, start=self._start, wake=self._rouse)

    def _restart(self) -> None:
        self._queue: deque[_Batch] = deque()
        self._number = 0
        self._failures = 0
        self._not_before = 0.0
        self._told_to_wait = False
        self._last_cut = self._monotonic()
        self._reported_drops = 0
        self._stop_at: float | None = None

    # One step of the work.

    def step(self) -> float:
        """Makes batches, sends at most one, and returns after how many seconds it wants to be called again."""
        now = self._monotonic()
        fresh = [waiter for waiter in list(self._flushes) if waiter.last is None]
        self._collect(now, everything=bool(fresh) or self._stop_at is not None)
        for waiter in fresh:
            waiter.last = self._number
            if not self._told_to_wait:
                self._not_before = now
        if self.buffer.take_overflow() and self._failures and self._queue:
            self._give_up(self._queue[0], "the buffer is full and the daemon does not answer")
        if self._queue and now >= self._not_before:
            self._attempt(self._queue[0], now)
        self._answer_flushes()
        return self._pause()

    def _pause(self) -> float:
        tick = self._limits.flush_seconds / _TICKS
        if not self._queue:
            return tick if self.buffer.waiting else self._limits.flush_seconds
        return min(max(0.0, self._not_before - self._monotonic()), tick)

    def _collect(self, now: float, *, everything: bool) -> None:
        limits = self._limits
        ready = self.buffer.cut(
            now,
            since=self._last_cut,
            max_rows=limits.batch_rows,
            max_bytes=limits.batch_bytes,
            # The next look is a tick away, so what would be too old by then goes now.
            max_age=limits.flush_seconds * (1 - 1 / _TICKS),
            everything=everything,
        )
        self._last_cut = now
        for lane, piece in ready:
            size = 0
            for table in self._tables(lane.recipe, piece.entries, piece.rows):
                for part in table.split(limits.batch_bytes):
                    self._number += 1
                    cost = part.size + _BATCH_OVERHEAD_BYTES
                    size += cost
                    self._queue.append(
                        _Batch(number=self._number, rows=part.rows, rate=lane.rate, cost=cost, table=part)
                    )
            self.buffer.recharge(size - piece.cost)

    def _tables(self, recipe: Recipe, entries: Sequence[Entry], rows: int) -> Iterable[Table]:
        """The tables of a slice. One call that cannot be encoded costs its own rows, not its neighbours'."""
        try:
            return list(recipe.tables(entries))
        except Exception as error:  # whatever the application handed in
            if len(entries) == 1:
                self.buffer.count_error(rows, admitted=True)
                self._notices.once(
                    f"encode {type(error).__name__}", "rows are dropped, not encodable: %s", error
                )
                return []
        groups: dict[object, list[Table]] = {}
        counts = recipe.measure(entries)[0]
        for entry, count in zip(entries, counts.tolist(), strict=True):
            for table in self._tables(recipe, [entry], count):
                groups.setdefault(table.signature, []).append(table)
        return [join(tables) for tables in groups.values()]

    def _attempt(self, batch: _Batch, now: float) -> None:
        if batch.table is not None and not self._encode(batch):
            return
        response = self._send(batch)
        decision = decide(
            None if response is None else response.status,
            {} if response is None else response.headers,
            attempt=self._failures,
            jitter=self._rng.random(),
            now_seconds=self._wall_ns() / 1e9,
        )
        if isinstance(decision, Retry):
            self._failures += 1
            self._told_to_wait = decision.told_by_server
            self._not_before = self._monotonic() + decision.after_seconds
            self.buffer.count_retry()
            if response is not None:
                self._notices.once(
                    f"retry {response.status}", "the daemon answered HTTP %d, rows are kept", response.status
                )
            return
        self._failures = 0
        self._told_to_wait = False
        self._not_before = now
        if isinstance(decision, Delivered) and response is not None:
            self._reported_drops += batch.dropped
            self.buffer.count_sent(batch.rows, self._rejected(response, batch.rows))
            self._remove(batch)
        elif not isinstance(decision, Delivered):
            self._give_up(batch, decision.reason)

    def _encode(self, batch: _Batch) -> bool:
        assert batch.table is not None
        batch.dropped = self.buffer.dropped - self._reported_drops
        wall = self._wall_ns()
        batch.id = uuid7(wall)
        envelope = Envelope(
            id=batch.id,
            model_version=self._target.model_version,
            sent_at_ns=wall,
            kept=batch.rows,
            dropped=batch.dropped,
            sample_rate=batch.rate,
        )
        try:
            batch.body, batch.header_bytes = encode(batch.table, envelope)
        except Exception as error:  # a batch that cannot be written must not stop the ones behind it
            self._give_up(batch, f"it cannot be encoded: {error}")
            return False
        batch.table = None
        return True

    def _send(self, batch: _Batch) -> Response | None:
        headers = {
            **self._target.headers,
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(batch.header_bytes),
            "Idempotency-Key": batch.id,
            # By the same clock as the rows, at each attempt: sent_at is of the first, for the body may not change.
            "Date": formatdate(self._wall_ns() / 1e9, usegmt=True),
        }
        try:
            return self._transport.send(self._target.url, batch.body, headers, self._limits.timeout_seconds)
        except Exception as error:  # a transport may fail in any way; each means: no answer
            self._notices.once(
                "no answer", "the daemon does not answer, rows are kept: %s", type(error).__name__
            )
            return None

    def _rejected(self, response: Response, rows: int) -> int:
        try:
            reply = json.loads(response.body)
            rejected = min(rows, max(0, int(reply["rejected"])))
        except (ValueError, TypeError, KeyError):
            return 0
        if rejected:
            self._notices.once(
                "rejected", "the daemon rejected %d rows: %.200s", rejected, reply.get("errors")
            )
        return rejected

    def _give_up(self, batch: _Batch, reason: str) -> None:
        self.buffer.count_given_up(batch.rows)
        self._notices.once(f"give up {reason}", "a batch of %d rows is given up: %s", batch.rows, reason)
        for waiter in list(self._flushes):
            if waiter.last is not None and batch.number <= waiter.last:
                waiter.lost = True
        self._remove(batch)

    def _remove(self, batch: _Batch) -> None:
        self._queue.popleft()
        self.buffer.recharge(-batch.cost)

    def _answer_flushes(self) -> None:
        for waiter in list(self._flushes):
            if waiter.last is not None and (not self._queue or self._queue[0].number > waiter.last):
                self._dismiss(waiter)
                waiter.done.set()

    def _dismiss(self, waiter: _Flush) -> None:
        with contextlib.suppress(ValueError):  # the other side was faster
            self._flushes.remove(waiter)

    # The thread.

    def _rouse(self) -> None:
        self._wake.set()  # looked up at each call: a fork replaces it

    def _start(self) -> None:
        if not self._threaded:
            return
        self._thread = threading.Thread(target=self._run, name="driftd-sidecar", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._stop_at is None or (self._monotonic() < self._stop_at and not self._idle()):
            try:
                pause = self.step()
            except Exception as error:  # the thread must outlive its bugs, and say so
                self._notices.once("bug", "the shipping thread failed and goes on: %r", error)
                pause = self._limits.flush_seconds
            self._wake.wait(pause)
            self._wake.clear()
        self._abandon()

    def _idle(self) -> bool:
        return not self._queue and not self.buffer.stats().pending

    def _abandon(self) -> None:
        """Closed: what is left is dropped and counted, and nobody waits for it."""
        self._collect(self._monotonic(), everything=True)
        while self._queue:
            self._give_up(self._queue[0], "the logger is closed")
        self._answer_flushes()

    def flush(self, timeout: float) -> bool:
        """True when every row captured before this call was acknowledged within `timeout` seconds."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return self.buffer.stats().pending == 0
        waiter = _Flush()
        self._flushes.append(waiter)
        self._wake.set()
        finished = waiter.done.wait(timeout)
        self._dismiss(waiter)
        return finished and not waiter.lost

    def close(self, timeout: float) -> bool:
        """Captures end, what is left is flushed, the thread ends. True when nothing was lost by closing."""
        deadline = time.monotonic() + timeout
        self.buffer.close()
        flushed = self.flush(timeout)
        thread = self._thread
        self._stop_at = self._monotonic()
        self._wake.set()
        if thread is not None:
            thread.join(max(0.1, deadline - time.monotonic()))
        shut = getattr(self._transport, "close", None)
        if shut is not None and (thread is None or not thread.is_alive()):
            shut()
        return flushed

    def close_soon(self) -> None:
        """As close, for an owner that was garbage-collected: returns at once.

        Takes no lock, not even that of an event: a collection can run in the middle of code that holds it.
        """
        self._stop_at = self._monotonic() + _COLLECTED_GRACE_SECONDS

    def reset_after_fork(self) -> None:
        """In a forked child: the rows, the thread and the connection belong to the parent."""
        self._wake = threading.Event()
        self._flushes = []
        self._thread = None
        self._restart()
        self._notices.reset_after_fork()
        self.buffer.reset_after_fork()
        reset = getattr(self._transport, "reset_after_fork", None)
        if reset is not None:
            reset()
