"""From stored alerts to the one message a person gets: what moved, how sure, where to look, what to do."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from alerts.identity import AlertKind, KindClass, Severity, about_values, kind_class
from alerts.message import AlertDetail, Counts, Evidence, IncidentMessage, Link, MessageStatus
from detectors.decision import ColumnLearning
from monitor.config import Config
from storage.alerts import AlertRow

_ADVICE = {
    KindClass.DRIFT: "Is the change in the world, or upstream? If it is here to stay, accept it as the new baseline.",
    KindClass.QUALITY: "Look upstream first: values go missing or impossible where a source or a parser changed.",
    KindClass.PERFORMANCE: "Labels say that predictions are wrong more often: retrain, or go back to the version before.",
    KindClass.TRAFFIC: "See whether the app is up and its sidecar reaches driftd (driftd status).",
    KindClass.OPERATIONS: "See driftd status and the daemon's log.",
    KindClass.WATCH: "Nothing has to be done now: look when you have time.",
    KindClass.TEST: "Nothing.",
}
_TITLES = {
    AlertKind.NO_TRAFFIC: "no predictions arrive",
    AlertKind.PENDING_BASELINE: "predictions arrive for a version without a baseline",
    AlertKind.MONITORING_LOSS: "predictions are lost before they are monitored",
    AlertKind.LABELS_MISSING: "labels come no more, so nobody knows how right predictions are",
    AlertKind.EVALUATION_FAILING: "the evaluation fails",
    AlertKind.LIMIT_REACHED: "a limit is reached, and more is left out",
    AlertKind.RECEIVER_BROKEN: "a receiver is broken",
    AlertKind.STORAGE_FAILING: "nothing can be stored",
    AlertKind.DATA_QUALITY: "data quality changed",
    AlertKind.PERFORMANCE: "predictions turn out to be less right than they must be",
}


_RESERVATIONS = {
    ColumnLearning.LEARNING.value: "how much this moves by nature is still being learned, so the budget of false pages does not cover it yet",
    ColumnLearning.MISMATCH.value: "production never looked like training since it is watched: is it the right baseline?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a message says beside its alerts. `switches` are version switches near the onset, in words."""

    config: Config
    switches: tuple[str, ...] = ()


def compose(
    firing: Sequence[AlertRow],
    resolved: Sequence[AlertRow],
    context: Context,
    *,
    severity: Severity,
    reason: str,
    now: datetime,
) -> IncidentMessage:
    """The message about one group: `firing` are the alerts to write of, `resolved` those that have ended."""
    rows = [*firing, *resolved]
    first = max(firing or resolved, key=lambda row: float(row.detail.get("effect", 0.0)))
    family = kind_class(AlertKind(first.kind))
    status = MessageStatus.FIRING if firing else MessageStatus.RESOLVED
    return IncidentMessage(
        status=status,
        group_key=first.group_key,
        kind_class=family,
        severity=severity,
        title=_title(first, firing or resolved),
        created_at=now,
        started_at=min(row.firing_since or row.active_since for row in rows),
        alerts=tuple(_detail(row, context.config) for row in rows),
        model=first.model,
        version=first.version,
        segment=first.segment,
        reason=reason,
        counts=_counts(rows, firing),
        baseline=str(first.detail.get("baseline", "")),
        changed_nearby=context.switches,
        notes=_notes(firing),
        what_to_do=_ADVICE[family] if firing else "Nothing: this is over.",
        commands=commands_of(first, firing) if firing else (),
        links=_links(first, context.config),
    )


def commands_of(row: AlertRow, rows: Sequence[AlertRow]) -> tuple[str, ...]:
    """What to type about `row`, the strongest of `rows`: acknowledge, silence, accept.

    Quoted for a shell: a column's name comes from outside and is copied by hands that hurry.
    """
    columns = {other.column for other in rows}
    named = [("model", row.model), ("column", row.column if len(columns) == 1 else "")]
    given = [(option, value) for option, value in named if value]
    commands = [f"driftd alerts ack {row.id}"]
    if given and all(value.isprintable() for _, value in given):
        which = " ".join(f"--{option} {shlex.quote(value)}" for option, value in given)
        commands.append(f'driftd silence add {which} --for 4h --comment "why"')
    if row.column and about_values(AlertKind(row.kind)):
        commands.append(f"driftd baseline accept {row.id}")
    return tuple(commands)


