"""`/v1/alerts` and `/v1/receivers`: what fires, who is on it, and whether anybody would hear of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.responses import Response

from alerts.silences import muted
from detectors.types import DetectorError
from monitor.api.endpoint import Call, answer, number
from monitor.api.problem import ProblemError
from monitor.app import Service
from monitor.explanation import NotDecided, explain
from monitor.floors import explain_limits
from monitor.incident import title_of
from monitor.operations import accept, acknowledge, try_receiver
from monitor.silenced import silence_of
from storage import alerts, outbox, silences
from storage.alerts import AckRow, AlertRow, TransitionRow
from storage.engine import Connection
from storage.outbox import Attempt

STATES: Final = ("open", "pending", "firing", "resolved")
_LARGEST_ID: Final = 2**62


class AckBody(msgspec.Struct, forbid_unknown_fields=True):
    """`author` is who is on it; without one, whoever the token names."""

    comment: str = ""
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert as JSON; `silenced_by` are the silences that mute it now."""

    id: int
    title: str
    kind: str
    model: str
    version: str
    segment: str
    column: str
    severity: str
    state: str
    active_since: datetime
    firing_since: datetime | None
    last_true: datetime
    resolved_at: datetime | None
    resolution: str | None
    acknowledged: bool
    silenced_by: tuple[int, ...]
    labels: Mapping[str, str]
    detail: Mapping[str, Any]
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionView:
    """One step of its history, event time first."""

    at: datetime
    recorded_at: datetime
    from_state: str
    to_state: str
    reason: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationView:
    """One message that told of it."""

    id: str
    receiver: str
    kind: str
    status: str
    severity: str
    created_at: datetime
    finished_at: datetime | None
    reason: str | None
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertDetail:
    """An alert with all that happened to it, oldest first."""

    alert: AlertView
    transitions: tuple[TransitionView, ...]
    acks: tuple[AckRow, ...]
    notifications: tuple[NotificationView, ...]


def list_alerts(call: Call) -> Response:
    """Alerts, newest first."""
    query = call.query("state", "model", "limit", "before")
    state = query.get("state")
    if state is not None and state not in STATES:
        raise ProblemError(400, f"state is one of {', '.join(STATES)}, not {state[:40]!r}")
    limit = number(query, "limit", 100, 1000)
    before = number(query, "before", _LARGEST_ID, _LARGEST_ID)
    with call.service.database.read() as conn:
        if state == "open":
            rows = [row for row in reversed(alerts.active(conn, query.get("model"))) if row.id < before]
            rows = rows[:limit]
        else:
            rows = alerts.list_alerts(
                conn, model=query.get("model"), state=state, before_id=before, limit=limit
            )
        return answer({"alerts": _views(call.service, conn, rows)})


def show_alert(call: Call) -> Response:
    """One alert with its transitions, acknowledgements and notifications."""
    with call.service.database.read() as conn:
        return answer(_detail(call.service, conn, alerts.get(conn, call.id("alert"))))


def explain_alert(call: Call) -> Response:
    """Its verdict, decided again from what was stored."""
    call.query()
    alert_id = call.id("alert")
    try:
        with call.service.database.read() as conn:
            row = alerts.get(conn, alert_id)
            if "tests" in row.detail:
                return answer(explain_limits(row, alerts.history(conn, alert_id)))
            found = explain(conn, alert_id)
    except (NotDecided, DetectorError) as error:
        raise ProblemError(409, str(error)) from None
    return answer(found)


def ack_alert(call: Call) -> Response:
    """Somebody is on it."""
    body = call.json(AckBody)
    alert_id = call.id("alert")
    author = call.who.name if body.author is None else body.author
    ack = acknowledge(call.service, alert_id, author=author, comment=body.comment, actor=call.who.name)
    return answer(ack, 201)


def accept_alert(call: Call) -> Response:
    """What moved is normal now."""
    body = call.json(AckBody)
    done = accept(
        call.service,
        call.id("alert"),
        author=body.author or "",
        comment=body.comment,
        actor=call.who.name,
    )
    return answer(done)


def try_one(call: Call) -> Response:
    """Send a test notification and say what came back."""
    done = try_receiver(call.service, call.path("name"), actor=call.who.name)
    fields = {name: getattr(done, name) for name in done.__slots__}
    return answer({**fields, "body": done.body.decode("utf-8", "replace")})


def _views(service: Service, conn: Connection, rows: Sequence[AlertRow]) -> list[AlertView]:
    now = service.clock.now()
    quiet = [silence_of(row) for row in silences.active(conn, now=now)]
    acked = alerts.acknowledged(conn, [row.id for row in rows])
    return [
        AlertView(
            id=row.id,
            title=title_of(row),
            kind=row.kind,
            model=row.model,
            version=row.version,
            segment=row.segment,
            column=row.column,
            severity=row.severity,
            state=row.state,
            active_since=row.active_since,
            firing_since=row.firing_since,
            last_true=row.last_true,
            resolved_at=row.resolved_at,
            resolution=row.resolution,
            acknowledged=row.id in acked,
            silenced_by=tuple(int(found) for found in muted(row.labels, quiet, now)),
            labels=row.labels,
            detail=row.detail,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


def _detail(service: Service, conn: Connection, row: AlertRow) -> AlertDetail:
    told = [n for n in outbox.list_notifications(conn, group_key=row.group_key) if row.id in n.alert_ids]
    return AlertDetail(
        alert=_views(service, conn, [row])[0],
        transitions=tuple(_transition(step) for step in alerts.history(conn, row.id)),
        acks=tuple(alerts.list_acks(conn, row.id)),
        notifications=tuple(
            NotificationView(
                id=n.id,
                receiver=n.receiver,
                kind=n.kind,
                status=n.status,
                severity=n.severity,
                created_at=n.created_at,
                finished_at=n.finished_at,
                reason=n.reason,
                attempts=outbox.list_attempts(conn, n.id),
            )
            for n in reversed(told)
        ),
    )


def _transition(step: TransitionRow) -> TransitionView:
    return TransitionView(
        at=step.at,
        recorded_at=step.recorded_at,
        from_state=step.from_state,
        to_state=step.to_state,
        reason=step.reason,
        evidence=step.evidence,
    )
