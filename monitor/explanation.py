"""Why an alert fired: its verdict decided again from what was stored, and laid out for an engineer.

Distances and p-values that decide nothing are computed here, when a person looks, and nowhere else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from detectors import categorical, ks, psi
from detectors.codec import decode_baseline
from detectors.decision import (
    SECONDS_PER_YEAR,
    Calibration,
    EventKind,
    Verdict,
    evidence_mean,
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
from monitor.explain import Side, moved, side
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectLine:
    """One statistic in one window against its threshold. `source`: preset, learned, configured, or chance (2.2/sqrt(n))."""

    detector: str
    window_seconds: int
    statistic: float
    threshold: float
    source: str
    rows: int
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLine:
    """One block of the leading bet: the event's share, the band it may lie in, and the evidence after it.

    `evidence` comes from the evaluation stored at its end, None where that is not kept.
    """

    start: datetime
    rows: int
    share: float
    low: float
    high: float
    evidence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceLine:
    """One detector on the window that paged; the bracket and the p-value where it has them."""

    detector: str
    measures: str
    statistic: float
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceKey:
    """The evidence: `value` (1 pages), what each block may spend, and what the bands rest on.

    `leading` is the event of the strongest bet, in words, with its `direction`; `since` the estimated onset.
    """

    value: float
    leading: str | None
    direction: str | None
    since: datetime | None
    block_seconds: int
    learning: str
    source: str
    learned_from: datetime | None
    learned_to: datetime | None
    blocks: tuple[BlockLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The model's budget of false pages: `spent` is the most that its blocks of that year can have cost."""

    false_pages_per_year: float
    share: float
    per_block: float
    year: int
    watched_days: float
    spent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An alert explained; `recomputed` holds every transition that a statistic decided, in order.

    `window_seconds` is the window of the effect that turned the key; `n_effective` its n·m/(n+m) for `rows` and
    `baseline_rows`. `then` and `now` describe the column in training and in that window.
    """

    alert: int
    model: str
    version: str
    segment: str
    column: str
    kind: str
    state: str
    fired_at: datetime
    moved: str
    reason: str
    baseline: str
    then: Side
    now: Side
    window_seconds: int
    rows: int
    baseline_rows: int
    n_effective: float
    effects: tuple[EffectLine, ...]
    evidence: EvidenceKey
    distances: tuple[DistanceLine, ...]
    budget: Budget
    recomputed: tuple[Check, ...]

    @property
    def identical(self) -> bool:
        """Whether every verdict came out bit for bit as it was."""
        return all(check.identical for check in self.recomputed)


def explain(conn: Connection, alert_id: int) -> Explanation:
    """Decide the alert's transitions again. NotFound, NotDecided; DetectorError where a stored ground is damaged."""
    alert = alerts.get(conn, alert_id)
    grounded = [row for row in alerts.history(conn, alert_id) if row.ground is not None]
    if not grounded:
        raise NotDecided(
            f"alert {alert_id} ({alert.kind.replace('_', ' ')}) states a fact: no statistic decided it"
        )
    bases, read = Bases(), dict[int, Baseline]()
    again: list[Again] = []
    for row in grounded:
        assert row.baseline_id is not None
        if row.baseline_id not in read:
            read[row.baseline_id] = decode_baseline(baselines.get_blob(conn, row.baseline_id))
        index = bases.of(row.baseline_id, read[row.baseline_id]).of(alert.segment)
        again.append(decide_again(conn, index, alert.segment, row))
    opening = [one for one in again if one.row.reason in _OPENING] or again
    return _explanation(conn, alert, opening[-1], bases, read, tuple(one.check for one in again))


def _explanation(
    conn: Connection,
    alert: AlertRow,
    again: Again,
    bases: Bases,
    read: dict[int, Baseline],
    checks: Sequence[Check],
) -> Explanation:
    baseline_id = again.row.baseline_id
    assert baseline_id is not None
    index = bases.of(baseline_id, read[baseline_id]).of(alert.segment)
    ground, verdict, baseline = again.ground, again.redone.verdict, index.baseline
    window = _window(ground.windows, verdict)
    profile = window_profile(baseline, ground, window)
    position = again.redone.position
    then, now = side(baseline, position, baseline.profile), side(baseline, position, profile)
    pooled = now.present + then.present
    return Explanation(
        alert=alert.id,
        model=alert.model,
        version=alert.version,
        segment=alert.segment,
        column=alert.column,
        kind=alert.kind,
        state=alert.state,
        fired_at=again.row.at,
        moved=moved(baseline, position, then, now),
        reason=verdict.reason,
        baseline=f"{baseline.profile.rows:,} training rows from {baseline.source}",
        then=then,
        now=now,
        window_seconds=ground.windows[window],
        rows=now.present,
        baseline_rows=then.present,
        n_effective=now.present * then.present / pooled if pooled else 0.0,
        effects=tuple(_effects(again)),
        evidence=_evidence(conn, index_of=bases, baseline=read[baseline_id], alert=alert, again=again),
        distances=tuple(_distances(baseline, profile, ground.column)),
        budget=_budget(conn, alert, again),
        recomputed=tuple(checks),
    )


def _window(windows: Sequence[int], verdict: Verdict) -> int:
    """That of the effect that turned the key, else the longest."""
    return len(windows) - 1 if verdict.effect is None else windows.index(verdict.effect.window_seconds)


def _effects(again: Again) -> list[EffectLine]:
    found, position, lines = again.redone.found, again.redone.position, []
    for kind, name in enumerate(EFFECT_KINDS):
        for window, seconds in enumerate(again.ground.windows):
            if not found.valid[kind, window, position]:
                continue
            threshold = float(found.threshold[kind, window, position])
            if not math.isfinite(threshold):
                continue  # a window that does not page, while the column is being learned
            chance = name is EffectKind.KS and threshold > again.ground.thresholds[kind, window]
            lines.append(
                EffectLine(
                    detector=name.value,
                    window_seconds=seconds,
                    statistic=float(found.statistic[kind, window, position]),
                    threshold=threshold,
                    source="chance" if chance else threshold_source(again.ground.rules, name.value),
                    rows=int(found.rows[kind, window, position]),
                    holds=bool(found.holds[kind, window, position]),
                )
            )
    return lines


def _evidence(
    conn: Connection, *, index_of: Bases, baseline: Baseline, alert: AlertRow, again: Again
) -> EvidenceKey:
    ground, redone = again.ground, again.redone
    baseline_id = again.row.baseline_id
    assert baseline_id is not None
    index = index_of.of(baseline_id, baseline).of(alert.segment)
    events, directions = leading_bets(redone.evidence)
    event = int(events[redone.position])
    learned = ground.rules.span != (0, 0)
    lines: list[BlockLine] = []
    if event >= 0:
        own = event - int(index.starts[redone.position])
        stored = _stored_evidence(conn, alert.segment, again)
        stored[ground.boundary] = float(evidence_mean(redone.evidence)[redone.position])
        length = ground.rules.block_seconds
        last = ground.boundary // length * length
        for start in range(last - BLOCKS_SHOWN * length, last, length):
            block = column_block(conn, index, ground, baseline_id, alert.segment, start)
            if block is None or not block.totals[own]:
                continue
            total = int(block.totals[own])
            lines.append(
                BlockLine(
                    start=from_seconds(start),
                    rows=total // CONFIDENCE_UNIT if index.kinds[event] is EventKind.MEAN else total,
                    share=int(block.hits[own]) / total,
                    low=float(ground.low[own]),
                    high=float(ground.high[own]),
                    evidence=stored.get(start + length),
                )
            )
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
        blocks=tuple(lines),
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
