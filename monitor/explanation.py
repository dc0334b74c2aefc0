"""Why an alert fired: its verdict decided again from what was stored, and laid out for an engineer.

Distances and p-values that decide nothing are computed here, when a person looks, and nowhere else.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from detectors import categorical, ks, psi
from detectors.codec import decode_baseline
from detectors.decision import (
    SECONDS_PER_YEAR,
    Calibration,
    EventIndex,
    EventKind,
    Verdict,
    leading_bets,
    threshold_source,
    window_profile,
)
from detectors.decision.effect import EFFECT_KINDS, EffectKind
from detectors.decision.events import CONFIDENCE_UNIT
from detectors.profile import Baseline, Profile
from detectors.registry import DETECTORS
from detectors.types import ScoreStatus
from monitor.bases import Bases
from monitor.explain import moved, side
from monitor.explained import BlockLine, Budget, DistanceLine, EffectLine, EvidenceKey, Explanation, identity
from monitor.instants import from_seconds, to_ns
from monitor.redoing import Again, Check, column_block, decide_again
from monitor.scores import decode_states
from storage import alerts, baselines, blocks, evaluations, models
from storage.alerts import AlertRow
from storage.engine import Connection

BLOCKS_SHOWN: Final = 12
P_VALUES: Final = {ks.NAME: ks.p_value, psi.NAME: psi.p_value, categorical.NAME: categorical.p_value}
_OPENING: Final = ("fired", "opened")


class NotDecided(Exception):
    """The alert states a fact, such as no traffic: no statistic was compared with anything."""


def explain(conn: Connection, alert_id: int) -> Explanation:
    """Decide the alert's transitions again. NotFound, NotDecided; DetectorError where a stored ground is damaged."""
    alert = alerts.get(conn, alert_id)
    grounded = [row for row in alerts.history(conn, alert_id) if row.ground is not None]
    if not grounded:
        raise NotDecided(
            f"alert {alert_id} ({alert.kind.replace('_', ' ')}) states a fact: no statistic decided it"
        )
    indexes: dict[int, EventIndex] = {}
    again: list[Again] = []
    for row in grounded:
        assert row.baseline_id is not None
        if row.baseline_id not in indexes:
            baseline = decode_baseline(baselines.get_blob(conn, row.baseline_id))
            indexes[row.baseline_id] = Bases().of(row.baseline_id, baseline).of(alert.segment)
        again.append(decide_again(conn, indexes[row.baseline_id], alert.segment, row))
    opening = [one for one in again if one.row.reason in _OPENING] or again
    return _explanation(conn, alert, opening[-1], [one.check for one in again])


def _explanation(conn: Connection, alert: AlertRow, again: Again, checks: Sequence[Check]) -> Explanation:
    ground, verdict, baseline = again.ground, again.redone.verdict, again.index.baseline
    window = _window(ground.windows, verdict)
    profile = window_profile(baseline, ground, window)
    position = again.redone.position
    then, now = side(baseline, position, baseline.profile), side(baseline, position, profile)
    pooled = now.present + then.present
    return Explanation(
        **identity(alert),
        fired_at=again.row.at,
        moved=moved(baseline, position, then, now),
        reason=verdict.reason,
        baseline=f"{baseline.profile.rows:,} training rows from {baseline.source}",
        then=then,
        now=now,
        window_seconds=ground.windows[window],
        rows=now.present,
        baseline_rows=then.present,
        rule="" if verdict.rule is None else str(verdict.rule),
        n_effective=now.present * then.present / pooled if pooled else 0.0,
        effects=tuple(_effects(again)),
        evidence=_evidence(conn, alert.segment, again),
        distances=tuple(_distances(baseline, profile, ground.column)),
        budget=_budget(conn, alert, again),
        recomputed=tuple(checks),
    )


def _window(windows: Sequence[int], verdict: Verdict) -> int:
    """That of the effect that turned the key, else the longest."""
    return len(windows) - 1 if verdict.effect is None else windows.index(verdict.effect.window_seconds)


def _effects(again: Again) -> list[EffectLine]:
    """What was compared with a threshold, in every window; a classic rule's own comparison comes last."""
    rules, found, position = again.ground.rules, again.redone.found, again.redone.position
    names = [kind.value for kind in EFFECT_KINDS]
    if rules.classic is not None:
        names.append(rules.classic.kind.detector)
    lines = []
    for kind, name in enumerate(names):
        for window, seconds in enumerate(again.ground.windows):
            threshold = float(found.threshold[kind, window, position])
            if not found.valid[kind, window, position] or not math.isfinite(threshold):
                continue  # too few rows; or a window that does not page, while the column is being learned
            lines.append(
                EffectLine(
                    detector=name,
                    window_seconds=seconds,
                    statistic=float(found.statistic[kind, window, position]),
                    threshold=threshold,
                    source=_source(again, kind, window, threshold),
                    rows=int(found.rows[kind, window, position]),
                    holds=bool(found.holds[kind, window, position]),
                )
            )
    return lines


