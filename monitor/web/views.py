"""What the pages show, read from storage: no markup here, no computation of statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import numpy as np

from alerts.times import rfc3339, span
from detectors.codec import decode_profile
from detectors.profile import Profile
from detectors.types import ColumnState, ColumnType
from monitor.app import Service
from monitor.explain import Side, moved, number, percent, side
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_ns, from_seconds
from monitor.scores import Scores, decode
from monitor.web.figures import bars, chart, points
from monitor.web.filters import COLUMN_PARAMETER
from monitor.web.incidents import alert_lines
from monitor.web.svg import timeline
from storage import alerts, cursors, evaluations, models, panes
from storage.alerts import AlertRow
from storage.engine import Connection

_WORST = (ColumnState.DRIFT, ColumnState.WATCH, ColumnState.STABLE, ColumnState.INSUFFICIENT_DATA)
_TIMELINE_WINDOWS = 7
_ALERTS_SHOWN = 5
"""More would push the columns away; the rest is behind a link."""
_NAMED = 3
_HOUR = 3600

Fact = tuple[str, datetime | None]
"""A text, and an instant to write after it."""


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
        return next((state for state in _WORST if state in self.scores.states), "insufficient_data")

    def firing(self) -> list[AlertRow]:
        """The column alerts that fire on this version."""
        version = "" if self.version is None else self.version.version
        return [
            row
            for row in self.open_alerts
            if row.column and row.state == "firing" and row.version in ("", version)
        ]


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
        drawn = _timeline(service, conn, seen)
        lines = alert_lines(service, conn, _pressing(seen.open_alerts)[:_ALERTS_SHOWN])
    return {
        "model": _card(service, seen),
        "version": seen.version.version if seen.version else "",
        "versions": list(model.versions),
        "alerts": lines,
        "more_alerts": max(len(seen.open_alerts) - _ALERTS_SHOWN, 0),
        "columns": _columns(seen),
        "chart": drawn,
        "rule": _rule(service, model),
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
        baseline = chosen.baseline
        column = baseline.layout.position(name)
        index = scores.windows.index(window) if window in scores.windows else _telling(scores, column)
        now = _window(conn, chosen, seen.boundary or 0, scores.windows[index])
        own = [row for row in seen.firing() if row.column == name]
        lines = alert_lines(service, conn, own)
        drawn = _timeline(service, conn, seen, column)
    old, new = side(baseline, column, baseline.profile), side(baseline, column, now)
    label = span(scores.windows[index])
    sentence = moved(baseline, column, old, new) if new.rows else "No rows in this window."
    kind = baseline.columns[column].type
    pictured = bars(baseline, column, baseline.profile.counts, now.counts)
    return {
        "model": {"name": model.name},
        "version": chosen.version,
        "column": {
            "name": name,
            "state": ColumnState.DRIFT if own else scores.states[column],
            "moved": sentence,
            "note": "Texts are compared by their length, in characters." if kind is ColumnType.TEXT else "",
        },
        "alerts": lines,
        "windows": [
            {"query": _query(chosen.version, name, s), "label": span(s), "selected": i == index}
            for i, s in enumerate(scores.windows)
        ],
        "window_label": label,
        "baseline_rows": f"{old.rows:,}",
        "window_rows": f"{new.rows:,}",
        "chart": chart(
            baseline.columns[column],
            pictured,
            title=f"{name}: baseline against the last {label}",
            description=sentence,
        ),
        "beyond": any(bar.beyond and bar.window > 0 for bar in pictured),
        "numbers": _numbers(old, new, kind),
        "scores": _score_rows(scores, column),
        "timeline": drawn,
        "rule": _rule(service, model),
    }


def _rule(service: Service, model: ModelHandle) -> str:
    """The classic rule that pages for the model, empty for driftd's two keys."""
    rule = service.config.settings(model.name).rule
    return "" if rule is None else str(rule)


