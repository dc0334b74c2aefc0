"""What the pages of models and their segments show, read from storage: no markup here, no computation of statistics."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from alerts.times import span
from monitor.app import Service
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_ns, from_seconds
from monitor.judging import ColumnRule, judged
from monitor.picture import WORST, Picture, SegmentSummary, picture, segments
from monitor.traffic import Traffic, traffic, unusual, weeks_missing
from monitor.web.incidents import alert_lines
from monitor.web.performance import performance_part
from monitor.web.timelines import evidence_timeline, traffic_chart
from monitor.web.words import (
    classic_rule,
    evidence_figure,
    figure,
    hourly,
    learning_cell,
    rates,
    share,
    telling,
)
from storage.alerts import AlertRow

_ALERTS_SHOWN = 5
"""More would push the columns away; the rest is behind a link."""
_NAMED = 3
_TROUBLE_FIRST = ("inaccurate", "drift", "mismatch", "no_traffic", "error", "watch")

Fact = tuple[str, datetime | None]
"""A text, and an instant to write after it."""


def overview(service: Service) -> list[dict[str, Any]]:
    """Every model with its badge and a line about it."""
    with service.database.read() as conn:
        shown = [_card(service, picture(service, conn, model)) for model in service.catalog.models()]
    order = {state: rank for rank, state in enumerate(_TROUBLE_FIRST)}
    return sorted(shown, key=lambda card: (order.get(card["state"], len(order)), card["name"]))


def model_page(
    service: Service, model: ModelHandle, version: str | None, segment: str = ""
) -> dict[str, Any] | None:
    """One model, or one segment of it: columns ranked by effect, timeline, open alerts; None for a segment without a look.

    The model's own page adds its segments and its traffic, which is counted of the whole alone.
    """
    with service.database.read() as conn:
        seen = picture(service, conn, model, version, segment)
        if segment and seen.scores is None:
            return None
        drawn = evidence_timeline(service, conn, seen)
        opened = [row for row in seen.open_alerts if not segment or row.segment == segment]
        lines = alert_lines(service, conn, _pressing(opened)[:_ALERTS_SHOWN])
        rules = () if seen.version is None else judged(service, conn, model, seen.version, segment)
        parts = () if segment else segments(service, conn, model, seen.version)
        volume = None if segment else traffic(service, conn, model)
        right = performance_part(service, conn, seen)
    card = _card(service, seen)
    if unusual(volume):
        assert volume is not None
        card["facts"].append((f"traffic is {volume.status}", None))
    return {
        "model": card,
        "segment": segment,
        "version": seen.version.version if seen.version else "",
        "versions": list(model.versions),
        "alerts": lines,
        "more_alerts": max(len(opened) - _ALERTS_SHOWN, 0),
        "columns": _columns(seen, {rule.name: rule for rule in rules}),
        "chart": drawn,
        "classic": classic_rule(service.config.settings(model.name)),
        "nothing": _why_nothing(seen),
        "performance": right,
        "segments": [_segment(part, seen.boundary) for part in parts],
        "traffic": None if volume is None else _traffic(volume),
    }


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
    firing = dict.fromkeys(row.column for row in seen.firing())
    names = [name for name in firing if name not in seen.mismatched]
    strangers = [name for name in firing if name in seen.mismatched]
    said = f"{len(names)} of {columns} columns drifted" + (f": {_some(names)}" if names else "")
    return said + (f" · never like the baseline: {_some(strangers)}" if strangers else "")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _pressing(rows: Sequence[AlertRow]) -> list[AlertRow]:
    """Firing ones first, then those with the largest effect."""
    return sorted(
        rows, key=lambda row: (row.state != "firing", -float(row.detail.get("effect", 0.0)), row.id)
    )


def _columns(seen: Picture, rules: Mapping[str, ColumnRule]) -> list[dict[str, Any]]:
    if seen.scores is None or seen.index is None:
        return []
    scores = seen.scores
    firing = {row.column for row in seen.firing()}
    rows = []
    for position, column in enumerate(seen.index.baseline.columns):
        index = telling(scores, position)
        rows.append(
            {
                "name": column.name,
                "role": column.role.value,
                "state": seen.state_of(position, rules[column.name].learning),
                "ks": figure(scores.of("ks")[index, position]),
                "psi": figure(scores.of("psi")[index, position]),
                "missing": share(scores.of("missing")[index, position]),
                "window": span(scores.windows[index]),
                "evidence": evidence_figure(scores.evidence[position]),
                "learning": learning_cell(rules[column.name]),
                "rank": (
                    column.name not in firing,
                    WORST.index(scores.states[position]),
                    -np.nan_to_num(scores.effect[position]),
                ),
            }
        )
    return sorted(rows, key=lambda row: (row["rank"], row["name"]))


def _segment(found: SegmentSummary, boundary: int | None) -> dict[str, Any]:
    """`at` is set where the segment was not evaluated at the last boundary: no window of it held a row."""
    stale = boundary is not None and found.evaluated_at < from_seconds(boundary)
    return {
        "name": found.segment,
        "state": found.state,
        "rows": f"{found.rows:,}",
        "firing": found.firing,
        "at": found.evaluated_at if stale else None,
    }


def _traffic(found: Traffic) -> dict[str, Any]:
    known = found.usual is not None and found.low is not None and found.high is not None
    band = [found.usual or 0.0, found.low or 0.0, found.high or 0.0]
    now, *usual = rates(found, [found.rate, *(band if known else [])])
    return {
        "state": found.status,
        "unusual": unusual(found),
        "rate": now,
        "unit": "an hour" if hourly(found) else "a minute",
        "since": found.since,
        "until": found.until,
        **(dict(zip(("usual", "low", "high"), usual, strict=True)) if known else {"usual": ""}),
        "weeks": found.weeks,
        "weeks_missing": weeks_missing(found),
        "chart": traffic_chart(found),
    }


def _why_nothing(seen: Picture) -> str:
    if seen.version is None or seen.version.baseline is None:
        return "This version has no baseline yet. Its predictions are kept and will be counted when it comes."
    return "Nothing evaluated yet: no window has closed since the baseline was registered."
