"""Alerts: one row per opening, an append-only history of its transitions, and what operators said of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from storage.errors import Immutable, NotFound
from storage.rows import many, new_id, one
from storage.tables import acks, alerts, transitions

_AT_ONCE = 1000
"""Ids in one statement: a database takes only so many parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlert:
    """An opening of an alert. `key` is its identity, `state` pending or firing; `detail` is JSON for readers.

    Times are event time: `since` of the state, `false_since` of the hold before it resolves. `fired_at` alone is wall
    time: when the firing was recorded.
    """

    key: str
    labels: Mapping[str, str]
    kind: str
    group_key: str
    model: str
    version: str
    segment: str
    column: str
    severity: str
    state: str
    since: datetime
    active_since: datetime
    firing_since: datetime | None
    fired_at: datetime | None
    false_since: datetime | None
    last_true: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """A stored alert; `resolved_at` and `resolution` (how it ended) are None while it is open."""

    id: int
    key: str
    labels: Mapping[str, str]
    kind: str
    group_key: str
    model: str
    version: str
    segment: str
    column: str
    severity: str
    state: str
    since: datetime
    active_since: datetime
    firing_since: datetime | None
    fired_at: datetime | None
    false_since: datetime | None
    last_true: datetime
    resolved_at: datetime | None
    resolution: str | None
    detail: Mapping[str, Any]
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTransition:
    """A change of an alert's state at the event time `at`, with what readers are told of it.

    `ground` is what it was decided from, encoded, on the baseline `baseline_id`; None where no statistic decided it.
    """

    alert_id: int
    from_state: str
    to_state: str
    at: datetime
    recorded_at: datetime
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    ground: bytes | None = None
    baseline_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRow:
    """A stored NewTransition."""

    id: int
    alert_id: int
    from_state: str
    to_state: str
    at: datetime
    recorded_at: datetime
    reason: str
    evidence: Mapping[str, Any]
    ground: bytes | None
    baseline_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AckRow:
    """Somebody said that they are on it."""

    id: int
    alert_id: int
    at: datetime
    author: str
    comment: str


def open_alert(conn: Connection, alert: NewAlert) -> int:
    """Store a new opening and return its id; ConstraintViolated if that key has an open alert already."""
    return new_id(conn, insert(alerts), asdict(alert))


