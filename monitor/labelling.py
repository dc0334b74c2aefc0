"""The daemon as the endpoint of labels sees it: from accepted labels to committed ones."""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from monitor.api.ports import QueueFullError, StorageUnavailableError, as_port_error
from monitor.clock import Clock
from monitor.config import Config
from monitor.ingest.labels import AcceptedLabels
from monitor.ingest.schema import ModelHandle
from monitor.telemetry import Telemetry
from storage import labels
from storage.engine import Database
from storage.errors import StorageError
from storage.labels import PUT_AT_ONCE, Label

QUEUED_LABELS: Final = 500_000
"""The most that may be on their way to disk; a label takes some hundred bytes of memory."""
FULL_RETRY_SECONDS: Final = 60
RECOUNTED_FROM: Final = 0.5
"""Below this share of the limit nobody counts again: counting reads them all."""


class Labelling:
    """Implements `LabelsPort`; methods are called from several threads. `recount` is to be called at first and now and then."""

    def __init__(self, database: Database, config: Config, clock: Clock, telemetry: Telemetry) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._queued = 0
        self._stored: int | None = None

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next labels on."""
        self._config = config

    def mature_after(self, model: str) -> timedelta | None:
        after: timedelta | None = self._config.settings(model).labels_mature_after
        return after

    def submit(self, model: ModelHandle, accepted: AcceptedLabels) -> Generator[Future[object], None, None]:
        left = len(accepted.labels)
        self._reserve(left)
        try:
            for at in range(0, len(accepted.labels), PUT_AT_ONCE):
                some = accepted.labels[at : at + PUT_AT_ONCE]
                yield self._write(model, some)
                self._release(len(some), stored=True)
                left -= len(some)
        finally:
            self._release(left, stored=False)
        self._telemetry.labels.labels(model=self._telemetry.label(model.name)).inc(accepted.accepted)

    @property
    def queued(self) -> int:
        """Labels on their way to disk."""
        with self._lock:
            return self._queued

    def recount(self) -> None:
        """Count what is stored where that may be near the limit: corrections were counted twice, and retention has its turn."""
        with self._lock:
            known = self._stored
        if known is not None and known < RECOUNTED_FROM * self._config.storage.max_labels:
            return
        with self._database.read() as conn:
            stored = labels.count(conn)
        with self._lock:
            # What was committed while they were counted may be among them: too many rather than too few.
            self._stored = stored + (self._stored or 0) - (known or 0)

    def _write(self, model: ModelHandle, some: Sequence[Label]) -> Future[object]:
        now = self._clock.now()
        answer: Future[object] = Future()
        answer.set_running_or_notify_cancel()
        try:
            stored = self._database.write(
                lambda conn: labels.put(conn, model.model_id, some, received_at=now), urgent=True
            )
        except StorageError as error:
            raise StorageUnavailableError(str(error)) from error

        def done(written: Future[None]) -> None:
            error = written.exception()
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(as_port_error(error))

        stored.add_done_callback(done)
        return answer

    def _reserve(self, count: int) -> None:
        with self._lock:
            if (self._stored or 0) + self._queued + count > self._config.storage.max_labels:
                raise QueueFullError("labels are kept up to storage.max_labels", FULL_RETRY_SECONDS)
            if self._queued + count > QUEUED_LABELS:
                raise QueueFullError("too many labels wait to be committed")
            self._queued += count

    def _release(self, count: int, *, stored: bool) -> None:
        with self._lock:
            self._queued -= count
            if stored:
                self._stored = (self._stored or 0) + count
