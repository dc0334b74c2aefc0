"""What the pages show, read from storage: no markup here, no computation of statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from alerts.identity import Severity
from alerts.message import plain_text
from alerts.times import span
from detectors.codec import decode_profile
from detectors.profile import Profile
from detectors.types import ColumnState
from monitor.app import Service
from monitor.explain import Side, moved, number, percent, side
from monitor.incident import Context, compose, title_of
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_ns, from_seconds
from monitor.scores import Scores, decode
from monitor.web.figures import bars, points
from monitor.web.svg import histogram, timeline
from storage import alerts, evaluations, models, outbox, panes, receivers
from storage.alerts import AlertRow
from storage.engine import Connection

_WORST = (ColumnState.DRIFT, ColumnState.WATCH, ColumnState.STABLE, ColumnState.INSUFFICIENT_DATA)
_TIMELINE_WINDOWS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One version of a model as of its last evaluation; `scores` is None before the first."""

    model: ModelHandle
    version: VersionHandle | None
    boundary: int | None
    scores: Scores | None
    open_alerts: Sequence[AlertRow]

    @property
    def state(self) -> str:
        """The word on the model's badge: facts first, then the worst column."""
        kinds = {row.kind for row in self.open_alerts}
        if "no_traffic" in kinds:
            return "no_traffic"
        if "evaluation_failing" in kinds:
            return "error"
        if any(row.column and row.state == "firing" for row in self.open_alerts):
            return ColumnState.DRIFT
        if self.scores is None:
            return (
                "pending_baseline"
                if self.version is None or self.version.baseline is None
                else "insufficient_data"
            )
        return next(state for state in _WORST if state in self.scores.states)


def picture(conn: Connection, model: ModelHandle, version: str | None = None) -> Picture:
    """The version asked for, else the one that answered last."""
    chosen = model.versions.get(version) if version else _latest(conn, model)
    row = None
    if chosen is not None and chosen.baseline_id is not None:
        row = evaluations.latest(conn, chosen.baseline_id, "")
    return Picture(
        model=model,
        version=chosen,
        boundary=None if row is None else row.boundary,
        scores=None if row is None else decode(row.states, row.scores),
        open_alerts=alerts.active(conn, model.name),
    )


def overview(service: Service) -> list[dict[str, Any]]:
    """Every model with its badge and a line about it."""
    with service.database.read() as conn:
        shown = [_card(service, picture(conn, model)) for model in service.catalog.models()]
    order = ["drift", "no_traffic", "error", "watch"]
    return sorted(
        shown, key=lambda card: (order.index(card["state"]) if card["state"] in order else 9, card["name"])
    )


def model_page(service: Service, model: ModelHandle, version: str | None) -> dict[str, Any]:
    """One model: its columns ranked by effect, its timeline, its open alerts."""
    with service.database.read() as conn:
        seen = picture(conn, model, version)
        chart = _timeline(service, conn, seen)
    return {
        "model": _card(service, seen),
        "version": seen.version.version if seen.version else "",
        "versions": [{"version": v.version} for v in model.versions.values()],
        "alerts": [_alert_line(row) for row in seen.open_alerts],
        "columns": _columns(seen),
        "chart": chart,
        "nothing": _why_nothing(seen),
    }


def column_page(
    service: Service, model: ModelHandle, version: str | None, name: str, window: int | None
) -> dict[str, Any] | None:
    """One column: baseline against a window; None where there is no such column or nothing evaluated."""
    with service.database.read() as conn:
        seen = picture(conn, model, version)
        chosen, scores = seen.version, seen.scores
        if (
            chosen is None
            or chosen.baseline is None
            or scores is None
            or name not in chosen.baseline.layout.positions
        ):
            return None
        index = scores.windows.index(window) if window in scores.windows else _telling(scores)
        now = _window(conn, chosen, seen.boundary or 0, scores.windows[index])
    baseline = chosen.baseline
    column = baseline.layout.position(name)
    old, new = side(baseline, column, baseline.profile), side(baseline, column, now)
    label = span(scores.windows[index])
    sentence = moved(baseline, column, old, new)
    return {
        "model": {"name": model.name},
        "version": chosen.version,
        "column": {"name": name, "state": scores.states[column], "moved": sentence},
        "windows": [
            {"seconds": s, "label": span(s), "selected": i == index} for i, s in enumerate(scores.windows)
        ],
        "window_label": label,
        "baseline_rows": f"{old.rows:,}",
        "window_rows": f"{new.rows:,}",
        "chart": histogram(
            bars(baseline, column, baseline.profile.counts, now.counts),
            title=f"{name}: baseline against the last {label}",
            description=sentence,
        ),
        "numbers": _numbers(old, new),
        "scores": _score_rows(scores, column),
    }