def update_alert(
    conn: Connection,
    alert_id: int,
    *,
    state: str,
    since: datetime,
    firing_since: datetime | None,
    fired_at: datetime | None,
    false_since: datetime | None,
    last_true: datetime,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write the moving parts of an open alert; a resolved one raises Immutable (a new opening is a new row).

    `fired_at` None leaves it as it is.
    """
    values = {
        "state": state,
        "since": since,
        "firing_since": firing_since,
        "false_since": false_since,
        "last_true": last_true,
        "detail": dict(detail),
        "updated_at": now,
    }
    _change(conn, alert_id, values if fired_at is None else values | {"fired_at": fired_at})


def resolve_alert(conn: Connection, alert_id: int, *, at: datetime, resolution: str, now: datetime) -> None:
    """Close an open alert at the event time `at`; a resolved one raises Immutable."""
    _change(
        conn, alert_id, {"state": "resolved", "resolved_at": at, "resolution": resolution, "updated_at": now}
    )


def _change(conn: Connection, alert_id: int, values: dict[str, Any]) -> None:
    statement = update(alerts).where(alerts.c.id == alert_id, alerts.c.state != "resolved").values(**values)
    if conn.execute(statement).rowcount == 1:
        return
    state = get(conn, alert_id).state
    raise Immutable(f"alert {alert_id} is {state} already and cannot change")


def get(conn: Connection, alert_id: int) -> AlertRow:
    """One alert; NotFound if there is none with that id."""
    found = one(conn, select(alerts).where(alerts.c.id == alert_id), AlertRow)
    if found is None:
        raise NotFound(f"there is no alert with id {alert_id}")
    return found


def get_many(conn: Connection, alert_ids: Sequence[int]) -> list[AlertRow]:
    """Those of the alerts that exist, by id."""
    found: list[AlertRow] = []
    for start in range(0, len(alert_ids), _AT_ONCE):
        query = select(alerts).where(alerts.c.id.in_(alert_ids[start : start + _AT_ONCE]))
        found += many(conn, query.order_by(alerts.c.id), AlertRow)
    return found


_OPEN = select(alerts).where(alerts.c.state != "resolved").order_by(alerts.c.id)
_OPEN_OF_MODEL = _OPEN.where(alerts.c.model == bindparam("model"))
_OPEN_GROUPS = select(alerts.c.group_key).where(alerts.c.state != "resolved").distinct()


def active(conn: Connection, model: str | None = None) -> list[AlertRow]:
    """The open alerts (pending or firing) of one model, or of all, oldest first."""
    if model is None:
        return many(conn, _OPEN, AlertRow)
    return many(conn, _OPEN_OF_MODEL, AlertRow, {"model": model})


def open_groups(conn: Connection) -> set[str]:
    """The incidents that have an open alert."""
    return set(conn.execute(_OPEN_GROUPS).scalars())


def list_alerts(
    conn: Connection,
    *,
    model: str | None = None,
    version: str | None = None,
    segment: str | None = None,
    column: str | None = None,
    kind: str | None = None,
    severity: str | None = None,
    state: str | None = None,
    group_key: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AlertRow]:
    """Alerts that match every filter given, newest first; `before_id` continues after a page.

    `since` and `until` choose those that were open at some time in between: not resolved before `since`, and active
    before `until`.
    """
    query = select(alerts).order_by(alerts.c.id.desc()).limit(limit)
    wanted = {
        "model": model,
        "version": version,
        "segment": segment,
        "column": column,
        "kind": kind,
        "severity": severity,
        "state": state,
        "group_key": group_key,
    }
    for name, value in wanted.items():
        if value is not None:
            query = query.where(alerts.c[name] == value)
    if since is not None:
        query = query.where(alerts.c.resolved_at.is_(None) | (alerts.c.resolved_at >= since))
    if until is not None:
        query = query.where(alerts.c.active_since < until)
    if before_id is not None:
        query = query.where(alerts.c.id < before_id)
    return many(conn, query, AlertRow)


def add_transition(conn: Connection, transition: NewTransition) -> int:
    """Append to the history and return the transition's id."""
    return new_id(conn, insert(transitions), asdict(transition))


def history(conn: Connection, alert_id: int) -> list[TransitionRow]:
    """The transitions of one alert, in the order they were recorded."""
    query = select(transitions).where(transitions.c.alert_id == alert_id).order_by(transitions.c.id)
    return many(conn, query, TransitionRow)


def add_ack(conn: Connection, alert_id: int, *, at: datetime, author: str, comment: str = "") -> int:
    """Record an acknowledgement and return its id; NotFound if there is no such alert."""
    get(conn, alert_id)
    values = {"alert_id": alert_id, "at": at, "author": author, "comment": comment}
    return new_id(conn, insert(acks), values)


def list_acks(conn: Connection, alert_id: int) -> list[AckRow]:
    """The acknowledgements of one alert, oldest first."""
    query = select(acks).where(acks.c.alert_id == alert_id).order_by(acks.c.id)
    return many(conn, query, AckRow)


def acknowledged(conn: Connection, alert_ids: list[int]) -> set[int]:
    """Those of the alerts that have an acknowledgement."""
    found: set[int] = set()
    for start in range(0, len(alert_ids), _AT_ONCE):
        wanted = acks.c.alert_id.in_(alert_ids[start : start + _AT_ONCE])
        found |= set(conn.execute(select(acks.c.alert_id).where(wanted).distinct()).scalars())
    return found
