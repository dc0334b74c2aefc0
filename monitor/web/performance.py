"""How right predictions turned out to be, as the model's page shows it: a sentence per prediction column, and its last week."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from alerts.times import rfc3339, span
from monitor.app import Service
from monitor.config_schema import PerformanceLimits
from monitor.counting import HOUR
from monitor.explain import number
from monitor.instants import from_seconds
from monitor.performance import Performance, by_hour, day_upto, mature_upto
from monitor.picture import Picture
from monitor.web.svg import Hour, hours
from storage.engine import Connection

_WEEK: Final = 168
_CHARTS: Final = 3
"""Columns with a chart; each may weigh four kilobytes."""
_BOTTOMS: Final = (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0)
"""Where a scale of accuracies up to 1 may begin."""


def performance_part(service: Service, conn: Connection, seen: Picture) -> dict[str, Any] | None:
    """The section of one version, or one segment of it; None before its first mature hour."""
    version = seen.version
    end = None if version is None else mature_upto(conn, version)
    if version is None or end is None:
        return None
    days = day_upto(conn, version, end, seen.segment)
    if not days:
        return None
    settings = service.config.settings(seen.model.name)
    week: dict[str, list[Performance]] = {}
    for hour in by_hour(conn, version, start=end - _WEEK * HOUR, end=end, segment=seen.segment):
        week.setdefault(hour.column, []).append(hour)
    # A limit is set for all predictions of a version together.
    limits = {} if seen.segment else settings.performance
    columns = [
        _column(day, limits.get(day.column, PerformanceLimits()), week[day.column], drawn=place < _CHARTS)
        for place, day in enumerate(days)
    ]
    failing = frozenset() if seen.segment else seen.inaccurate()
    after: timedelta | None = settings.labels_mature_after
    return {
        "columns": [{**column, "failing": column["name"] in failing} for column in columns],
        "start": days[0].start,
        "end": days[0].end,
        "after": "" if after is None else span(after.total_seconds()),
    }


def _column(
    day: Performance, limits: PerformanceLimits, week: Sequence[Performance], *, drawn: bool
) -> dict[str, Any]:
    measure = _measure(week, limits)
    limit = getattr(limits, measure)
    chart = _chart(week, measure, limit) if drawn else ""
    return {
        "name": day.column,
        "said": sentence(day),
        "wanted": _wanted(limits),
        "chart": chart,
        "measure": _WORDS[measure],
        "limit": None if limit is None else f"{limit:g}",
    }


_WORDS: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "mean_absolute_error": "mean absolute error",
}


def sentence(day: Performance) -> str:
    """The figures of one column, such as "accuracy 0.914 (0.905 to 0.922) over 4,320 labelled of 4,800 predictions"."""
    ids = "" if day.identified == day.rows else f", {day.identified:,} with a request id"
    if not day.labelled:
        return f"none of {day.rows:,} predictions is labelled{ids}"
    parts = []
    if day.accuracy is not None and day.accuracy_low is not None and day.accuracy_high is not None:
        parts.append(f"accuracy {day.accuracy:.3f} ({day.accuracy_low:.3f} to {day.accuracy_high:.3f})")
    if day.mean_absolute_error is not None:
        parts.append(f"mean absolute error {number(day.mean_absolute_error)}")
    said = f"{', '.join(parts)} over {day.labelled:,} labelled of {day.rows:,} predictions{ids}"
    tail = [f"{day.coverage:.0%} labelled"]
    if day.root_mean_squared_error is not None and day.mean_error is not None:
        tail.append(f"root mean squared error {number(day.root_mean_squared_error)}")
        tail.append(f"bias {number(day.mean_error)}")
    if day.confidence is not None:
        tail.append(f"mean confidence {day.confidence:.2f}")
    return f"{said}; {', '.join(tail)}"


def _wanted(limits: PerformanceLimits) -> str:
    """The limits, in words."""
    said = [] if limits.accuracy is None else [f"accuracy below {limits.accuracy:g}"]
    if limits.mean_absolute_error is not None:
        said.append(f"a mean absolute error above {limits.mean_absolute_error:g}")
    return " or ".join(said)


def _measure(week: Sequence[Performance], limits: PerformanceLimits) -> str:
    """What to draw: what has a limit, else the error of a number, else the accuracy."""
    if limits.accuracy is not None:
        return "accuracy"
    measured = any(hour.mean_absolute_error is not None for hour in week)
    return "mean_absolute_error" if measured or limits.mean_absolute_error is not None else "accuracy"


def _chart(week: Sequence[Performance], measure: str, limit: float | None) -> str:
    """The hours of at most a week; nothing of a single one, or where nothing is labelled."""
    first, last = week[0].start, week[-1].end
    values: list[float | None] = [getattr(hour, measure) for hour in week]
    known = [value for value in values if value is not None]
    count = round((last - first) / timedelta(seconds=HOUR))
    if len(week) < 2 or not known:
        return ""
    low, high = _scale(measure, known, limit)
    points = [
        Hour(index=round((hour.start - first) / timedelta(seconds=HOUR)), value=value, share=hour.coverage)
        for hour, value in zip(week, values, strict=True)
    ]
    form = "%d %b" if count > 48 else "%H:%M"
    begin = int(first.timestamp())
    worst = min(known) if measure == "accuracy" else max(known)
    floor = "" if limit is None else f", {limit:g} is the limit"
    return hours(
        points,
        count,
        low=low,
        high=high,
        limit=limit,
        labels=[
            (at, from_seconds(begin + at * HOUR).strftime(form))
            for at in dict.fromkeys((0, count // 2, count))
        ],
        title=f"{_WORDS[measure].capitalize()} of {week[0].column}, hour by hour",
        description=f"from {rfc3339(first)} to {rfc3339(last)}: {len(known)} of {count} hours have labels, "
        f"the last of them {known[-1]:.3g}, the worst {worst:.3g}{floor}",
    )


def _scale(measure: str, known: Sequence[float], limit: float | None) -> tuple[float, float]:
    """The ends of the chart: accuracies up to 1, errors from 0, with the limit between them."""
    shown = [*known, *([] if limit is None else [limit])]
    if measure == "accuracy":
        return next(bottom for bottom in _BOTTOMS if bottom < min(shown) or bottom == 0.0), 1.0
    return 0.0, max(shown) or 1.0
