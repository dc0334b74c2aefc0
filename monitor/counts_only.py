"""The stage of models that keep no rows: batches are counted before the commit, and only their counts are stored.

It stands between the queue and the writer. What arrives within a few milliseconds is counted together, as the fold
would, and goes into one transaction: a row per batch, so that a retry is known, and one payload of counts for all,
carried by the first. Nothing is acknowledged before that is on disk, and the fold adds the counts to the panes once.
"""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from detectors.types import DetectorError
from monitor.counting import Onto, count, seen_per_row
from monitor.gathering import Gathering
from monitor.ingest.batch import Batch
from monitor.ingest.counted import COUNTS_CODEC, CountedBatch, add_up, encode_counts
from monitor.ingest.errors import unprocessable
from monitor.segments import Segments
from storage import batches, halves
from storage.batches import AppendResult, NewBatch, StoredBatch
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.halves import StoredHalf

CAREFUL_SECONDS: Final = 60.0
"""For so long after a batch came twice, ids are looked up before anything is counted: more of them may follow."""

log = logging.getLogger("driftd.counting")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waiting:
    """A batch to be counted and stored: `new` has no payload, `completes` is the half of an event that it takes away."""

    onto: Onto
    batch: Batch
    new: NewBatch
    held_bytes: int
    completes: StoredHalf | None
    stored: "Future[AppendResult]" = field(default_factory=Future)


class Raced(StorageError):
    """Other batches were new than those that were counted; nothing of the group was written, and it is counted again."""


