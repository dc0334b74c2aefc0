"""What the page of one column shows: baseline against a window, its scores, and how it is judged."""

from typing import Any
from urllib.parse import urlencode

import numpy as np

from alerts.times import span
from detectors.codec import decode_profile
from detectors.decision import EventIndex
from detectors.profile import Baseline, Profile
from detectors.types import ColumnType
from monitor.app import Service
from monitor.explain import Side, moved, number, percent, side
from monitor.ingest.schema import ModelHandle
from monitor.judging import ColumnRule, LeadingBet, judged
from monitor.picture import Picture, picture
from monitor.scores import Scores
from monitor.web import words
from monitor.web.figures import bars, chart
from monitor.web.filters import COLUMN_PARAMETER
from monitor.web.incidents import alert_lines
from monitor.web.timelines import evidence_timeline
from monitor.web.words import figure, telling
from storage import panes
from storage.engine import Connection


def column_page(
    service: Service,
    model: ModelHandle,
    version: str | None,
    name: str,
    window: int | None,
    segment: str = "",
) -> dict[str, Any] | None:
    """One column: baseline against a window; None where there is no such column or nothing evaluated."""
    with service.database.read() as conn:
        seen = picture(service, conn, model, version, segment)
        chosen, scores, index = seen.version, seen.scores, seen.index
        if chosen is None or scores is None or index is None or name not in index.baseline.layout.positions:
            return None
        column = index.baseline.layout.position(name)
        at = scores.windows.index(window) if window in scores.windows else telling(scores, column)
        now = _window(conn, seen, scores.windows[at])
        own = [row for row in seen.firing() if row.column == name]
        lines = alert_lines(service, conn, own)
        drawn = evidence_timeline(service, conn, seen, column)
        rule = judged(service, conn, model, chosen, segment)[column]
    return {
        "model": {"name": model.name},
        "segment": segment,
        "version": chosen.version,
        "alerts": lines,
        "windows": [
            {"query": _query(chosen.version, name, s, segment), "label": span(s), "selected": i == at}
            for i, s in enumerate(scores.windows)
        ],
        "scores": _score_rows(scores, column),
        "timeline": drawn,
        "classic": words.classic_rule(service.config.settings(model.name)),
        "rule": _rule(index, rule, now, span(scores.windows[at])),
        "limits": words.threshold_rows(rule.thresholds),
        "limits_from": words.thresholds_from(rule),
        **_comparison(
            index.baseline, column, now, seen.state_of(column, rule.learning), span(scores.windows[at])
        ),
    }


def _comparison(baseline: Baseline, column: int, now: Profile, state: str, label: str) -> dict[str, Any]:
    """Baseline against the chosen window, in a sentence, a picture and numbers."""
    described = baseline.columns[column]
    old, new = side(baseline, column, baseline.profile), side(baseline, column, now)
    sentence = moved(baseline, column, old, new) if new.rows else "No rows in this window."
    pictured = bars(baseline, column, baseline.profile.counts, now.counts)
    length = "Texts are compared by their length, in characters."
    return {
        "column": {
            "name": described.name,
            "state": state,
            "moved": sentence,
            "note": length if described.type is ColumnType.TEXT else "",
        },
        "window_label": label,
        "baseline_rows": f"{old.rows:,}",
        "window_rows": f"{new.rows:,}",
        "chart": chart(
            described,
            pictured,
            title=f"{described.name}: baseline against the last {label}",
            description=sentence,
        ),
        "beyond": any(bar.beyond and bar.window > 0 for bar in pictured),
        "numbers": _numbers(old, new, described.type),
    }


def _rule(index: EventIndex, rule: ColumnRule, now: Profile, label: str) -> dict[str, Any]:
    """How the column is judged: a sentence on what is learned, and facts."""
    facts = [
        ("Evidence", f"{words.evidence_figure(rule.evidence)} (a page needs 1)"),
        ("Strongest bet", "none yet" if rule.leading is None else _bet(index, rule.leading, now, label)),
        ("Smallest shift paged within 6 h", words.detectable(rule)),
        ("Expected delay", words.delay(rule)),
        ("One bet per", span(rule.block_seconds)),
        (
            "Correlation time",
            "not known" if rule.tau_seconds is None else f"about {words.about(rule.tau_seconds)}",
        ),
        ("Budget", words.budget(rule)),
    ]
    return {"sentence": words.learning_sentence(rule), "facts": facts, "state": rule.learning}


def _bet(index: EventIndex, found: LeadingBet, now: Profile, label: str) -> str:
    hits, total = index.count_one(found.index, now.counts, now.rows)
    seen = f"; {words.amount(found, hits / total)} in the last {label}" if total else ""
    return words.bet(found) + seen


def _query(version: str, column: str, window: int, segment: str) -> str:
    """The page's own address with another window: a name that is no segment of a path stays in the query."""
    named = {COLUMN_PARAMETER: column} if column in ("", ".", "..") else {}
    part = {"segment": segment} if segment else {}
    return urlencode({**named, "version": version, **part, "window": window})


def _window(conn: Connection, seen: Picture, seconds: int) -> Profile:
    assert seen.index is not None
    assert seen.version is not None
    assert seen.version.baseline_id is not None
    assert seen.boundary is not None
    baseline = seen.index.baseline
    rows = panes.window(
        conn,
        seen.version.baseline_id,
        seen.segment,
        baseline.pane_seconds,
        seen.boundary - seconds,
        seen.boundary,
    )
    counted = (decode_profile(baseline.layout, row.profile) for row in rows)
    return Profile.merge([Profile.zeros(baseline.layout), *counted])


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
        ends = figure(low), figure(high)
        shown = ends[0] if ends[0] == ends[1] else "\u00a0… ".join(ends)
        rows.append(
            {
                "window": span(seconds),
                "ks": shown,
                "psi": figure(scores.of("psi")[index, column]),
                "mean_shift": figure(scores.of("mean_shift")[index, column], digits=2),
                "rows": f"{int(np.nan_to_num(scores.of('present')[index, column])):,}",
            }
        )
    return rows
