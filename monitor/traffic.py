"""A model's traffic now against what is usual at this hour of the week.

Read from the rows per hour that folding books (`servings`): some hundred small rows, whatever the length of a pane and
however soon its panes are deleted. Nothing here pages: silence has an alert of its own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from detectors.volume import HOURS_PER_WEEK, MIN_WEEKS, Volume, VolumeStatus, hour_of_week, judge
from monitor.app import Service
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_seconds, to_ns
from monitor.watermark import NANOSECONDS, Cursor
from storage import alerts, models
from storage.engine import Connection

HOUR: Final = 3_600
WEEKS: Final = 8
"""How far back "usual" reaches: the seasons before are another traffic."""
SHOWN_HOURS: Final = 48
LEAST_SECONDS: Final = 900
"""An hour that has only begun says nothing: until then the one before it is judged."""
_OUTAGES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficHour:
    """One whole hour: rows per minute, and the median of the same hour of earlier weeks (None: not known yet)."""

    start: datetime
    rate: float
    usual: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Rows per minute from `since` to `until`, and the band of the same hour of `weeks` earlier weeks.

    `status` is a `VolumeStatus`; `usual`, `low` and `high` are None while fewer than 4 such weeks are known. `hours` are
    the last whole ones, oldest first.
    """

    status: str
    since: datetime
    until: datetime
    rows: int
    rate: float
    usual: float | None
    low: float | None
    high: float | None
    weeks: int
    hours: tuple[TrafficHour, ...]


def traffic(service: Service, conn: Connection, model: ModelHandle) -> Traffic | None:
    """The traffic of a model's versions together; None before its first row."""
    upto = counted_upto(service.pipeline.cursor(model.model_id), to_ns(service.clock.now()))
    if upto is None:
        return None
    start = (upto // HOUR - WEEKS * HOURS_PER_WEEK - SHOWN_HOURS) * HOUR
    rows = models.rows_by_hour(conn, model.model_id, start=start, end=upto + HOUR)
    if not rows:
        return None
    return compare(rows, upto=upto, outages=_outages(conn, model.name, start=start, end=upto))


def counted_upto(cursor: Cursor, now_ns: int) -> int | None:
    """The second up to which rows are counted: their newest, or later where silence has moved the watermark on."""
    known = [at for at in (cursor.watermark_ns, cursor.newest_event_ns) if at is not None]
    return min(max(known), now_ns) // NANOSECONDS if known else None


def compare(rows: Sequence[tuple[int, int]], *, upto: int, outages: Collection[int]) -> Traffic:
    """Judge the hour under way at `upto`, or the one before it, by `rows`: (hour, rows) by hour, hours without rows left out.

    `outages` are hours (epoch seconds) that tell nothing of what is usual. So does the first hour, which began somewhere
    in its middle.
    """
    counted = dict(rows)
    now = upto // HOUR * HOUR
    begun = upto - now
    judged = now if begun >= LEAST_SECONDS else now - HOUR
    seconds = begun if judged == now else HOUR
    found = _judge(counted, outages, judged, counted.get(judged, 0), seconds / 60)
    shown = [hour for hour in range(now - SHOWN_HOURS * HOUR, now, HOUR) if hour >= min(counted)]
    return Traffic(
        status=found.status.value,
        since=from_seconds(judged),
        until=from_seconds(judged + seconds),
        rows=counted.get(judged, 0),
        rate=counted.get(judged, 0) * 60 / seconds,
        usual=found.median,
        low=found.low,
        high=found.high,
        weeks=found.weeks,
        hours=tuple(
            TrafficHour(
                start=from_seconds(hour),
                rate=counted.get(hour, 0) / 60,
                usual=_judge(counted, outages, hour, counted.get(hour, 0), 60).median,
            )
            for hour in shown
        ),
    )


def unusual(found: Traffic | None) -> bool:
    """Whether the traffic is worth a mention: far less or far more than at this hour of earlier weeks."""
    return found is not None and found.status in (VolumeStatus.LOW, VolumeStatus.HIGH)


def weeks_missing(found: Traffic) -> int:
    """How many weeks must pass before it is known what is usual at this hour."""
    return max(MIN_WEEKS - found.weeks, 0)


def _judge(counted: dict[int, int], outages: Collection[int], hour: int, rows: int, minutes: float) -> Volume:
    week = HOURS_PER_WEEK * HOUR
    first = min(counted)
    same = [at for at in range(hour - WEEKS * week, hour, week) if at > first and at not in outages]
    return judge(
        np.array([hour_of_week(at) for at in same], dtype=np.int64),
        np.array([counted.get(at, 0) for at in same], dtype=np.int64),
        hour=hour_of_week(hour),
        rows=rows,
        minutes=minutes,
    )


def _outages(conn: Connection, model: str, *, start: int, end: int) -> frozenset[int]:
    """The hours in which a no-traffic alert was open."""
    rows = alerts.list_alerts(conn, model=model, kind="no_traffic", since=from_seconds(start), limit=_OUTAGES)
    hours: set[int] = set()
    for row in rows:
        began = max(int(row.active_since.timestamp()), start) // HOUR * HOUR
        ended = end if row.resolved_at is None else int(row.resolved_at.timestamp())
        hours.update(range(began, ended, HOUR))
    return frozenset(hours)
