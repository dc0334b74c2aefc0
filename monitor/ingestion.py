"""The daemon as the ingest endpoint sees it: from an accepted batch to a committed one."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from monitor.api.ports import (
    InFlightError,
    QueueFullError,
    StorageUnavailableError,
    SubmitResult,
    TooManyVersionsError,
)
from monitor.catalog import Catalog
from monitor.clock import Clock
from monitor.config import Config
from monitor.ids import anonymous_batch_id
from monitor.ingest.accept import Accepted
from monitor.ingest.batch import RAW_CODEC, Batch, encode_payload
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.ingest.times import TimeLimits
from monitor.instants import from_ns, span_ns
from monitor.pipeline import Pipeline
from monitor.telemetry import Telemetry
from storage import batches, halves, models
from storage.batches import AppendResult, NewBatch
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.halves import StoredHalf

VERSIONS_PER_MODEL: Final = 1000
REFRESH_SECONDS: Final = 1.0
"""How often an unknown model may be looked for again: another daemon may just have registered it."""


class Ingestion:
    """Implements `IngestPort`; methods are called from several threads."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        config: Config,
        pipeline: Pipeline,
        clock: Clock,
        telemetry: Telemetry,
        writer: str,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._config = config
        self._pipeline = pipeline
        self._clock = clock
        self._telemetry = telemetry
        self._writer = writer
        self._lock = threading.Lock()
        self._queued = 0
        self._in_flight: dict[tuple[int, str], tuple[str, int]] = {}
        self._refreshed_at = -math.inf

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next batch on."""
        self._config = config

    @property
    def queued_bytes(self) -> int:
        """Payload bytes accepted but not yet committed."""
        return self._queued

    def model(self, name: str) -> ModelHandle | None:
        found = self._catalog.model(name)
        if (
            found is None
            and self._database.shared
            and self._clock.monotonic() - self._refreshed_at >= REFRESH_SECONDS
        ):
            self._refreshed_at = self._clock.monotonic()
            self._catalog.refresh()
            found = self._catalog.model(name)
        return found

    def watermark_ns(self, model_id: int) -> int | None:
        return self._pipeline.cursor(model_id).watermark_ns

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def time_limits(self, model: str) -> TimeLimits:
        settings = self._config.settings(model)
        return TimeLimits(
            past_ns=span_ns(settings.max_past),
            future_ns=span_ns(settings.max_future),
            first_past_ns=span_ns(settings.first_batch_max_past),
        )

    def ensure_version(self, model: ModelHandle, version: str) -> VersionHandle:
        now = self._clock.now()

        def register(conn: Connection) -> bool:
            known = models.list_versions(conn, model.model_id)
            if len(known) >= VERSIONS_PER_MODEL and version not in {row.version for row in known}:
                return False
            models.ensure_version(conn, model.model_id, version, now=now)
            return True

        if not self._commit(register):
            self._pipeline.version_refused(model.model_id)
            raise TooManyVersionsError(
                f"model {model.name!r} has {VERSIONS_PER_MODEL} versions already; is the version a counter?"
            )
        self._catalog.reload()
        renewed = self._catalog.model(model.name)
        assert renewed is not None
        return renewed.versions[version]

    def find(self, model: ModelHandle, batch_id: str, body_sha256: str) -> SubmitResult | None:
        try:
            with self._database.read() as conn:
                found = batches.find(conn, model.model_id, batch_id, body_sha256)
        except StorageError as error:
            raise StorageUnavailableError(str(error)) from error
        return None if found is None else _result(found, batch_id)

    def submit(
        self,
        model: ModelHandle,
        version: VersionHandle,
        accepted: Accepted,
        *,
        completes: StoredHalf | None = None,
    ) -> Future[SubmitResult]:
        batch = accepted.batch
        assert batch is not None
        key = batch.id or anonymous_batch_id()
        new = self._new_batch(model, version, accepted, batch, key)
        self._reserve(new)
        answer: Future[SubmitResult] = Future()
        answer.set_running_or_notify_cancel()
        try:
            stored = self._database.write(lambda conn: _append(conn, new, completes), urgent=True)
        except StorageError as error:
            self._release(new)
            raise StorageUnavailableError(str(error)) from error
        stored.add_done_callback(self._answering(model, new, answer))
        return answer

    def _answering(
        self, model: ModelHandle, new: NewBatch, answer: Future[SubmitResult]
    ) -> Callable[[Future[AppendResult]], None]:
        label = self._telemetry.label(model.name)

        def done(stored: Future[AppendResult]) -> None:
            self._release(new)
            error = stored.exception()
            if error is not None:
                self._telemetry.batches.labels(outcome="failed").inc()
                unavailable = isinstance(error, StorageError)
                answer.set_exception(StorageUnavailableError(str(error)) if unavailable else error)
                return
            result = stored.result()
            self._telemetry.batches.labels(outcome=result.status).inc()
            if result.status == "stored":
                self._telemetry.rows_accepted.labels(model=label).inc(new.accepted)
                self._telemetry.rows_rejected.labels(model=label).inc(new.rejected)
                self._telemetry.arrival.labels(model=label).set(new.received_at.timestamp())
                self._pipeline.committed(batches.as_stored(new, result.batch_id))
            answer.set_result(_result(result, new.batch_key))

        return done

    def _new_batch(
        self, model: ModelHandle, version: VersionHandle, accepted: Accepted, batch: Batch, key: str
    ) -> NewBatch:
        first, last = batch.span_ns
        return NewBatch(
            model_id=model.model_id,
            version_id=version.version_id,
            batch_key=key,
            body_sha256=batch.body_sha256,
            received_at=from_ns(self._clock.now_ns()),
            t_first_ns=first,
            t_last_ns=last,
            accepted=accepted.accepted,
            rejected=accepted.rejected,
            seen=_count(batch, "seen"),
            kept=_count(batch, "kept"),
            dropped=_count(batch, "dropped"),
            sample_rate=_rate(batch),
            writer=self._writer,
            codec=RAW_CODEC,
            payload=encode_payload(batch),
        )

    def _reserve(self, new: NewBatch) -> None:
        """Room in the queue, and no other body under the same id in it: which came first is not decided yet."""
        size, key = len(new.payload), (new.model_id, new.batch_key)
        with self._lock:
            digest, count = self._in_flight.get(key, (new.body_sha256, 0))
            if digest != new.body_sha256:
                raise InFlightError(
                    f"another body with the id {new.batch_key!r} is being stored; send a new id"
                )
            if self._queued and self._queued + size > self._config.storage.queue_bytes:
                raise QueueFullError("batches wait to be committed up to storage.queue_bytes")
            self._in_flight[key] = (digest, count + 1)
            self._queued += size
            self._telemetry.queue_bytes.set(self._queued)

    def _release(self, new: NewBatch) -> None:
        key = (new.model_id, new.batch_key)
        with self._lock:
            digest, count = self._in_flight.pop(key)
            if count > 1:
                self._in_flight[key] = (digest, count - 1)
            self._queued -= len(new.payload)
            self._telemetry.queue_bytes.set(self._queued)

    def _commit(self, function: Callable[[Connection], bool]) -> bool:
        try:
            return self._database.write(function).result()
        except StorageError as error:
            raise StorageUnavailableError(str(error)) from error


def _append(conn: Connection, new: NewBatch, completes: StoredHalf | None) -> AppendResult:
    """One batch, and the half it was made of goes: both, or neither."""
    result = batches.append(conn, [new])[0]
    if completes is not None and result.status != "conflict":
        halves.take(conn, new.model_id, new.batch_key)
    return result


def _result(found: AppendResult, key: str) -> SubmitResult:
    return SubmitResult(status=found.status, batch_key=key, accepted=found.accepted, rejected=found.rejected)


def _count(batch: Batch, name: str) -> int | None:
    """A sender's count of rows; what is no count is ignored, as unknown parameters are."""
    value = batch.parameters.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _rate(batch: Batch) -> float | None:
    """A sampling rate is within (0, 1]; anything else would make rows out of nothing."""
    value = batch.parameters.get("sample_rate")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
        return None
    return float(value)