def alert_list(service: Service) -> dict[str, Any]:
    """Alerts, newest first, and how delivery stands."""
    with service.database.read() as conn:
        rows = alerts.list_alerts(conn, limit=200)
        broken = {state.receiver for state in receivers.list_states(conn) if state.broken_since}
        stats = {stat.receiver: stat for stat in outbox.stats(conn)}
    shown = []
    for name in service.receivers:
        stat = stats.get(name)
        waiting = 0 if stat is None else stat.pending + stat.leased
        shown.append(
            {
                "name": name,
                "broken": name in broken,
                "sent": 0 if stat is None else stat.sent,
                "waiting": waiting,
                "dead": 0 if stat is None else stat.dead,
            }
        )
    return {"alerts": [_alert_line(row) for row in rows], "receivers": shown}


def alert_page(service: Service, alert_id: int) -> dict[str, Any]:
    """One alert as it is told, its evidence and its history. Raises NotFound."""
    with service.database.read() as conn:
        row = alerts.get(conn, alert_id)
        history = alerts.history(conn, alert_id)
    ended = row.state == "resolved"
    message = compose(
        [] if ended else [row],
        [row] if ended else [],
        Context(config=service.config),
        severity=Severity(row.severity),
        reason="",
        now=service.clock.now(),
    )
    return {
        "alert": _alert_line(row),
        "text": plain_text(message),
        "evidence": _evidence(row),
        "transitions": [
            {"at": _minute(t.at), "from_state": t.from_state, "to_state": t.to_state, "reason": t.reason}
            for t in history
        ],
    }


def _card(service: Service, seen: Picture) -> dict[str, Any]:
    cursor = service.pipeline.cursor(seen.model.model_id)
    parts = []
    if seen.version is not None:
        parts.append(f"version {seen.version.version}")
    if seen.scores is not None:
        parts.append(f"{int(seen.scores.rows[-1]):,} rows in the last {span(seen.scores.windows[-1])}")
        drifted = len({row.column for row in seen.open_alerts if row.column and row.state == "firing"})
        parts.append(f"{drifted} of {len(seen.scores.states)} columns drifted")
    if seen.boundary is not None:
        parts.append(f"evaluated up to {_minute(from_seconds(seen.boundary))}")
    if cursor.last_arrival_ns is not None:
        parts.append(f"last predictions came at {_minute(from_ns(cursor.last_arrival_ns))}")
    return {
        "name": seen.model.name,
        "state": seen.state,
        "summary": " · ".join(parts) or "no predictions yet",
    }


def _columns(seen: Picture) -> list[dict[str, Any]]:
    if seen.scores is None or seen.version is None or seen.version.baseline is None:
        return []
    scores = seen.scores
    firing = {row.column for row in seen.open_alerts if row.state == "firing"}
    rows = []
    for position, column in enumerate(seen.version.baseline.columns):
        index = _telling(scores, position)
        state = scores.states[position]
        rows.append(
            {
                "name": column.name,
                "role": column.role.value,
                "state": ColumnState.DRIFT if column.name in firing else state,
                "ks": _figure(scores.of("ks")[index, position]),
                "psi": _figure(scores.of("psi")[index, position]),
                "missing": _share(scores.of("missing")[index, position]),
                "window": span(scores.windows[index]),
                "evidence": _evidence_figure(scores.evidence[position]),
                "rank": (
                    column.name not in firing,
                    _WORST.index(state),
                    -np.nan_to_num(scores.effect[position]),
                ),
            }
        )
    return sorted(rows, key=lambda row: (row["rank"], row["name"]))


