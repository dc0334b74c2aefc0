"""The daemon as the endpoint of labels sees it: from accepted labels to committed ones."""

import threading
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from monitor.api.ports import QueueFullError, StorageUnavailableError
from monitor.clock import Clock
from monitor.config import Config
from monitor.ingest.labels import AcceptedLabels
from monitor.ingest.schema import ModelHandle
from monitor.telemetry import Telemetry
from storage import labels
from storage.engine import Database
from storage.errors import StorageError

QUEUED_LABELS: Final = 500_000
"""The most that may be on their way to disk; a label takes some hundred bytes of memory."""
FULL_RETRY_SECONDS: Final = 60


class Labelling:
    """Implements `LabelsPort`; methods are called from several threads. `recount` is to be called at first and now and then."""

    def __init__(self, database: Database, config: Config, clock: Clock, telemetry: Telemetry) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._queued = 0
        self._stored = 0

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next labels on."""
        self._config = config

    def mature_after(self, model: str) -> timedelta | None:
        after: timedelta | None = self._config.settings(model).labels_mature_after
        return after

    def submit(self, model: ModelHandle, accepted: AcceptedLabels) -> Future[None]:
        told, now = accepted.labels, self._clock.now()
        self._reserve(len(told))
        answer: Future[None] = Future()
        answer.set_running_or_notify_cancel()
        try:
            stored = self._database.write(
                lambda conn: labels.put(conn, model.model_id, told, received_at=now), urgent=True
            )
        except StorageError as error:
            self._release(len(told), stored=False)
            raise StorageUnavailableError(str(error)) from error

        def done(written: Future[None]) -> None:
            error = written.exception()
            self._release(len(told), stored=error is None)
            if error is None:
                label = self._telemetry.label(model.name)
                self._telemetry.labels.labels(model=label).inc(accepted.accepted)
                answer.set_result(None)
            else:
                unavailable = isinstance(error, StorageError)
                answer.set_exception(StorageUnavailableError(str(error)) if unavailable else error)

        stored.add_done_callback(done)
        return answer

    def recount(self) -> None:
        """Count afresh what is stored: corrections were counted twice, and retention has its turn."""
        with self._database.read() as conn:
            stored = labels.count(conn)
        with self._lock:
            self._stored = stored

    def _reserve(self, count: int) -> None:
        with self._lock:
            if self._stored + self._queued + count > self._config.storage.max_labels:
                raise QueueFullError("labels are kept up to storage.max_labels", FULL_RETRY_SECONDS)
            if self._queued and self._queued + count > QUEUED_LABELS:
                raise QueueFullError("too many labels wait to be committed")
            self._queued += count

    def _release(self, count: int, *, stored: bool) -> None:
        with self._lock:
            self._queued -= count
            if stored:
                self._stored += count