def _source(again: Again, kind: int, window: int, threshold: float) -> str:
    """Where a threshold comes from: `rule`, `chance`, or a `threshold_source`."""
    if kind >= len(EFFECT_KINDS):
        return "rule"
    name = EFFECT_KINDS[kind]
    if name is EffectKind.KS and threshold > again.ground.thresholds[kind, window]:
        return "chance"
    return threshold_source(again.ground.rules, name.value)


def _evidence(conn: Connection, segment: str, again: Again) -> EvidenceKey:
    index, ground, redone = again.index, again.ground, again.redone
    events, directions = leading_bets(redone.evidence)
    event = int(events[redone.position])
    learned = ground.rules.span != (0, 0)
    since = redone.verdict.since
    return EvidenceKey(
        value=redone.verdict.evidence,
        leading=index.describe(event) if event >= 0 else None,
        direction=("up", "down")[int(directions[redone.position])] if event >= 0 else None,
        since=None if since is None else from_seconds(since),
        block_seconds=ground.rules.block_seconds,
        learning=ground.rules.learning.value,
        source=ground.rules.source.value,
        learned_from=from_seconds(ground.rules.span[0]) if learned else None,
        learned_to=from_seconds(ground.rules.span[1]) if learned else None,
        blocks=tuple(_blocks(conn, segment, again, event)) if event >= 0 else (),
    )


def _blocks(conn: Connection, segment: str, again: Again, event: int) -> Iterator[BlockLine]:
    """The last blocks of one event, oldest first, as far as they are kept."""
    index, ground = again.index, again.ground
    assert again.row.baseline_id is not None
    own = event - int(index.starts[again.redone.position])
    stored = _stored_evidence(conn, segment, again)
    stored[ground.boundary] = again.redone.verdict.evidence
    length = ground.rules.block_seconds
    last = ground.boundary // length * length
    for start in range(last - BLOCKS_SHOWN * length, last, length):
        block = column_block(conn, index, ground, again.row.baseline_id, segment, start)
        if block is None or not block.totals[own]:
            continue
        total = int(block.totals[own])
        yield BlockLine(
            start=from_seconds(start),
            rows=total // CONFIDENCE_UNIT if index.kinds[event] is EventKind.MEAN else total,
            share=int(block.hits[own]) / total,
            low=float(ground.low[own]),
            high=float(ground.high[own]),
            evidence=stored.get(start + length),
        )


def _stored_evidence(conn: Connection, segment: str, again: Again) -> dict[int, float]:
    """The column's evidence at the boundaries before, as the evaluations have it."""
    assert again.row.baseline_id is not None
    span = (BLOCKS_SHOWN + 1) * again.ground.rules.block_seconds
    rows = evaluations.states_between(
        conn,
        again.row.baseline_id,
        segment,
        start=again.ground.boundary - span,
        end=again.ground.boundary,
    )
    return {boundary: float(decode_states(states)[2][again.redone.position]) for boundary, states in rows}


def _distances(baseline: Baseline, profile: Profile, column: str) -> list[DistanceLine]:
    kind = baseline.columns[baseline.layout.position(column)].type
    lines = []
    for detector in DETECTORS.values():
        if kind not in detector.column_types:
            continue
        score = detector.score(baseline, profile, column)
        if score.status is not ScoreStatus.VALID or score.statistic is None:
            continue
        p_value = P_VALUES.get(detector.name)
        lines.append(
            DistanceLine(
                detector=detector.name,
                measures=detector.measures,
                statistic=score.statistic,
                low=score.low,
                high=score.high,
                p_value=None if p_value is None else p_value(baseline, profile, column),
            )
        )
    return lines


def _budget(conn: Connection, alert: AlertRow, again: Again) -> Budget:
    """Every column spends on its own blocks; together, on the longest of them, no more than B a year of traffic."""
    rules, boundary = again.ground.rules, again.ground.boundary
    year = from_seconds(boundary).year
    begins = to_ns(datetime(year, 1, 1, tzinfo=UTC)) // 1_000_000_000
    model = models.get_model(conn, alert.model)
    ids = [
        row.id
        for version in (models.list_versions(conn, model.id) if model else ())
        for row in baselines.list_baselines(conn, version.id)
    ]
    longest = rules.block_seconds
    for baseline_id in ids:
        for row in baselines.list_calibrations(conn, baseline_id):
            longest = max(longest, int(Calibration.decode(row.blob).block_seconds.max()))
    watched = longest * blocks.count_spans(conn, ids, start=begins, end=boundary, seconds=longest)
    return Budget(
        false_pages_per_year=rules.false_pages_per_year,
        share=rules.share,
        per_block=rules.budget,
        year=year,
        watched_days=watched / 86_400,
        spent=rules.false_pages_per_year * watched / SECONDS_PER_YEAR,
    )
