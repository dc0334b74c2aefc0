"""The daemon as the ingest endpoint sees it: from an accepted batch to a committed one."""

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from monitor.api.ports import (
    InFlightError,
    QueueFullError,
    StorageUnavailableError,
    SubmitResult,
    TooManyVersionsError,
    as_port_error,
)
from monitor.catalog import Catalog
from monitor.clock import Clock
from monitor.config import Config
from monitor.counting import Onto
from monitor.counts_only import CountingStage, Waiting
from monitor.ids import anonymous_batch_id
from monitor.ingest.accept import Accepted
from monitor.ingest.accept_counts import AcceptedCounts
from monitor.ingest.batch import RAW_CODEC, Batch, encode_payload, held_bytes
from monitor.ingest.counted import COUNTS_CODEC
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
        self.counting = CountingStage(database, pipeline.segments, pipeline.committed, clock.monotonic)

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next batch on."""
        self._config = config

    @property
    def queued_bytes(self) -> int:
        """Bytes of batches accepted but not yet committed."""
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

    def segment_keys(self, model: str) -> tuple[str, ...]:
        return self._config.settings(model).segments

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
        onto = self._onto(model, version)
        new = self._new_batch(version, accepted, batch, model.model_id, onto)
        if onto is None:
            return self._append(model, new, batch.parameters, completes)
        size = held_bytes(batch)
        waiting = Waiting(onto=onto, batch=batch, new=new, held_bytes=size, completes=completes)
        return self._queue(model, new, size, batch.parameters, lambda: self.counting.submit(waiting))

    def submit_counts(
        self, model: ModelHandle, version: VersionHandle, accepted: AcceptedCounts
    ) -> Future[SubmitResult]:
        counts = accepted.counts
        assert counts is not None
        new = NewBatch(
            model_id=model.model_id,
            version_id=version.version_id,
            batch_key=accepted.id or anonymous_batch_id(),
            body_sha256=accepted.body_sha256,
            received_at=from_ns(self._clock.now_ns()),
            t_first_ns=counts.first_ns,
            t_last_ns=counts.last_ns,
            accepted=accepted.accepted,
            rejected=accepted.rejected,
            seen=_count(accepted.parameters, "seen"),
            kept=_count(accepted.parameters, "kept"),
            dropped=_count(accepted.parameters, "dropped"),
            writer=self._writer,
            codec=COUNTS_CODEC,
            payload=counts.payload,
        )
        return self._append(model, new, accepted.parameters, None)

    def _append(
        self,
        model: ModelHandle,
        new: NewBatch,
        parameters: Mapping[str, Any],
        completes: StoredHalf | None,
    ) -> Future[SubmitResult]:
        """Stores a batch with its payload."""
        assert new.payload is not None
        return self._queue(
            model,
            new,
            len(new.payload),
            parameters,
            lambda: self._database.write(lambda conn: _append(conn, new, completes), urgent=True),
        )

    def _queue(
        self,
        model: ModelHandle,
        new: NewBatch,
        size: int,
        parameters: Mapping[str, Any],
        store: Callable[[], Future[AppendResult]],
    ) -> Future[SubmitResult]:
        """`store` puts the batch on its way to disk; `size` are the bytes that it holds until it is there."""
        self._reserve(new, size)
        answer: Future[SubmitResult] = Future()
        answer.set_running_or_notify_cancel()
        try:
            stored = store()
        except StorageError as error:
            self._release(new, size)
            raise StorageUnavailableError(str(error)) from error
        stored.add_done_callback(self._answering(model, new, size, parameters, answer))
        return answer

    def _onto(self, model: ModelHandle, version: VersionHandle) -> Onto | None:
        """What the version's rows are counted on before the commit; None where the rows are what is stored."""
        settings = self._config.settings(model.name)
        if settings.keep_rows or version.baseline is None or version.baseline_id is None:
            return None
        base = self._pipeline.bases.of(version.baseline_id, version.baseline)
        return Onto(baseline_id=version.baseline_id, base=base, segment_keys=settings.segments)

    def _answering(
        self,
        model: ModelHandle,
        new: NewBatch,
        size: int,
        parameters: Mapping[str, Any],
        answer: Future[SubmitResult],
    ) -> Callable[[Future[AppendResult]], None]:
        label = self._telemetry.label(model.name)
        failed = _count(parameters, "failed_inferences") or 0

        def done(stored: Future[AppendResult]) -> None:
            self._release(new, size)
            error = stored.exception()
            if error is not None:
                self._telemetry.batches.labels(outcome="failed").inc()
                answer.set_exception(as_port_error(error))
                return
            result = stored.result()
            self._telemetry.batches.labels(outcome=result.status).inc()
            if result.status == "stored":
                self._telemetry.rows_accepted.labels(model=label).inc(new.accepted)
                self._telemetry.rows_rejected.labels(model=label).inc(new.rejected)
                self._telemetry.rows_dropped.labels(model=label).inc(new.dropped or 0)
                self._telemetry.failed_inferences.labels(model=label).inc(failed)
                self._telemetry.arrival.labels(model=label).set(new.received_at.timestamp())
                if new.payload is not None:
                    self._pipeline.committed(batches.as_stored(new, result.batch_id))
            answer.set_result(_result(result, new.batch_key))

        return done

    def _new_batch(
        self, version: VersionHandle, accepted: Accepted, batch: Batch, model_id: int, onto: Onto | None
    ) -> NewBatch:
        first, last = batch.span_ns
        return NewBatch(
            model_id=model_id,
            version_id=version.version_id,
            batch_key=batch.id or anonymous_batch_id(),
            body_sha256=batch.body_sha256,
            received_at=from_ns(self._clock.now_ns()),
            t_first_ns=first,
            t_last_ns=last,
            accepted=accepted.accepted,
            rejected=accepted.rejected,
            seen=_count(batch.parameters, "seen"),
            kept=_count(batch.parameters, "kept"),
            dropped=_count(batch.parameters, "dropped"),
            sample_rate=_rate(batch),
            writer=self._writer,
            folded_on=None if onto is None else onto.baseline_id,
            codec=RAW_CODEC,
            payload=encode_payload(batch) if onto is None else None,
        )

    def _reserve(self, new: NewBatch, size: int) -> None:
        """Room in the queue, and no other body under the same id in it: which came first is not decided yet."""
        key = (new.model_id, new.batch_key)
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

    def _release(self, new: NewBatch, size: int) -> None:
        key = (new.model_id, new.batch_key)
        with self._lock:
            digest, count = self._in_flight.pop(key)
            if count > 1:
                self._in_flight[key] = (digest, count - 1)
            self._queued -= size
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


def _count(parameters: Mapping[str, Any], name: str) -> int | None:
    """A sender's count of rows; what is no count is ignored, as unknown parameters are."""
    value = parameters.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _rate(batch: Batch) -> float | None:
    """A sampling rate is within (0, 1]; anything else would make rows out of nothing."""
    value = batch.parameters.get("sample_rate")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
        return None
    return float(value)
