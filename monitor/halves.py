"""Half inferences between their two events: bounded in bytes, given up in time, and counted when they are lost."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from monitor.api.ports import QueueFullError, StorageUnavailableError, as_port_error
from monitor.clock import Clock
from monitor.config import Config
from monitor.ingest.schema import ModelHandle
from monitor.telemetry import Telemetry
from storage import halves
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.halves import HalfName, Kept, NewHalf, StoredHalf

CHUNK: Final = 200
LOST_KEPT: Final = timedelta(days=1)

log = logging.getLogger("driftd.halves")


class Halves:
    """Implements `HalvesPort`; `expire` is to be called now and then."""

    def __init__(self, database: Database, config: Config, clock: Clock, telemetry: Telemetry) -> None:
        self._database = database
        self._limit = config.storage.event_bytes
        self._wait = config.storage.event_wait
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._waiting = 0
        self._recount()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the halves that wait, as far as this daemon knows."""
        return self._waiting

    def keep(self, new: NewHalf) -> Future[Kept]:
        """Store half an inference, or find the half it completes; the latter needs no room."""
        size = len(new.data)
        room = self._reserve(size)
        try:
            stored = self._database.write(lambda conn: halves.keep(conn, new, room=room), urgent=True)
        except StorageError as error:
            self._release(size if room else 0)
            raise StorageUnavailableError(str(error)) from error
        answer: Future[Kept] = Future()
        answer.set_running_or_notify_cancel()
        stored.add_done_callback(partial(self._answer, answer, size if room else 0))
        return answer

    def taken(self, half: StoredHalf) -> None:
        """A half that waited is part of a batch now."""
        self._release(len(half.data))

    def lose(self, model: ModelHandle, event_id: str) -> None:
        """Give up one half; StorageUnavailableError where that cannot be written."""
        now = self._clock.now()
        try:
            lost = self._database.write(
                lambda conn: halves.lose(conn, model.model_id, event_id, now=now)
            ).result()
        except StorageError as error:
            raise StorageUnavailableError(str(error)) from error
        if lost:
            self._telemetry.events_lost.labels(half="pair").inc()

    def expire(self) -> int:
        """Give up what has waited too long, forget what was given up a day ago; returns how many were given up."""
        now = self._clock.now()
        given_up = 0
        while True:
            lost = self._database.write(_giving_up(now - self._wait, now)).result()
            for half, count in lost.items():
                self._telemetry.events_lost.labels(half=half).inc(count)
                given_up += count
            if sum(lost.values()) < CHUNK:
                break
        while self._database.write(_forgetting(now - LOST_KEPT)).result() == CHUNK:
            pass
        if given_up:
            log.warning("%d events waited %s for their other half and were given up", given_up, self._wait)
        self._recount()
        return given_up

    def _answer(self, answer: Future[Kept], reserved: int, stored: Future[Kept]) -> None:
        error = stored.exception()
        if error is not None:
            self._release(reserved)
            answer.set_exception(as_port_error(error))
            return
        kept = stored.result()
        if kept.status != "waiting":
            self._release(reserved)
        if kept.status == "full":
            answer.set_exception(
                QueueFullError("events wait for their other half up to storage.event_bytes", 60)
            )
            return
        answer.set_result(kept)

    def _reserve(self, size: int) -> bool:
        with self._lock:
            if self._waiting + size > self._limit:
                return False
            self._waiting += size
            self._telemetry.event_bytes.set(self._waiting)
            return True

    def _release(self, size: int) -> None:
        with self._lock:
            self._waiting -= size
            self._telemetry.event_bytes.set(self._waiting)

    def _recount(self) -> None:
        """The database knows: other daemons may share it, and a crash may have come between a count and its write."""
        with self._database.read() as conn:
            counted = halves.waiting_bytes(conn)
        with self._lock:
            self._waiting = counted
            self._telemetry.event_bytes.set(counted)


def _giving_up(before: datetime, now: datetime) -> Callable[[Connection], Mapping[HalfName, int]]:
    return lambda conn: halves.lose_before(conn, before, now=now, limit=CHUNK)


def _forgetting(before: datetime) -> Callable[[Connection], int]:
    return lambda conn: halves.drop_lost_before(conn, before, limit=CHUNK)
