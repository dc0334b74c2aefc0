"""What the HTTP API asks of the daemon."""

from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from monitor.ingest.accept import Accepted
from monitor.ingest.accept_counts import AcceptedCounts
from monitor.ingest.labels import AcceptedLabels
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.ingest.times import TimeLimits
from storage.errors import StorageError
from storage.halves import Kept, NewHalf, StoredHalf


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """What became of a batch, once its transaction is committed.

    `stored`: it is new. `duplicate`: the same id and body were stored before. `conflict`: the id is taken by
    another body, nothing was stored. `batch_key` is the id it is stored under, one of the daemon's own for a
    batch without. `accepted` and `rejected` are those of the stored batch, None where they are as submitted.
    """

    status: Literal["stored", "duplicate", "conflict"]
    batch_key: str
    accepted: int | None = None
    rejected: int | None = None


class PortError(Exception):
    """The daemon cannot take a batch now; the same request may succeed after `retry_after_seconds`."""

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class InFlightError(PortError):
    """Another body with the same batch id is on its way to disk: 409, and a retry learns what became of it."""


class QueueFullError(PortError):
    """Batches wait to be committed up to the queue's limit in bytes: 429."""


class StorageUnavailableError(PortError):
    """Nothing can be committed: disk full, database gone: 503."""


def as_port_error(error: BaseException) -> BaseException:
    """An error of a write as the endpoints know it: one of the store becomes StorageUnavailableError."""
    return StorageUnavailableError(str(error)) if isinstance(error, StorageError) else error


class TooManyVersionsError(PortError):
    """The model has as many unregistered versions as it may have: 422, and no retry helps."""


class IngestPort(Protocol):
    """The daemon as the ingest endpoint sees it. Methods are called from several threads."""

    def model(self, name: str) -> ModelHandle | None:
        """The registered model of this name. Called on the event loop: answered from memory."""
        ...

    def watermark_ns(self, model_id: int) -> int | None:
        """The model's watermark in nanoseconds UTC, None before its first batch. Answered from memory."""
        ...

    def now_ns(self) -> int:
        """The daemon's clock, nanoseconds UTC."""
        ...

    def time_limits(self, model: str) -> TimeLimits:
        """Which event times this model accepts. Answered from memory."""
        ...

    def ensure_version(self, model: ModelHandle, version: str) -> VersionHandle:
        """The version of this name, made PENDING_BASELINE if it is new; may block on the database.

        TooManyVersionsError where the model has its fill of unregistered versions, StorageUnavailableError.
        """
        ...

    def find(self, model: ModelHandle, batch_id: str, body_sha256: str) -> SubmitResult | None:
        """The outcome of an earlier `submit` of this id; None if the id is new. May block on the database."""
        ...

    def submit(
        self,
        model: ModelHandle,
        version: VersionHandle,
        accepted: Accepted,
        *,
        completes: StoredHalf | None = None,
    ) -> "Future[SubmitResult]":
        """Queue a batch (`accepted.batch` is not None); the future ends when its transaction is committed.

        `completes` is the waiting half of an event, under the batch's id, that the same transaction takes away.
        QueueFullError and InFlightError at once, StorageUnavailableError at once or from the future.
        """
        ...

    def segment_keys(self, model: str) -> tuple[str, ...]:
        """The tags of this model whose values are counted by themselves. Answered from memory."""
        ...

    def submit_counts(
        self, model: ModelHandle, version: VersionHandle, accepted: AcceptedCounts
    ) -> "Future[SubmitResult]":
        """As `submit`, for counts (`accepted.counts` is not None)."""
        ...


class HalvesPort(Protocol):
    """The daemon as the endpoint of single events sees it. Methods are called from several threads."""

    def keep(self, new: NewHalf) -> "Future[Kept]":
        """Queue half an inference; the future ends when it is committed, or its other half is found.

        QueueFullError where halves wait up to their limit, StorageUnavailableError.
        """
        ...

    def taken(self, half: StoredHalf) -> None:
        """A half that waited is part of a batch now."""
        ...

    def lose(self, model: ModelHandle, event_id: str) -> None:
        """The waiting half of an event will never be used: count it as lost."""
        ...


class LabelsPort(Protocol):
    """The daemon as the endpoint of labels sees it. Methods are called from several threads."""

    def mature_after(self, model: str) -> timedelta | None:
        """How long after a prediction its label may still come; None where labels are of no use. Answered from memory."""
        ...

    def submit(self, model: ModelHandle, accepted: AcceptedLabels) -> "Generator[Future[object], None, None]":
        """Queue labels, some at a time: each future is to end well before the next is asked for, and all when all is committed.

        To be closed where one does not. QueueFullError at the first where as many are kept, or on their way, as may be;
        StorageUnavailableError at once or from a future.
        """
        ...