def _timeline(service: Service, conn: Connection, seen: Picture) -> str:
    if seen.boundary is None or seen.version is None or seen.version.baseline_id is None:
        return ""
    reach = _TIMELINE_WINDOWS * int(service.config.settings(seen.model.name).windows[-1].total_seconds())
    rows = evaluations.states_between(
        conn, seen.version.baseline_id, "", start=seen.boundary - reach, end=seen.boundary
    )
    shown = points(rows)
    if len(shown) < 2:
        return ""
    ends = [shown[0].at, (shown[0].at + shown[-1].at) // 2, shown[-1].at]
    form = "%d %b" if ends[-1] - ends[0] > 2 * 86_400 else "%H:%M"
    return timeline(
        shown,
        labels=[(at, from_seconds(at).strftime(form)) for at in ends],
        title="Evidence of drift over time",
        description=f"from {_minute(from_seconds(ends[0]))} to {_minute(from_seconds(ends[-1]))}",
    )


def _window(conn: Connection, version: VersionHandle, boundary: int, seconds: int) -> Profile:
    assert version.baseline is not None
    assert version.baseline_id is not None
    layout, pane = version.baseline.layout, version.baseline.pane_seconds
    rows = panes.window(conn, version.baseline_id, "", pane, boundary - seconds, boundary)
    return Profile.merge([Profile.zeros(layout), *(decode_profile(layout, row.profile) for row in rows)])


def _latest(conn: Connection, model: ModelHandle) -> VersionHandle | None:
    hours = models.list_servings(conn, model.model_id, start=-(2**62), end=2**62)
    by_id = {version.version_id: version for version in model.versions.values()}
    if hours:
        return by_id.get(hours[-1].version_id)
    return next((v for v in reversed(list(model.versions.values())) if v.baseline is not None), None)


def _telling(scores: Scores, column: int | None = None) -> int:
    """The window to show first: the longest with a valid distance, of one column or of any."""
    ks = scores.of("ks")
    for index in reversed(range(len(scores.windows))):
        values = ks[index] if column is None else ks[index, column : column + 1]
        if np.isfinite(values).any():
            return index
    return len(scores.windows) - 1


def _numbers(old: Side, new: Side) -> list[dict[str, str]]:
    rows = [{"name": "Rows", "baseline": f"{old.rows:,}", "window": f"{new.rows:,}"}]
    rows.append({"name": "Missing", "baseline": percent(old.missing), "window": percent(new.missing)})
    for index, name in enumerate(("10 % lie below", "Median", "90 % lie below")):
        if old.quantiles or new.quantiles:
            rows.append({"name": name, "baseline": old.quantile(index), "window": new.quantile(index)})
    if old.mean is not None and new.mean is not None and old.quantiles:
        rows.append({"name": "Mean", "baseline": number(old.mean), "window": number(new.mean)})
    return rows


def _score_rows(scores: Scores, column: int) -> list[dict[str, str]]:
    rows = []
    for index, seconds in enumerate(scores.windows):
        low, high = scores.of("ks")[index, column], scores.of("ks_high")[index, column]
        shown = _figure(low) if not high - low > 5e-4 else f"{_figure(low)} … {_figure(high)}"
        rows.append(
            {
                "window": span(seconds),
                "ks": shown,
                "psi": _figure(scores.of("psi")[index, column]),
                "mean_shift": _figure(scores.of("mean_shift")[index, column], digits=2),
                "rows": f"{int(np.nan_to_num(scores.of('present')[index, column])):,}",
            }
        )
    return rows


def _evidence(row: AlertRow) -> list[tuple[str, str]]:
    found = row.detail.get("evidence") or {}
    shown = [
        ("Kind", row.kind.replace("_", " ")),
        ("Severity", row.severity),
        ("Version", row.version or "–"),
    ]
    if found:
        shown += [
            ("Detector", str(found["detector"])),
            ("Window", span(found["window_seconds"])),
            ("Statistic", f"{found['statistic']:.4g} (threshold {found['threshold']:.4g})"),
            ("Rows", f"{found['rows']:,} against {found['baseline_rows']:,} of the baseline"),
            ("Evidence", f"{found['evidence']:.3g} (a page needs 1)"),
            ("Strongest bet", str(row.detail.get("leading") or "–")),
            ("Baseline", str(row.detail.get("baseline", ""))),
        ]
    return shown


def _alert_line(row: AlertRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": title_of(row),
        "state": row.state,
        "model": row.model,
        "column": row.column,
        "since": _minute(row.firing_since or row.active_since),
    }


def _why_nothing(seen: Picture) -> str:
    if seen.version is None or seen.version.baseline is None:
        return "This version has no baseline yet. Its predictions are kept and will be counted when it comes."
    return "Nothing evaluated yet: no window has closed since the baseline was registered."


def _figure(value: float, digits: int = 3) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.1e}"


def _evidence_figure(value: float) -> str:
    """Evidence spans fifty powers of ten; beyond a thousand the size says nothing more."""
    return "> 1000" if value > 1000 else f"{value:.2g}" if value >= 1e-3 else "< 0.001"


def _share(value: float) -> str:
    return percent(float(value)) if np.isfinite(value) else "–"


def _minute(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M")
