"""The buffer: bounded in bytes, thinning uniformly before it drops, with counts that always add up.

While less than half of it is charged, every call is kept. Beyond that whole calls are kept with a probability that
halves each time the free space halves, down to 1/64; a call is never looked at to decide. When nothing fits, calls
are dropped and counted. Labels are kept as long as they fit.
"""

import random
import threading
from collections.abc import Callable

from driftd_sidecar._books import Books
from driftd_sidecar._kind import Kind
from driftd_sidecar._lane import Entry, Lane, Recipe, Slice
from driftd_sidecar._stats import Stats

_LEASES = 32  # a lease is this fraction of the buffer
_HEADROOM_BYTES = (
    16_384  # a batch of one call costs more than the call did, and there may be several of these
)
_WAKES = 8
_LEVELS = 6  # 2**-6 is the thinnest sample


class Buffer:
    """Every lane of one logger, and its books. `wake` may be called under the lock and must not block."""

    def __init__(
        self, limit_bytes: int, *, rng: random.Random, start: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self._limit = limit_bytes - _HEADROOM_BYTES
        self._half = self._limit // 2
        self._lease = self._limit // _LEASES
        self._rng = rng
        self._start = start
        self._wake = wake
        self._lock = threading.Lock()
        self._lanes: dict[tuple[int, float], Lane] = {}
        self._used = 0
        self._started = False
        self._closed = False
        self._overflowing = False
        self._books = Books()

    def lane(self, recipe: Recipe, rate: float = 1.0) -> Lane:
        """The lane of this recipe and rate, made on first use."""
        with self._lock:
            return self._lane(recipe, rate)

    def _lane(self, recipe: Recipe, rate: float) -> Lane:
        key = (id(recipe), rate)  # the lane keeps the recipe alive, so its id stays its own
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(recipe, rate)
        return lane

    def offer(self, lane: Lane, entry: Entry) -> bool:
        """Admits, thins or drops one call, and leases room to the lane so that the next ones need not ask.

        False: the call was not kept, and is counted as that.
        """
        rows, cost = lane.recipe.measure_one(entry)
        if rows == 0:
            return True
        with self._lock:
            if self._closed:
                self._books.of(lane.recipe.kind).overflowed += rows
                return False
            if not self._started and not self._try_to_start():
                self._books.of(lane.recipe.kind).errors += rows  # at interpreter shutdown no thread starts
                return False
            if self._used + cost > self._half:
                self._reclaim()
            if self._used + cost > self._half:
                return self._crowded(lane, entry, rows, cost)
            self._admit(lane, entry, cost)
            if lane.recipe.unit_cost and self._used + self._lease <= self._half:
                lane.left += self._lease // lane.recipe.unit_cost
                lane.granted += self._lease
                self._used += self._lease
            return True

    def _try_to_start(self) -> bool:
        try:
            self._start()
        except RuntimeError:
            return False
        self._started = True
        return True

    def _admit(self, lane: Lane, entry: Entry, cost: int) -> None:
        lane.entries.append(entry)
        lane.granted += cost
        self._used += cost
        if lane.granted >= self._limit // _WAKES:
            self._wake()

    def _reclaim(self) -> None:
        """Takes back room that was leased and not used."""
        for lane in self._lanes.values():
            unused, lane.left = lane.left * lane.recipe.unit_cost, 0
            lane.granted -= unused
            self._used -= unused

    def _crowded(self, lane: Lane, entry: Entry, rows: int, cost: int) -> bool:
        free, book = self._limit - self._used, self._books.of(lane.recipe.kind)
        self._wake()
        if cost > free:
            book.overflowed += rows
            self._overflowing = True
            return False
        rate = self._rate(lane.recipe.kind, free)
        if self._rng.random() >= rate:
            book.sampled_out += rows
            return False
        self._admit(self._lane(lane.recipe, rate), entry, cost)
        return True

    def _rate(self, kind: Kind, free: int) -> float:
        """The share of calls to keep. Labels are not thinned: a sample would be as true, and cover less."""
        if kind is Kind.LABELS:
            return 1.0
        return float(0.5 ** min(_LEVELS, max(1, (self._half // max(free, 1)).bit_length())))

    def _drain(self) -> None:
        for lane in self._lanes.values():
            rows, change = lane.drain()
            self._books.of(lane.recipe.kind).admitted += rows
            self._used += change

    def cut(
        self, now: float, *, since: float, max_rows: int, max_bytes: int, max_age: float, everything: bool
    ) -> list[tuple[Lane, Slice]]:
        """Drains, then takes the slices that are full, or old, or everything.

        `since` is when this was last called: no call found now is older, so `max_age` is kept to the second.
        """
        ready: list[tuple[Lane, Slice]] = []
        with self._lock:
            self._drain()
            for lane in self._lanes.values():
                if lane.opened_at is None and lane.waiting:
                    lane.opened_at = since
                due = everything or (lane.opened_at is not None and now - lane.opened_at >= max_age)
                ready += [(lane, piece) for piece in lane.cut(max_rows, max_bytes, everything=due)]
                if not lane.waiting:
                    lane.opened_at = None
        return ready

    @property
    def waiting(self) -> bool:
        """Whether drained calls wait for their batch to fill."""
        with self._lock:
            return any(lane.waiting for lane in self._lanes.values())

    @property
    def crowded(self) -> bool:
        """Whether little is left of the half that may be charged before calls are thinned."""
        with self._lock:
            self._reclaim()
            return self._used > self._half * 3 // 4

    def recharge(self, change: int) -> None:
        """Adds to the bytes charged: calls became a batch, or a batch left."""
        with self._lock:
            self._used += change

    def take_overflow(self) -> bool:
        """Whether a call found the buffer full since this was last asked."""
        with self._lock:
            overflowing, self._overflowing = self._overflowing, False
            return overflowing

    def count_error(self, rows: int, *, admitted: bool, kind: Kind = Kind.PREDICTIONS) -> None:
        """Rows that could not be captured, or (admitted) not be encoded."""
        with self._lock:
            book = self._books.of(kind)
            book.errors += rows
            if admitted:
                book.admitted -= rows

    def count_failed_inference(self) -> None:
        with self._lock:
            self._books.failed_inferences += 1

    def count_unseen_call(self) -> None:
        with self._lock:
            self._books.unseen_calls += 1

    def count_retry(self) -> None:
        with self._lock:
            self._books.retries += 1

    def count_sent(self, kind: Kind, rows: int, *, recovered: int, rejected: int) -> None:
        with self._lock:
            book = self._books.of(kind)
            book.sent += rows
            book.recovered += recovered
            book.rejected += rejected
            self._books.batches += 1

    def count_given_up(self, kind: Kind, rows: int) -> None:
        with self._lock:
            book = self._books.of(kind)
            book.gave_up += rows
            book.admitted -= rows

    def count_spooled(self, kind: Kind, change: int) -> None:
        with self._lock:
            self._books.of(kind).spooled += change

    @property
    def told(self) -> tuple[int, int]:
        """What a header tells beside its rows: all rows dropped so far, for whatever reason, and inferences that failed."""
        with self._lock:
            return self._books.predictions.dropped, self._books.failed_inferences

    def close(self) -> None:
        """From now on every call is dropped and counted."""
        with self._lock:
            self._closed = True
            self._reclaim()

    def stats(self) -> Stats:
        with self._lock:
            self._drain()
            return self._books.stats(self._used)

    @property
    def settled(self) -> bool:
        """Whether no row and no label waits for its acknowledgement."""
        stats = self.stats()
        return not stats.pending and not stats.labels_pending

    def reset_after_fork(self) -> None:
        """The rows here are the parent's to ship, and another thread of it may have held the lock."""
        self._lock = threading.Lock()
        self._rng.seed()
        self._used = 0
        self._started = self._overflowing = False
        self._books = Books()
        for lane in self._lanes.values():
            lane.clear()
