"""Shipping: slices become batches, batches are posted, one at a time, until the daemon has them."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._edge import Edge
from driftd_sidecar._fetch import CellsSource
from driftd_sidecar._notices import Notices
from driftd_sidecar._outbox import Outbox
from driftd_sidecar._post import Post
from driftd_sidecar._request import Target
from driftd_sidecar._spool import Spool
from driftd_sidecar._transport import Fetching, Transport

_TICKS = 10  # looks per flush interval while rows wait
_COLLECTED_GRACE_SECONDS = 5.0
_ANY_ROWS = 2**62
_COUNTED_WITHIN_SECONDS = 60.0  # in edge mode: counting costs by the group, hardly by the row
_FULL = "the buffer is full and the daemon does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is full or old, and how long one request may take."""

    batch_rows: int
    batch_bytes: int
    flush_seconds: float
    timeout_seconds: float


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
        spool: Spool | None = None,
        edge: bool = False,
        cell_store: CellStore | None = None,
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
        self._outbox = Outbox(
            buffer=self.buffer,
            model_version=target.model_version,
            batch_bytes=limits.batch_bytes,
            spool=spool,
            notices=notices,
            wall_ns=wall_ns,
            lost=self._lost,
        )
        self._edge = self._make_edge(cast("Fetching", transport), cell_store) if edge else None
        self._post = Post(
            outbox=self._outbox,
            buffer=self.buffer,
            transport=transport,
            target=target,
            timeout_seconds=limits.timeout_seconds,
            notices=notices,
            rng=rng,
            monotonic=monotonic,
            wall_ns=wall_ns,
            replaced=None if self._edge is None else self._edge.replaced,
        )

    def _make_edge(self, transport: Fetching, cell_store: CellStore | None) -> Edge:
        source = CellsSource(
            transport=transport,
            url=self._target.cells_url,
            headers=self._target.headers,
            timeout=self._limits.timeout_seconds,
            notices=self._notices,
            rng=self._rng,
            wall_ns=self._wall_ns,
            store=cell_store,
        )
        return Edge(
            buffer=self.buffer,
            outbox=self._outbox,
            source=source,
            batch_bytes=self._limits.batch_bytes,
            grace_seconds=self._limits.flush_seconds,
            notices=self._notices,
            wall_ns=self._wall_ns,
            lost=self._all_lost,
        )

    def _restart(self) -> None:
        self._last_cut = self._monotonic()
        self._stop_at: float | None = None

    # One step of the work.

    def step(self) -> float:
        """Makes batches, sends at most one, and returns after how many seconds it wants to be called again."""
        now = self._monotonic()
        self._outbox.adopt()
        fresh = [waiter for waiter in list(self._flushes) if waiter.last is None]
        self._collect(now, everything=bool(fresh) or self._stop_at is not None)
        for waiter in fresh:
            if self._edge is None or not self._edge.uncounted:
                waiter.last = self._outbox.number
            self._post.hurry()
        self._make_room()
        self._post.send_one(now)
        self._answer_flushes()
        return self._pause()

    def _make_room(self) -> None:
        """While the daemon does not answer: what waits goes to disk, and where that is not enough the oldest goes for good."""
        overflowing = self.buffer.take_overflow()
        if self._edge is not None:
            self._make_room_for_counts(self._edge, overflowing=overflowing)
            return
        failing = self._post.failing
        spilled = self._outbox.spill(failing)
        oldest = self._outbox.untried(failing)
        if overflowing and not spilled and oldest is not None:
            self._outbox.give_up(oldest, _FULL)

    def _make_room_for_counts(self, edge: Edge, *, overflowing: bool) -> None:
        """As many panes may wait as leave room for the rows to come, which are not to be thinned for them."""
        if overflowing and edge.make_room():
            return
        failing = self._post.failing
        if not failing:
            return
        self._outbox.spill(failing)
        while self.buffer.crowded and (oldest := self._outbox.untried(failing)) is not None:
            self._outbox.give_up(oldest, _FULL)
            self._outbox.spill(failing)

    def _pause(self) -> float:
        tick = self._limits.flush_seconds / _TICKS
        next_attempt = self._post.next_attempt
        if next_attempt is None:
            if self._edge is not None:
                return self._limits.flush_seconds
            return tick if self.buffer.waiting else self._limits.flush_seconds
        return min(max(0.0, next_attempt - self._monotonic()), tick)

    def _collect(self, now: float, *, everything: bool) -> None:
        limits, edge = self._limits, self._edge
        ready = self.buffer.cut(
            now,
            since=self._last_cut,
            max_rows=limits.batch_rows if edge is None else _ANY_ROWS,
            max_bytes=limits.batch_bytes,
            # The next look is a tick away, so what would be too old by then goes now.
            max_age=limits.flush_seconds * (1 - 1 / _TICKS) if edge is None else _COUNTED_WITHIN_SECONDS,
            everything=everything or (edge is not None and edge.over()),
        )
        self._last_cut = now
        if edge is None:
            self._outbox.add(ready)
        else:
            edge.take(ready)
            edge.step(now, everything=everything)

    def _lost(self, number: int) -> None:
        """Tells those who wait for this batch that it will not be acknowledged."""
        for waiter in list(self._flushes):
            if waiter.last is not None and number <= waiter.last:
                waiter.lost = True

    def _all_lost(self) -> None:
        """Tells everybody who waits that rows will not be acknowledged."""
        for waiter in list(self._flushes):
            waiter.lost = True

    def _answer_flushes(self) -> None:
        oldest = min((head.number for head in self._outbox.heads), default=None)
        for waiter in list(self._flushes):
            if waiter.last is not None and (oldest is None or oldest > waiter.last):
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
        self._shut()

    def _idle(self) -> bool:
        return not self._outbox.heads and self.buffer.settled

    def _abandon(self) -> None:
        """Closed: what is left goes to the spool, or is dropped and counted, and nobody waits for it."""
        self._collect(self._monotonic(), everything=True)
        if self._edge is not None:
            self._edge.abandon()
        self._outbox.abandon()
        self._answer_flushes()

    def flush(self, timeout: float) -> bool:
        """True when every row that waits at this call was acknowledged within `timeout` seconds."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return self.buffer.settled
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
        return flushed

    def _shut(self) -> None:
        shut = getattr(self._transport, "close", None)
        if shut is not None:
            with contextlib.suppress(Exception):  # a transport may fail in any way
                shut()

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
        self._outbox.reset_after_fork()
        self._post.reset_after_fork()
        if self._edge is not None:
            self._edge.reset_after_fork()
        reset = getattr(self._transport, "reset_after_fork", None)
        if reset is not None:
            reset()
