"""What has a past as charts: evidence over the last windows, and traffic over the last two days."""

from typing import Final

from alerts.times import rfc3339
from monitor.app import Service
from monitor.instants import from_seconds
from monitor.picture import Picture
from monitor.traffic import Traffic
from monitor.web.figures import points
from monitor.web.svg import spark, timeline
from monitor.web.words import evidence_figure, hourly, rates
from storage import evaluations
from storage.engine import Connection

_WINDOWS: Final = 7


def evidence_timeline(service: Service, conn: Connection, seen: Picture, column: int | None = None) -> str:
    """The evidence of one column, or of the strongest, over seven of the longest windows; nothing of a single look."""
    if seen.boundary is None or seen.version is None or seen.version.baseline_id is None:
        return ""
    reach = _WINDOWS * int(service.config.settings(seen.model.name).windows[-1].total_seconds())
    rows = evaluations.states_between(
        conn, seen.version.baseline_id, seen.segment, start=seen.boundary - reach, end=seen.boundary
    )
    shown = points(rows, column)
    if len(shown) < 2:
        return ""
    ends = [shown[0].at, (shown[0].at + shown[-1].at) // 2, shown[-1].at]
    form = "%d %b" if ends[-1] - ends[0] > 2 * 86_400 else "%H:%M"
    since = next((point.at for point in shown if point.drift), None)
    drift = "no drift" if since is None else f"drift first at {rfc3339(from_seconds(since))}"
    return timeline(
        shown,
        labels=[(at, from_seconds(at).strftime(form)) for at in ends],
        title="Evidence of drift over time",
        description=f"from {rfc3339(from_seconds(ends[0]))} to {rfc3339(from_seconds(ends[-1]))}: "
        f"{evidence_figure(shown[-1].value)} at the end, {drift}",
    )


def traffic_chart(found: Traffic) -> str:
    """Rows per minute of the last hours beside what was usual; nothing before there is anything to compare with."""
    hours = found.hours
    if len(hours) < 2 or found.usual is None:
        return ""
    now, usual = rates(found, [found.rate, found.usual])
    scale = 60 if hourly(found) else 1
    return spark(
        [scale * hour.rate for hour in hours],
        [None if hour.usual is None else scale * hour.usual for hour in hours],
        labels=(hours[0].start.strftime("%d %b %H:%M"), hours[-1].start.strftime("%d %b %H:%M")),
        title="Rows, hour by hour",
        description=f"from {rfc3339(hours[0].start)}: now {now}, usual {usual}",
    )