def title_of(row: AlertRow) -> str:
    """One alert in a line, for lists."""
    if row.column:
        return f"{row.column}: {row.detail.get('summary', row.kind)}"
    words = _TITLES.get(AlertKind(row.kind), row.kind.replace("_", " "))
    return f"{row.model or row.labels.get('receiver', 'driftd')}: {row.detail.get('summary') or words}"


def _title(first: AlertRow, rows: Sequence[AlertRow]) -> str:
    kind = AlertKind(first.kind)
    if kind in _TITLES:
        return f"{first.model or first.labels.get('receiver', 'driftd')}: {_TITLES[kind]}"
    others = len({row.column for row in rows}) - 1
    more = f" and {others} more" if others else ""
    if all(row.detail.get("learning") == ColumnLearning.MISMATCH for row in rows):
        return f"{first.model}: {first.column}{more} never matched training (baseline mismatch)"
    return f"{first.model}: {first.column}{more} drifted from training"


def _counts(rows: Sequence[AlertRow], firing: Sequence[AlertRow]) -> Counts | None:
    total = max((int(row.detail.get("columns", 0)) for row in rows), default=0)
    if not total:
        return None
    return Counts(affected=len({row.column for row in (firing or rows)}), total=total)


def _detail(row: AlertRow, config: Config) -> AlertDetail:
    evidence = row.detail.get("evidence")
    ended = row.state == "resolved"
    return AlertDetail(
        labels=dict(row.labels),
        status=MessageStatus.RESOLVED if ended else MessageStatus.FIRING,
        severity=Severity(row.severity),
        starts_at=row.firing_since or row.active_since,
        ends_at=row.resolved_at,
        summary=str(row.detail.get("summary") or _TITLES.get(AlertKind(row.kind), row.kind)),
        effect=float(row.detail.get("effect", 0.0)),
        evidence=None if evidence is None else _evidence(evidence, counts=not row.detail.get("rule")),
        page=f"{config.server.public_url}/alerts/{row.id}",
    )


def _evidence(stored: Mapping[str, Any], *, counts: bool) -> Evidence:
    """The evidence to cite; `counts` says whether bets decided, else their sum proves nothing of this alert."""
    since = stored.get("since")
    return Evidence(
        detector=str(stored["detector"]),
        window_seconds=int(stored["window_seconds"]),
        statistic=float(stored["statistic"]),
        threshold=float(stored["threshold"]),
        rows=int(stored["rows"]),
        baseline_rows=int(stored["baseline_rows"]),
        evidence=float(stored["evidence"]) if counts else None,
        since=None if since is None else datetime.fromisoformat(str(since)),
    )


def _notes(rows: Sequence[AlertRow]) -> tuple[str, ...]:
    """Reservations about the promise: other rules, what is still being learned, and what never matched training."""
    told = []
    promised = [row for row in rows if not row.detail.get("rule")]
    for rule in sorted({str(row.detail["rule"]) for row in rows if row.detail.get("rule")}):
        said = f"decided by {rule}, which no budget of false pages covers"
        names = _names([row for row in rows if row.detail.get("rule") == rule])
        told.append(f"{said}: {names}" if promised else said)
    for state, words in _RESERVATIONS.items():
        unsaid = promised if state == ColumnLearning.LEARNING else rows
        of_state = [row for row in unsaid if row.detail.get("learning") == state]
        if of_state:
            told.append(f"{_names(of_state)}: {words}")
    return tuple(told)


def _names(rows: Sequence[AlertRow]) -> str:
    names = sorted({row.column for row in rows})
    return f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"


def model_page(config: Config, model: str) -> str:
    """Where a model is shown."""
    return f"{config.server.public_url}/models/{quote(model, safe='')}"


def _links(row: AlertRow, config: Config) -> tuple[Link, ...]:
    base = config.server.public_url
    links = [Link(title="Page", url=f"{base}/alerts/{row.id}")]
    if row.model:
        links.append(Link(title="Model", url=model_page(config, row.model)))
        runbook = config.settings(row.model).runbook_url
        if runbook:
            links.append(Link(title="Runbook", url=runbook))
    return tuple(links)
