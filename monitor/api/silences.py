"""`/v1/silences`: what nobody wants to hear of, for a time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec
from starlette.responses import Response

from monitor.api.endpoint import Call, answer
from monitor.app import Service
from monitor.operations import Invalid, add_silence, expire_silence, list_silences, state_of
from monitor.quantities import parse_duration
from monitor.silenced import silence_of
from storage.silences import SilenceRow

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class SilenceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Matchers as texts (`model="fraud"`), and either `ends_at` or a `duration` ("4h") from `starts_at`, or now."""

    matchers: list[str]
    starts_at: _Instant | None = None
    ends_at: _Instant | None = None
    duration: str | None = None
    author: str | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceView:
    """A silence as JSON; `state` is pending, active or expired."""

    id: int
    state: str
    matchers: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    created_at: datetime
    expired_at: datetime | None


def show_silences(call: Call) -> Response:
    """Silences, newest first; `state` chooses."""
    query = call.query("state")
    wanted = query.get("state")
    if wanted not in (None, "pending", "active", "expired"):
        raise Invalid("state is pending, active or expired")
    views = [_view(call.service, row) for row in list_silences(call.service, limit=1000)]
    return answer({"silences": [view for view in views if wanted in (None, view.state)]})


def create_silence(call: Call) -> Response:
    """A new silence: 201."""
    body = call.json(SilenceBody)
    row = add_silence(
        call.service,
        body.matchers,
        starts_at=body.starts_at,
        ends_at=_end(call, body),
        author=call.who.name if body.author is None else body.author,
        comment=body.comment,
        actor=call.who.name,
    )
    return answer(_view(call.service, row), 201, {"Location": f"/v1/silences/{row.id}"})


def delete_silence(call: Call) -> Response:
    """End a silence now; it stays on record."""
    row = expire_silence(call.service, call.id("silence"), actor=call.who.name)
    return answer(_view(call.service, row))


def _end(call: Call, body: SilenceBody) -> datetime:
    if (body.ends_at is None) == (body.duration is None):
        raise Invalid('give one of ends_at and duration ("4h")', "/ends_at")
    if body.ends_at is not None:
        return body.ends_at
    try:
        span = parse_duration(body.duration)
    except ValueError as error:
        raise Invalid(f"duration: {error}", "/duration") from None
    try:
        return (body.starts_at or call.service.clock.now()) + span
    except OverflowError:
        raise Invalid("duration: it ends after the year 9999", "/duration") from None


def _view(service: Service, row: SilenceRow) -> SilenceView:
    return SilenceView(
        id=row.id,
        state=state_of(row, service.clock.now()),
        matchers=tuple(str(matcher) for matcher in silence_of(row).matchers),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        author=row.author,
        comment=row.comment,
        created_at=row.created_at,
        expired_at=row.expired_at,
    )