class CountingStage:
    """Counts and stores batches in a thread of its own, which begins with the first of them."""

    def __init__(
        self,
        database: Database,
        segments: Segments,
        committed: Callable[[StoredBatch], None],
        clock: Callable[[], float],
    ) -> None:
        """`committed` is told of every batch with counts that is on disk; `clock` is monotonic."""
        self._database = database
        self._segments = segments
        self._committed = committed
        self._clock = clock
        self._queue: Gathering[Waiting] = Gathering(clock)
        self._careful_until = -math.inf
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, waiting: Waiting) -> "Future[AppendResult]":
        """Queue a batch; its future ends when its transaction is committed, or the batch cannot be counted."""
        if self._thread is None:
            self._start()
        self._queue.put(waiting)
        return waiting.stored

    def stop(self) -> None:
        """Count and store what is queued, and end."""
        self._queue.close()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="counting", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while group := self._queue.take():
            order = sorted(group, key=lambda waiting: waiting.onto.baseline_id)
            for _, part in groupby(
                order, lambda waiting: (waiting.onto.baseline_id, waiting.onto.segment_keys)
            ):
                self._take(list(part))

    def _take(self, part: list[Waiting]) -> None:
        """Count batches of one baseline and hand them to the writer. Whatever happens, each gets its answer."""
        try:
            fresh = self._fresh(part)
            countable, counted = self._count(fresh)
            refused = {id(waiting) for waiting in fresh} - {id(waiting) for waiting in countable}
            self._queue.done(len(refused))
            part = [waiting for waiting in part if id(waiting) not in refused]
            if part:
                self._write(part, countable, counted)
        except Exception as error:
            self._fail(part, error)

    def _fresh(self, part: Sequence[Waiting]) -> list[Waiting]:
        """Those whose id is new, as far as is known; the transaction finds out."""
        known: set[str] = set()
        if self._clock() < self._careful_until:
            with self._database.read() as conn:
                known = batches.known_keys(conn, part[0].new.model_id, [w.new.batch_key for w in part])
        fresh: dict[str, Waiting] = {}
        for waiting in part:
            if waiting.new.batch_key not in known:
                fresh.setdefault(waiting.new.batch_key, waiting)
        return list(fresh.values())

    def _count(self, fresh: list[Waiting]) -> tuple[list[Waiting], CountedBatch | None]:
        """Those that can be counted, and their counts. One that cannot is refused, and takes no other down with it."""
        if not fresh:
            return [], None
        try:
            return fresh, self._counted(fresh)
        except Exception as error:
            if len(fresh) == 1:
                _refuse(fresh[0], error)
                return [], None
        apart = [self._count([waiting]) for waiting in fresh]
        counts = [counted for _, counted in apart if counted is not None]
        whole = add_up(fresh[0].onto.fingerprint, counts) if counts else None
        return [waiting for alone, _ in apart for waiting in alone], whole

    def _counted(self, fresh: Sequence[Waiting]) -> CountedBatch:
        rate = seen_per_row([waiting.new for waiting in fresh])
        return count(fresh[0].onto, self._segments, [waiting.batch for waiting in fresh], rate)

    def _write(self, part: list[Waiting], fresh: Sequence[Waiting], counted: CountedBatch | None) -> None:
        news = [waiting.new for waiting in part]
        counts: NewBatch | None = None
        if counted is not None:
            counts = _carrier([waiting.new for waiting in fresh], encode_counts(counted))
            news[next(at for at, waiting in enumerate(part) if waiting is fresh[0])] = counts
        places = {id(waiting) for waiting in fresh}
        mask = [id(waiting) in places for waiting in part]
        taken = [waiting.completes for waiting in part]
        written = self._database.write(lambda conn: _append(conn, news, mask, taken), urgent=True)
        written.add_done_callback(lambda done: self._written(done, part, counts))

    def _written(
        self, done: "Future[list[AppendResult]]", part: Sequence[Waiting], counts: NewBatch | None
    ) -> None:
        error = done.exception()
        if isinstance(error, Raced):
            self._careful_until = self._clock() + CAREFUL_SECONDS
            self._queue.put_back(part)
            self._queue.done(len(part))
        elif error is not None:
            self._fail(part, error)
        else:
            self._answer(part, done.result(), counts)

    def _answer(
        self, part: Sequence[Waiting], results: Sequence[AppendResult], counts: NewBatch | None
    ) -> None:
        for waiting, result in zip(part, results, strict=True):
            if counts is not None and result.status == "stored" and waiting.new.batch_key == counts.batch_key:
                self._committed(batches.as_stored(counts, result.batch_id))
            waiting.stored.set_result(result)
        self._queue.done(len(part))

    def _fail(self, part: Sequence[Waiting], error: BaseException) -> None:
        for waiting in part:
            waiting.stored.set_exception(error)
        self._queue.done(len(part))


def _carrier(counted: Sequence[NewBatch], payload: bytes) -> NewBatch:
    """The first of the batches with the counts of all of them: they wait to be folded until it is."""
    return replace(
        counted[0],
        t_first_ns=min(new.t_first_ns for new in counted),
        t_last_ns=max(new.t_last_ns for new in counted),
        folded_on=None,
        codec=COUNTS_CODEC,
        payload=payload,
    )


def _append(
    conn: Connection,
    news: Sequence[NewBatch],
    counted: Sequence[bool],
    completes: Sequence[StoredHalf | None],
) -> list[AppendResult]:
    """Store the batches, if exactly those are new that were counted; else Raced, and nothing is stored."""
    results = batches.append(conn, news)
    if [result.status == "stored" for result in results] != list(counted):
        raise Raced("a batch of this group was stored, or deleted, while it was counted")
    for new, result, half in zip(news, results, completes, strict=True):
        if half is not None and result.status != "conflict":
            halves.take(conn, new.model_id, new.batch_key)
    return results


def _refuse(waiting: Waiting, error: Exception) -> None:
    """Tell the sender, with a reason where it is the data's; else it is a defect, and the log has it whole."""
    of_data = isinstance(error, DetectorError)
    log.error(
        "a batch of model version %d cannot be counted and is refused: %s",
        waiting.new.version_id,
        error,
        exc_info=None if of_data else error,
    )
    waiting.stored.set_exception(unprocessable("", str(error)) if of_data else error)
