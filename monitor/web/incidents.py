"""What the pages show of alerts: the list, one alert with its history, and the commands that answer it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from alerts.identity import AlertKind, Severity, about_values
from alerts.message import plain_text
from alerts.silences import Silence, muted
from alerts.times import for_readers, span
from monitor.app import Service
from monitor.incident import Context, compose, title_of
from monitor.silenced import silence_of
from storage import alerts, outbox, receivers, silences
from storage.alerts import AckRow, AlertRow, TransitionRow
from storage.engine import Connection

Fact = tuple[str, str, datetime | None]
"""A name, a text, and an instant to write after it."""
_DETECTORS = {"ks": "KS D", "psi": "PSI", "wasserstein": "Wasserstein-1"}
_SMALLEST_P = 1e-15
_LISTED = 50
_LATE = timedelta(minutes=30)
"""History says when it was recorded where that was this much after the event."""


def alert_list(service: Service, model: str | None = None, before: int | None = None) -> dict[str, Any]:
    """Alerts, open ones first, then newest first, and how delivery stands; `before` is where the page before ended."""
    with service.database.read() as conn:
        found = alerts.list_alerts(conn, model=model or None, before_id=before, limit=_LISTED + 1)
        older = found[_LISTED - 1].id if len(found) > _LISTED else None
        rows = {row.id: row for row in found[:_LISTED]}
        if before is None:
            rows |= {row.id: row for row in alerts.active(conn, model or None)}
        ranked = sorted(rows.values(), key=lambda row: (row.state == "resolved", -row.id))
        lines = alert_lines(service, conn, ranked)
        broken = {state.receiver for state in receivers.list_states(conn) if state.broken_since}
        stats = {stat.receiver: stat for stat in outbox.stats(conn)}
    shown = []
    for name in service.receivers:
        stat = stats.get(name)
        shown.append(
            {
                "name": name,
                "broken": name in broken,
                "sent": 0 if stat is None else stat.sent,
                "waiting": 0 if stat is None else stat.pending + stat.leased,
                "dead": 0 if stat is None else stat.dead,
            }
        )
    return {"alerts": lines, "receivers": shown, "model": model or "", "older": older}


def alert_page(service: Service, alert_id: int) -> dict[str, Any]:
    """One alert: what moved, since when, what to do, its history. Raises NotFound."""
    with service.database.read() as conn:
        row = alerts.get(conn, alert_id)
        (line,) = alert_lines(service, conn, [row])
        history = alerts.history(conn, alert_id)
        acks = alerts.list_acks(conn, alert_id)
        told = _told(conn, row)
        quiet = _muting(service, conn, row)
    ended = row.state == "resolved"
    message = compose(
        [] if ended else [row],
        [row] if ended else [],
        Context(config=service.config),
        severity=Severity(row.severity),
        reason="",
        now=service.clock.now(),
    )
    model = service.catalog.model(row.model)
    return {
        "alert": line,
        "model": row.model if model is not None else "",
        "column": row.column if model is not None and _known(service, row) else "",
        "performance": model is not None
        and row.kind == AlertKind.PERFORMANCE
        and row.version in model.versions,
        "window": (row.detail.get("evidence") or {}).get("window_seconds"),
        "facts": [
            *_standing(row),
            *map(_acknowledged, acks),
            *map(_silenced, quiet),
            *told,
            *_evidence(row),
            *_tested(row),
        ],
        "what_to_do": message.what_to_do,
        "commands": list(message.commands),
        "history": [_step(step) for step in history],
        "text": plain_text(message),
    }


def alert_lines(service: Service, conn: Connection, rows: Sequence[AlertRow]) -> list[dict[str, Any]]:
    """Alerts as lists and headings show them, with marks for those somebody has taken or muted."""
    now = service.clock.now()
    quiet = [silence_of(row) for row in silences.active(conn, now=now)]
    acked = alerts.acknowledged(conn, [row.id for row in rows])
    return [_line(row, acked=row.id in acked, silenced=bool(muted(row.labels, quiet, now))) for row in rows]


def _line(row: AlertRow, *, acked: bool, silenced: bool) -> dict[str, Any]:
    ended = row.state == "resolved" and row.resolved_at is not None
    title = title_of(row)
    marks = {"acknowledged": acked and not ended, "silenced": silenced and not ended}
    return {
        "id": row.id,
        "title": title,
        "headline": row.column or title,
        "summary": str(row.detail.get("summary", "")) if row.column else "",
        "state": row.state,
        "model": row.model,
        "version": row.version,
        "segment": row.segment,
        "marks": [mark for mark, set_ in marks.items() if set_],
        "ended": _words(row.resolution or "ended") if ended else "",
        "at": row.resolved_at if ended else row.firing_since or row.active_since,
    }


def _known(service: Service, row: AlertRow) -> bool:
    """Whether the page of the column still shows what moved: its version may be gone, its baseline another one."""
    model = service.catalog.model(row.model)
    version = None if model is None else model.versions.get(row.version)
    baseline = None if version is None else version.baseline
    return (
        about_values(AlertKind(row.kind)) and baseline is not None and row.column in baseline.layout.positions
    )


def _standing(row: AlertRow) -> list[Fact]:
    return [
        ("Kind", f"{_words(row.kind)}, {row.severity}", None),
        ("Version", row.version or "–", None),
        *([("Segment", row.segment, None)] if row.segment else []),
        *([("Began", "", row.firing_since or row.active_since)] if row.resolved_at else []),
    ]


def _acknowledged(ack: AckRow) -> Fact:
    said = f"{ack.author}: {ack.comment}" if ack.comment else ack.author
    return "Acknowledged", said, ack.at


def _silenced(silence: Silence) -> Fact:
    said = f"{silence.author}: {silence.comment}" if silence.comment else silence.author
    return "Silenced", f"{said}, until {for_readers(silence.ends_at)}", None


def _muting(service: Service, conn: Connection, row: AlertRow) -> list[Silence]:
    now = service.clock.now()
    quiet = [silence_of(found) for found in silences.active(conn, now=now)]
    ids = muted(row.labels, quiet, now) if row.state != "resolved" else ()
    return [silence for silence in quiet if silence.id in ids]


def _told(conn: Connection, row: AlertRow) -> list[Fact]:
    """The last message to each receiver that spoke of this alert."""
    last = {
        found.receiver: found
        for found in reversed(outbox.list_notifications(conn, group_key=row.group_key))
        if row.id in found.alert_ids
    }
    said = ", ".join(f"{found.receiver} ({found.status})" for found in last.values())
    return [("Told", said, None)] if said else []


def _evidence(row: AlertRow) -> list[Fact]:
    found = row.detail.get("evidence") or {}
    if not found:
        return []
    return [
        (
            "Effect",
            f"{_DETECTORS.get(found['detector'], _words(found['detector']))} {found['statistic']:.4g}, threshold {found['threshold']:.4g}",
            None,
        ),
        ("Window", span(found["window_seconds"]), None),
        ("Rows", f"{found['rows']:,} against {found['baseline_rows']:,} of the baseline", None),
        *_deciding(row, found["evidence"]),
        *([("Moving since", "about", datetime.fromisoformat(found["since"]))] if found.get("since") else []),
        ("Baseline", str(row.detail.get("baseline", "–")), None),
    ]


def _deciding(row: AlertRow, evidence: float) -> list[Fact]:
    """What turned the effect into a page."""
    rule = row.detail.get("rule")
    if rule:
        return [("Decided by", f"{rule}, which no budget of false pages covers", None)]
    return [
        ("Evidence", f"{evidence:.3g} (a page needs 1)", None),
        ("Strongest bet", str(row.detail.get("leading") or "–"), None),
    ]


def _tested(row: AlertRow) -> list[Fact]:
    """What was held against the limits of a prediction column, and what that rests on."""
    day = row.detail.get("day")
    if day is None:
        return []
    return [
        *(fact for test in row.detail["tests"] for fact in _test(test)),
        ("Labelled", f"{day['labelled']:,} of {day['rows']:,} predictions", None),
        ("24 h up to", "", datetime.fromisoformat(day["end"])),
    ]


def _test(test: Mapping[str, Any]) -> Iterator[Fact]:
    bound = "least" if test["measure"] == "accuracy" else "most"
    p_value = f"{test['p_value']:.2g}" if test["p_value"] >= _SMALLEST_P else f"< {_SMALLEST_P:.0e}"
    yield _words(test["measure"]).capitalize(), f"{test['value']:.4g}, {test['limit']:g} is the {bound}", None
    yield "By chance", f"p {p_value} at {test['limit']:g}, pages from {test['level']:.2g}", None


def _step(step: TransitionRow) -> dict[str, Any]:
    why = _words(step.reason)
    if step.recorded_at - step.at > _LATE:
        why = f"{why}, recorded {for_readers(step.recorded_at)}"
    return {"at": step.at, "state": step.to_state, "why": why}


def _words(stored: str) -> str:
    return stored.replace("_", " ")
