"""How right a model's predictions turned out to be: its mature hours as they are shown, and judged against a floor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from detectors.performance import MIN_LABELLED, accuracy_p_value, error_p_value, wilson_interval
from detectors.profile import CategoricalColumn, Column
from detectors.types import ColumnType
from monitor.config import ModelSettings
from monitor.config_schema import PerformanceLimits
from monitor.counting import HOUR
from monitor.ingest.labels import prediction_columns
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds, to_ns
from monitor.liveness import Fact
from monitor.watermark import NANOSECONDS
from storage import alerts, performances
from storage.engine import Connection
from storage.performances import PerformanceRow, summed

DAY: Final = 24 * HOUR
LOOKS_PER_YEAR: Final = 8766
"""The last 24 hours are judged once an hour."""
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


def last_day(conn: Connection, version: VersionHandle, segment: str = "") -> tuple[Performance, ...]:
    """Each labelled column over the newest 24 mature hours of a version."""
    newest = performances.newest_start(conn, version.version_id)
    if newest is None:
        return ()
    rows = performances.list_rows(
        conn, [version.version_id], start=newest + HOUR - DAY, end=newest + HOUR, segment=segment
    )
    return tuple(
        _performance(version, newest + HOUR - DAY, newest + HOUR, found)
        for found in _by_column(rows).values()
    )


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
    newest = {v.version: performances.newest_start(conn, v.version_id) for v in model.versions.values()}
    ends = {version: min(start + HOUR, upto) for version, start in newest.items() if start is not None}
    answering = [
        version
        for version, end in ends.items()
        if upto - end <= SILENT_AFTER and model.versions[version].stage == "production"
    ]
    floors = sum(map(_floors, settings.performance.values())) * len(answering)
    level = settings.false_pages_per_year / (LOOKS_PER_YEAR * max(1, floors))
    for version, end in ends.items():
        handle = model.versions[version]
        predictions = {} if handle.baseline is None else prediction_columns(handle.baseline)
        rows = performances.list_rows(conn, [handle.version_id], start=end - DAY, end=end, segment="")
        for column, found in _by_column(rows).items():
            judged = _Judged(
                limits=settings.performance.get(column, PerformanceLimits()),
                day=summed(found),
                end=from_seconds(end),
                level=level,
                measured=column in predictions and is_measured(predictions[column]),
            )
            condition = judged.condition if version in answering else Condition.FALSE
            yield _fact(model, version, column, condition, judged.summary)
    yield from _ended(conn, model)


def _ended(conn: Connection, model: ModelHandle) -> Iterator[Fact]:
    """Open alerts of columns that are predictions no more, by the baseline that their version has now."""
    for row in alerts.active(conn, model.name):
        version = model.versions.get(row.version)
        if row.kind != AlertKind.PERFORMANCE or version is None or version.baseline is None:
            continue
        if row.column not in prediction_columns(version.baseline):
            words = f"{row.column} is no prediction column any more"
            yield _fact(model, row.version, row.column, Condition.FALSE, words)


def _fact(model: ModelHandle, version: str, column: str, condition: Condition, summary: str) -> Fact:
    return Fact(
        labels=alert_labels(AlertKind.PERFORMANCE, model.name, version, "", column),
        condition=condition,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail={"summary": summary},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One column's last mature day, which ended at `end`, against its limits at this level of the test.

    `measured`: it is a number, which can be near its label.
    """

    limits: PerformanceLimits
    day: PerformanceRow
    end: datetime
    level: float
    measured: bool

    @property
    def condition(self) -> Condition:
        """TRUE where one limit is surely missed, FALSE where all are met."""
        found = [condition for condition, _ in self._verdicts()]
        return next((c for c in (Condition.TRUE, Condition.UNKNOWN) if c in found), Condition.FALSE)

    @property
    def summary(self) -> str:
        """What was seen, beside what is wanted."""
        seen = f"{self.day.labelled:,} labelled of {self.day.rows:,} predictions of the 24 h up to {self.end:%Y-%m-%d %H:%M} UTC"
        return "; ".join([*(words for _, words in self._verdicts()), seen])

    def _verdicts(self) -> Iterator[tuple[Condition, str]]:
        limits, day, n = self.limits, self.day, self.day.labelled
        if n < MIN_LABELLED and _floors(limits):
            yield Condition.UNKNOWN, "too few labels to judge"
            return
        if limits.accuracy is not None:
            accuracy = day.correct / n
            p_value = accuracy_p_value(day.correct, n, limits.accuracy)
            yield (
                self._condition(p_value, met=accuracy >= limits.accuracy),
                f"accuracy {accuracy:.4g} where {limits.accuracy:g} is the least",
            )
        if limits.mean_absolute_error is not None and not self.measured:
            yield Condition.UNKNOWN, "a class has no error to measure"
        elif limits.mean_absolute_error is not None:
            error, ceiling = day.absolute_error / n, limits.mean_absolute_error
            p_value = error_p_value(day.absolute_error, day.squared_error, n, ceiling)
            yield (
                self._condition(p_value, met=error <= ceiling),
                f"mean absolute error {error:.4g} where {ceiling:g} is the most",
            )

    def _condition(self, p_value: float, *, met: bool) -> Condition:
        if p_value <= self.level:
            return Condition.TRUE
        return Condition.FALSE if met else Condition.UNKNOWN


def _floors(limits: PerformanceLimits) -> int:
    return (limits.accuracy is not None) + (limits.mean_absolute_error is not None)


def _by_column(rows: Sequence[PerformanceRow]) -> Mapping[str, list[PerformanceRow]]:
    found: dict[str, list[PerformanceRow]] = {}
    for row in rows:
        found.setdefault(row.column, []).append(row)
    return found


def _performance(version: VersionHandle, start: int, end: int, rows: Sequence[PerformanceRow]) -> Performance:
    sums = summed(rows)
    n = sums.labelled
    known = {} if version.baseline is None else prediction_columns(version.baseline)
    column = known.get(sums.column)
    number = column is not None and is_measured(column)
    share = column is None or not is_measured(column, whole=False)
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


def is_measured(column: Column, *, whole: bool = True) -> bool:
    """Whether a column is a number, for which being near counts; whole numbers, which may be classes, only if asked for."""
    if isinstance(column, CategoricalColumn) or column.type is not ColumnType.NUMERIC:
        return False
    return whole or column.dtype.startswith("float")
