"""`/v1/models/{model}/performance`: how right the predictions turned out to be."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starlette.responses import Response

from monitor.api.endpoint import Call, answer, number
from monitor.api.models import known
from monitor.api.problem import ProblemError
from monitor.counting import HOUR
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.performance import Performance, by_hour, day_upto, mature_upto
from monitor.picture import answering
from storage.engine import Connection

HOURS: Final = 168
MOST_HOURS: Final = 9_600
"""Hours are kept for 400 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceView:
    """A version's prediction columns over its newest mature day, and hour by hour up to `mature_upto` (None: no hour yet)."""

    model: str
    version: str | None
    segment: str
    mature_upto: datetime | None
    last_day: tuple[Performance, ...]
    hours: tuple[Performance, ...]


def show_performance(call: Call) -> Response:
    """One version, by default the one that answered last; `hours` are counted back from its newest mature one."""
    query = call.query("version", "segment", "hours")
    hours = number(query, "hours", HOURS, MOST_HOURS)
    segment = query.get("segment", "")
    model = known(call, segment)
    with call.service.database.read() as conn:
        version = _version(conn, model, query.get("version"))
        return answer(_view(conn, model, version, segment, hours))


def _view(
    conn: Connection, model: ModelHandle, version: VersionHandle | None, segment: str, hours: int
) -> PerformanceView:
    end = None if version is None else mature_upto(conn, version)
    day: tuple[Performance, ...] = ()
    found: tuple[Performance, ...] = ()
    if version is not None and end is not None:
        day = day_upto(conn, version, end, segment)
        found = by_hour(conn, version, start=end - hours * HOUR, end=end, segment=segment)
    return PerformanceView(
        model=model.name,
        version=None if version is None else version.version,
        segment=segment,
        mature_upto=None if end is None else from_seconds(end),
        last_day=day,
        hours=found,
    )


def _version(conn: Connection, model: ModelHandle, wanted: str | None) -> VersionHandle | None:
    if wanted is None:
        return answering(conn, model)
    found = model.versions.get(wanted)
    if found is None:
        raise ProblemError(404, f"model {model.name[:100]!r} has no version {wanted[:100]!r}")
    return found