def _card(service: Service, seen: Picture) -> dict[str, Any]:
    cursor = service.pipeline.cursor(seen.model.model_id)
    facts: list[Fact] = []
    if seen.version is not None:
        facts.append((f"version {seen.version.version}", None))
    if seen.scores is not None:
        facts.append((_drifted(seen, len(seen.scores.states)), None))
        facts.append(
            (f"{int(seen.scores.rows[-1]):,} rows in the last {span(seen.scores.windows[-1])}", None)
        )
    if seen.boundary is not None:
        facts.append(("evaluated up to", from_seconds(seen.boundary)))
    if cursor.last_arrival_ns is not None:
        facts.append(("last predictions came", from_ns(cursor.last_arrival_ns)))
    elif seen.version is None or seen.version.baseline is not None:
        # Rows of a version without a baseline wait uncounted: of them the cursor knows nothing.
        facts.append(("no predictions yet", None))
    return {"name": seen.model.name, "state": seen.state, "facts": facts}


def _drifted(seen: Picture, columns: int) -> str:
    names = list(dict.fromkeys(row.column for row in seen.firing()))
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"{len(names)} of {columns} columns drifted" + (f": {shown}" if names else "")


def _pressing(rows: Sequence[AlertRow]) -> list[AlertRow]:
    """Firing ones first, then those with the largest effect."""
    return sorted(
        rows, key=lambda row: (row.state != "firing", -float(row.detail.get("effect", 0.0)), row.id)
    )


def _query(version: str, column: str, window: int) -> str:
    """The page's own address with another window: a name that is no segment of a path stays in the query."""
    named = {COLUMN_PARAMETER: column} if column in ("", ".", "..") else {}
    return urlencode({**named, "version": version, "window": window})


def _columns(seen: Picture) -> list[dict[str, Any]]:
    if seen.scores is None or seen.version is None or seen.version.baseline is None:
        return []
    scores = seen.scores
    firing = {row.column for row in seen.firing()}
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


def _timeline(service: Service, conn: Connection, seen: Picture, column: int | None = None) -> str:
    if seen.boundary is None or seen.version is None or seen.version.baseline_id is None:
        return ""
    reach = _TIMELINE_WINDOWS * int(service.config.settings(seen.model.name).windows[-1].total_seconds())
    rows = evaluations.states_between(
        conn, seen.version.baseline_id, "", start=seen.boundary - reach, end=seen.boundary
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
        f"{_evidence_figure(shown[-1].value)} at the end, {drift}",
    )


def _window(conn: Connection, version: VersionHandle, boundary: int, seconds: int) -> Profile:
    assert version.baseline is not None
    assert version.baseline_id is not None
    layout, pane = version.baseline.layout, version.baseline.pane_seconds
    rows = panes.window(conn, version.baseline_id, "", pane, boundary - seconds, boundary)
    return Profile.merge([Profile.zeros(layout), *(decode_profile(layout, row.profile) for row in rows)])


def _latest(conn: Connection, model: ModelHandle) -> VersionHandle | None:
    """The version that answered last; before the first row, the newest with a baseline."""
    newest = cursors.get(conn, model.model_id).newest_event_ns
    if newest is not None:
        # A year holds nine thousand hours: only those around the newest row are asked for.
        hours = models.list_servings(conn, model.model_id, start=newest // 10**9 - _HOUR, end=2**62)
        by_id = {version.version_id: version for version in model.versions.values()}
        if hours and hours[-1].version_id in by_id:
            return by_id[hours[-1].version_id]
    known = list(model.versions.values())[::-1]
    return next((v for v in known if v.baseline is not None), known[0] if known else None)


def _telling(scores: Scores, column: int | None = None) -> int:
    """The window to show first: the longest with a valid distance, of one column or of any."""
    ks = scores.of("ks")
    for index in reversed(range(len(scores.windows))):
        values = ks[index] if column is None else ks[index, column : column + 1]
        if np.isfinite(values).any():
            return index
    return len(scores.windows) - 1


def _numbers(old: Side, new: Side, kind: ColumnType) -> list[dict[str, str]]:
    rows = [
        {"name": "Rows", "baseline": f"{old.rows:,}", "window": f"{new.rows:,}"},
        {"name": "Missing", "baseline": percent(old.missing), "window": percent(new.missing)},
    ]
    if kind in (ColumnType.CATEGORICAL, ColumnType.BOOLEAN):
        return rows
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
