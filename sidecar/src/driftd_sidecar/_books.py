"""The books: what became of every row, for each kind of row apart. They add up at any moment."""

from dataclasses import dataclass, field

from driftd_sidecar._kind import Kind
from driftd_sidecar._stats import Stats


@dataclass(slots=True, kw_only=True)
class Book:
    """Rows of one kind. `admitted` are drained and not given up since."""

    admitted: int = 0
    sampled_out: int = 0
    overflowed: int = 0
    gave_up: int = 0
    errors: int = 0
    sent: int = 0
    rejected: int = 0
    spooled: int = 0
    recovered: int = 0

    @property
    def dropped(self) -> int:
        return self.sampled_out + self.overflowed + self.gave_up + self.errors


@dataclass(slots=True, kw_only=True)
class Books:
    """Both books of a process, and what it counts beside them. The lock of the buffer guards them."""

    predictions: Book = field(default_factory=Book)
    labels: Book = field(default_factory=Book)
    failed_inferences: int = 0
    unseen_calls: int = 0
    batches: int = 0
    retries: int = 0

    def of(self, kind: Kind) -> Book:
        return self.labels if kind is Kind.LABELS else self.predictions

    def stats(self, pending_bytes: int) -> Stats:
        rows, labels = self.predictions, self.labels
        return Stats(
            seen=rows.admitted + rows.dropped,
            kept=rows.admitted,
            dropped=rows.dropped,
            sent=rows.sent,
            pending=rows.admitted - rows.sent,
            spooled=rows.spooled,
            recovered=rows.recovered,
            rejected=rows.rejected,
            sampled_out=rows.sampled_out,
            overflowed=rows.overflowed,
            gave_up=rows.gave_up,
            errors=rows.errors,
            failed_inferences=self.failed_inferences,
            unseen_calls=self.unseen_calls,
            labels_seen=labels.admitted + labels.dropped,
            labels_dropped=labels.dropped,
            labels_sent=labels.sent,
            labels_pending=labels.admitted - labels.sent,
            labels_spooled=labels.spooled,
            labels_recovered=labels.recovered,
            labels_rejected=labels.rejected,
            batches=self.batches,
            retries=self.retries,
            pending_bytes=pending_bytes,
        )
