"""`/v1/models/{model}/versions/{version}/baseline/from-traffic`."""

import msgspec
from starlette.responses import Response

from detectors.types import ColumnType
from monitor.api.endpoint import Call, answer
from monitor.config_schema import pane_fits
from monitor.ingest.times import SECOND, EventTimeError, parse_time
from monitor.operations import Invalid, Span, TrafficOptions, baseline_from_traffic


class TrafficBody(msgspec.Struct, forbid_unknown_fields=True):
    """A span of event time, `to` not included, and which columns of it; both times RFC 3339."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    include: list[str] = []
    ignore: list[str] = []
    types: dict[str, ColumnType] = {}
    pane_seconds: int | None = None
    dry_run: bool = False


def build_from_traffic(call: Call) -> Response:
    """Make the retained rows of a span the version's baseline."""
    body = call.json(TrafficBody)
    pane = body.pane_seconds
    if pane is not None and not pane_fits(pane):
        raise Invalid(
            "pane_seconds: whole seconds that divide an hour, or whole hours that divide a day",
            "/pane_seconds",
        )
    done = baseline_from_traffic(
        call.service,
        model=call.path("model"),
        version=call.path("version"),
        span=Span(start=_seconds("from", body.start), end=_seconds("to", body.end)),
        options=TrafficOptions(
            include=tuple(body.include),
            ignore=tuple(body.ignore),
            types=body.types,
            pane_seconds=pane,
            dry_run=body.dry_run,
        ),
        actor=call.who.name,
    )
    return answer(done)


def _seconds(field: str, text: str) -> int:
    try:
        return parse_time(text) // SECOND
    except EventTimeError as error:
        raise Invalid(f"{field}: {error}", f"/{field}") from None
