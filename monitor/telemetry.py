"""What driftd says about itself on `/metrics`, in a registry of its own with capped cardinality."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from monitor.version import VERSION

LABEL_CAP: Final = 1000
OTHER: Final = "other"


class Telemetry:
    """Every metric of one daemon. A label value beyond the first thousand is counted under `other`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seen: set[str] = set()
        self.build = self._gauge("driftd_build_info", "Version of the daemon.", "version")
        self.build.labels(version=VERSION).set(1)
        self.rows_accepted = self._counter(
            "driftd_ingest_rows_accepted", "Rows committed to the database.", "model"
        )
        self.rows_rejected = self._counter(
            "driftd_ingest_rows_rejected", "Rows refused, with the reason in the reply.", "model"
        )
        self.failed_inferences = self._counter(
            "driftd_sender_failed_inferences",
            "Calls in which the model itself failed, as senders tell.",
            "model",
        )
        self.rows_dropped = self._counter(
            "driftd_sender_rows_dropped", "Rows that senders left out, as they tell.", "model"
        )
        self.labels = self._counter(
            "driftd_labels_accepted", "Rows of labels committed to the database.", "model"
        )
        self.batches = self._counter("driftd_ingest_batches", "Batches by outcome.", "outcome")
        self.queue_bytes = self._gauge("driftd_ingest_queue_bytes", "Bytes accepted but not yet committed.")
        self.event_bytes = self._gauge(
            "driftd_event_halves_waiting_bytes", "Bytes of events that wait for their other half."
        )
        self.events_lost = self._counter(
            "driftd_event_halves_lost",
            "Events acknowledged and then given up: no partner came, or the pair was refused.",
            "half",
        )
        self.fold_backlog = self._gauge(
            "driftd_fold_backlog_batches", "Committed batches not yet folded into panes."
        )
        self.set_aside = self._counter(
            "driftd_batches_set_aside",
            "Committed batches whose stored payload cannot be read, or was counted on an unknown baseline.",
            "model",
        )
        self.watermark = self._gauge(
            "driftd_watermark_timestamp_seconds", "Event time up to which panes are complete.", "model"
        )
        self.arrival = self._gauge(
            "driftd_last_arrival_timestamp_seconds", "When the newest batch came.", "model"
        )
        self.boundaries = self._counter("driftd_evaluated_boundaries", "Pane boundaries evaluated.", "model")
        self.evaluation_failures = self._counter(
            "driftd_evaluation_failures", "Looks that ended in an error.", "model"
        )
        self.columns = self._gauge(
            "driftd_columns", "Columns by state at the last boundary.", "model", "state"
        )
        of_column = ("model", "version", "column")
        self.realised_accuracy = self._gauge(
            "driftd_realised_accuracy",
            "Share of labelled predictions that equal their label, over the last mature day.",
            *of_column,
        )
        self.realised_error = self._gauge(
            "driftd_realised_mean_absolute_error",
            "Mean distance of predictions from their labels, over the last mature day.",
            *of_column,
        )
        self.label_coverage = self._gauge(
            "driftd_label_coverage",
            "Share of predictions with a label, over the last mature day.",
            *of_column,
        )
        self.alerts = self._gauge("driftd_alerts", "Open alerts by kind and state.", "kind", "state")
        self.attempts = self._counter(
            "driftd_delivery_attempts", "Tries to deliver a notification.", "receiver", "outcome"
        )
        self.waiting = self._gauge(
            "driftd_notifications_waiting", "Notifications not yet delivered.", "receiver"
        )
        self.loop = self._gauge(
            "driftd_last_loop_timestamp_seconds", "When the evaluation loop last completed."
        )
        self.evaluation_seconds = Histogram(
            "driftd_evaluation_seconds",
            "Wall time of one look: fold and evaluation of everything due.",
            registry=self.registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
        )

    def label(self, value: str) -> str:
        """The label value to use for a name from outside: itself, or `other` once too many were seen."""
        if value in self._seen:
            return value
        if len(self._seen) >= LABEL_CAP:
            return OTHER
        self._seen.add(value)
        return value

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
