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
