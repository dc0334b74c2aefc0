"""Facts rather than statistics: traffic that stopped, versions without a baseline, looks that fail.

They go by arrival times and the wall clock, and never by what happened while the daemon was down.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_ns
from monitor.watermark import Cursor

BUSY = timedelta(hours=1)
"""How long batches must have come regularly before their absence is noticed."""
RECENT = timedelta(hours=1)
"""How long what was refused or lost counts as going on."""
EVENTS_LOST = 10
EVENTS_LOST_SHARE = 0.05
EVALUATION_FAILURES = 3
"""Looks that fail in a row before somebody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One condition on the wall clock."""

    labels: dict[str, str]
    condition: Condition
    rule: LifecycleRule
    detail: dict[str, str]


def no_traffic(
    model: ModelHandle, settings: ModelSettings, cursor: Cursor, *, started_at: datetime, now: datetime
) -> Fact | None:
    """Whether a busy model has fallen silent; None where that is off or it never had traffic.

    Busy is what sent batches for an hour without such a gap: a job that sends once a day is not missed every
    quarter of an hour. Silence counts from the start of the daemon at the earliest: its own downtime is nobody's outage.
    """
    hold: timedelta | None = settings.no_traffic_after
    if hold is None or cursor.last_arrival_ns is None:
        return None
    last = from_ns(cursor.last_arrival_ns)
    silent = now - max(last, started_at)
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


def events_lost(model: ModelHandle, requests: int, responses: int, batches: int) -> Fact:
    """Whether events of the last hour never met their other half, beside `batches` that did arrive.

    A request that the model answers with an error has no response, so a small share is nobody's loss.
    """
    lost = requests + responses
    many = lost >= EVENTS_LOST and lost > EVENTS_LOST_SHARE * (lost + batches)
    return Fact(
        labels=alert_labels(AlertKind.MONITORING_LOSS, model.name),
        condition=Condition.TRUE if many else Condition.FALSE,
        rule=LifecycleRule(severity=Severity.WARNING),
        detail={
            "summary": f"{requests:,} requests and {responses:,} responses of the last hour never met their other half: "
            "is the logger's mode 'all'?"
            if lost
            else "every request meets its response"
        },
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
