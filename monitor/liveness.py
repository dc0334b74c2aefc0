"""Facts rather than statistics: traffic that stopped, versions without a baseline, looks that fail.

They go by arrival times and the wall clock, and never by what happened while the daemon was down.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_ns
from monitor.watermark import Cursor
from storage.batches import BatchTotals

BUSY = timedelta(hours=1)
"""How long batches must have come regularly before their absence is noticed."""
RECENT = timedelta(hours=1)
"""How long what was refused or lost counts as going on."""
EVENTS_LOST = 10
ROWS_LOST = 100
LOST_SHARE = 0.05
"""Less than this of what there was is nobody's alert."""
EVALUATION_FAILURES = 3
"""Looks that fail in a row before somebody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One condition on the wall clock."""

    labels: dict[str, str]
    condition: Condition
    rule: LifecycleRule
    detail: Mapping[str, Any]


def no_traffic(
    model: ModelHandle, settings: ModelSettings, cursor: Cursor, *, silent: timedelta
) -> Fact | None:
    """Whether a busy model has fallen silent; None where that is off or it never had traffic.

    Busy is what sent batches for an hour without such a gap: a job that sends once a day is not missed every
    quarter of an hour. `silent` is counted by the monotonic clock, so from the start of the daemon at the earliest: its
    own downtime is nobody's outage, and neither is a wall clock that is set.
    """
    hold: timedelta | None = settings.no_traffic_after
    if hold is None or cursor.last_arrival_ns is None:
        return None
    last = from_ns(cursor.last_arrival_ns)
    busy_since = cursor.busy_since_ns or cursor.last_arrival_ns
    missed = silent >= hold and last - from_ns(busy_since) >= BUSY
    return Fact(
        labels=alert_labels(AlertKind.NO_TRAFFIC, model.name),
        condition=Condition.TRUE if missed else Condition.FALSE,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail={"summary": f"last predictions came at {last:%Y-%m-%d %H:%M} UTC"},
    )


def pending_baselines(model: ModelHandle, waiting: dict[int, tuple[int, int]]) -> Iterator[Fact]:
    """Per version that answers without a baseline: its rows are kept, and one alert says so."""
    for version in model.versions.values():
        batches, rows = waiting.get(version.version_id, (0, 0))
        pending = version.baseline is None and batches > 0
        if not pending and version.baseline is None:
            continue
        yield Fact(
            labels=alert_labels(AlertKind.PENDING_BASELINE, model.name, version.version),
            condition=Condition.TRUE if pending else Condition.FALSE,
            rule=LifecycleRule(severity=Severity.WARNING),
            detail={
                "summary": f"{rows:,} rows wait for: driftd baseline build --model {model.name} --version {version.version} FILE"
            },
        )


def limit_reached(
    model: ModelHandle, *, version_refused_at: datetime | None, segments: Condition, now: datetime
) -> Fact:
    """Whether something is left out for good: versions that were refused in the last hour, values of a segment tag."""
    versions = version_refused_at is not None and now - version_refused_at < RECENT
    said = [
        words
        for words, there in (
            ("new model versions are refused: is the version a counter?", versions),
            (
                "a segment tag has more values than are watched; is it an identifier?",
                segments is Condition.TRUE,
            ),
        )
        if there
    ]
    return Fact(
        labels=alert_labels(AlertKind.LIMIT_REACHED, model.name),
        condition=Condition.TRUE if versions else segments,
        rule=LifecycleRule(severity=Severity.WARNING),
        detail={"summary": "; ".join(said) or "no limit is reached"},
    )


def monitoring_loss(
    model: ModelHandle, lost: tuple[int, int] = (0, 0), arrived: BatchTotals | None = None
) -> Fact:
    """Whether predictions of the last hour never came to be monitored, as against those that `arrived`.

    `lost` are KServe's requests and responses without their other half: a request that the model answers with an
    error has no response, so a small share is nobody's loss. What a sidecar leaves out it says in its next batch.
    """
    halves, batches = sum(lost), 0 if arrived is None else arrived.batches
    rows = 0 if arrived is None else arrived.accepted + arrived.rejected + arrived.dropped
    dropped = 0 if arrived is None else arrived.dropped
    unpaired = halves >= EVENTS_LOST and halves > LOST_SHARE * (halves + batches)
    left_out = dropped >= ROWS_LOST and dropped > LOST_SHARE * rows
    said = []
    if unpaired:
        said.append(
            f"{lost[0]:,} requests and {lost[1]:,} responses of the last hour never met their other half: "
            "is the logger's mode 'all'?"
        )
    if left_out:
        said.append(
            f"the sidecar left out {dropped:,} of {rows:,} rows of the last hour: its buffer is full because "
            "driftd takes them too slowly, or was away"
        )
    return Fact(
        labels=alert_labels(AlertKind.MONITORING_LOSS, model.name),
        condition=Condition.TRUE if said else Condition.FALSE,
        rule=LifecycleRule(severity=Severity.WARNING),
        detail={"summary": "; ".join(said) or "nothing of note is lost"},
    )


def evaluation_failing(model: ModelHandle, failures: int, error: str) -> Fact:
    """Whether the looks at a model keep failing."""
    return Fact(
        labels=alert_labels(AlertKind.EVALUATION_FAILING, model.name),
        condition=Condition.TRUE if failures >= EVALUATION_FAILURES else Condition.FALSE,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail={
            "summary": f"{failures} looks in a row failed: {error}" if failures else "looks succeed again"
        },
    )
