"""How right a model's predictions turned out to be: its mature hours as they are shown, and judged against a floor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from detectors.performance import wilson_interval
from monitor.config import ModelSettings
from monitor.config_schema import PerformanceLimits
from monitor.counting import HOUR
from monitor.floors import Judged, level_of
from monitor.ingest.labels import is_measured, is_number, prediction_columns
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds, to_ns
from monitor.liveness import Fact
from monitor.watermark import NANOSECONDS
from storage import alerts, performances
from storage.engine import Connection
from storage.performances import PerformanceRow, summed

DAY: Final = 24 * HOUR
SETTLED_AFTER: Final = timedelta(minutes=10)
"""So long after an hour is mature its predictions have met their labels."""
SILENT_AFTER: Final = 2 * DAY
"""A version that has matured nothing for so long answers no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """One prediction column over mature hours from `start` to `end`. None where nothing is labelled, or it does not apply.

    `coverage` is the share of predictions that have a label. `accuracy` (0 to 1, with Wilson's 95 % interval) is the share
    that equals its label, of categories and whole numbers; of numbers there are the mean error (prediction less label), the mean absolute
    and the root mean squared error, in the column's unit. `confidence` is the mean confidence of those labelled, which a
    calibrated model's accuracy equals.
    """

    column: str
    segment: str
    start: datetime
    end: datetime
    rows: int
    identified: int
    labelled: int
    coverage: float
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    mean_error: float | None
    mean_absolute_error: float | None
    root_mean_squared_error: float | None
    confidence: float | None


def mature_upto(conn: Connection, version: VersionHandle) -> int | None:
    """The end of the newest hour (epoch seconds) in which a version has mature predictions; None if it has none."""
    newest = performances.newest_start(conn, version.version_id)
    return None if newest is None else newest + HOUR


def last_day(conn: Connection, version: VersionHandle, segment: str = "") -> tuple[Performance, ...]:
    """Each labelled column over the newest 24 mature hours of a version, by column."""
    end = mature_upto(conn, version)
    return () if end is None else day_upto(conn, version, end, segment)


def day_upto(
    conn: Connection, version: VersionHandle, end: int, segment: str = ""
) -> tuple[Performance, ...]:
    """Each labelled column over the 24 hours up to `end` (epoch seconds), by column."""
    rows = performances.list_rows(conn, [version.version_id], start=end - DAY, end=end, segment=segment)
    return tuple(_performance(version, end - DAY, end, found) for _, found in sorted(by_column(rows).items()))


def of_production(
    conn: Connection, model: ModelHandle, settings: ModelSettings, now: datetime
) -> Iterator[tuple[VersionHandle, Performance]]:
    """Each labelled column over the last mature day of the versions in production that still answer."""
    for version in model.versions.values():
        end = mature_upto(conn, version)
        if end is not None and not _over(version, end, _mature(settings, now)):
            yield from ((version, found) for found in day_upto(conn, version, end))


def by_hour(
    conn: Connection, version: VersionHandle, *, start: int, end: int, segment: str = ""
) -> tuple[Performance, ...]:
    """Each column in each mature hour with `start` ≤ hour < `end` (epoch seconds), by hour, then column."""
    rows = performances.list_rows(conn, [version.version_id], start=start, end=end, segment=segment)
    return tuple(_performance(version, row.start, row.start + HOUR, [row]) for row in rows)


def judged_upto(settings: ModelSettings, now: datetime) -> int:
    """The end of the newest hour (epoch seconds) that can be judged: all of it is mature, and has met its labels."""
    mature = now - (settings.labels_mature_after or timedelta(0)) - SETTLED_AFTER
    return to_ns(mature) // NANOSECONDS // HOUR * HOUR


def performance_facts(
    conn: Connection, model: ModelHandle, settings: ModelSettings, upto: int
) -> Iterator[Fact]:
    """Per version and labelled column: whether the last day up to `upto` is surely below its floor; without one it is not.

    While less than that is sure an open alert stays open; it ends when the day meets its floor again, or the version
    answers no more. The budget of false pages is shared by all looks of a year, all floors of the model and all versions
    that answer. To be asked once for each `upto`: rows that come late change hours that were judged before.
    """
    ends = [(v, end) for v in model.versions.values() if (end := mature_upto(conn, v)) is not None]
    level = level_of(settings, sum(not _over(version, end, upto) for version, end in ends))
    for version, newest in ends:
        end = min(newest, upto)
        predictions = {} if version.baseline is None else prediction_columns(version.baseline)
        rows = performances.list_rows(conn, [version.version_id], start=end - DAY, end=end, segment="")
        for column, found in by_column(rows).items():
            judged = Judged(
                limits=settings.performance.get(column, PerformanceLimits()),
                day=summed(found),
                end=from_seconds(end),
                level=level,
                number=column in predictions and is_number(predictions[column]),
            )
            condition = Condition.FALSE if _over(version, newest, upto) else judged.condition
            yield _fact(model, version.version, column, condition, judged.detail)
    yield from _ended(conn, model)


def _ended(conn: Connection, model: ModelHandle) -> Iterator[Fact]:
    """Open alerts of columns that are predictions no more, by the baseline that their version has now."""
    for row in alerts.active(conn, model.name):
        version = model.versions.get(row.version)
        if row.kind != AlertKind.PERFORMANCE or version is None or version.baseline is None:
            continue
        if row.column not in prediction_columns(version.baseline):
            words = f"{row.column} is no prediction column any more"
            yield _fact(model, row.version, row.column, Condition.FALSE, {"summary": words})


def _fact(
    model: ModelHandle, version: str, column: str, condition: Condition, detail: Mapping[str, Any]
) -> Fact:
    return Fact(
        labels=alert_labels(AlertKind.PERFORMANCE, model.name, version, "", column),
        condition=condition,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail=dict(detail),
    )


def _mature(settings: ModelSettings, now: datetime) -> int:
    """Up to when (epoch seconds) predictions are mature now."""
    return to_ns(now - (settings.labels_mature_after or timedelta(0))) // NANOSECONDS


def _over(version: VersionHandle, end: int, mature: int) -> bool:
    """Whether a version whose newest mature hours end there answers no more, or not in production."""
    return mature - end > SILENT_AFTER or version.stage != "production"


def by_column(rows: Sequence[PerformanceRow]) -> Mapping[str, list[PerformanceRow]]:
    """The rows of each column, in their order."""
    found: dict[str, list[PerformanceRow]] = {}
    for row in rows:
        found.setdefault(row.column, []).append(row)
    return found


def _performance(version: VersionHandle, start: int, end: int, rows: Sequence[PerformanceRow]) -> Performance:
    sums = summed(rows)
    n = sums.labelled
    known = {} if version.baseline is None else prediction_columns(version.baseline)
    column = known.get(sums.column)
    number = column is not None and is_number(column)
    share = column is None or not is_measured(column)
    low, high = wilson_interval(sums.correct, n) if n and share else (None, None)
    return Performance(
        column=sums.column,
        segment=sums.segment,
        start=from_seconds(start),
        end=from_seconds(end),
        rows=sums.rows,
        identified=sums.identified,
        labelled=n,
        coverage=n / sums.rows,
        accuracy=sums.correct / n if n and share else None,
        accuracy_low=low,
        accuracy_high=high,
        mean_error=sums.error / n if n and number else None,
        mean_absolute_error=sums.absolute_error / n if n and number else None,
        root_mean_squared_error=(sums.squared_error / n) ** 0.5 if n and number else None,
        confidence=sums.confidence / sums.confident if sums.confident else None,
    )
