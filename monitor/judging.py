"""How each column is judged by now: what it has learned, its bands, thresholds and budget, and how soon it would page.

Plain values for the API, the commands and the pages. Read from storage, so the answer is the same with a daemon and
without one.
"""

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np

import storage.cursors
from detectors.decision import (
    Calibration,
    CalibrationSource,
    ColumnLearning,
    EventIndex,
    EventKind,
    Evidence,
    Thresholds,
    evidence_mean,
    leading_bets,
    threshold_origin,
)
from detectors.types import FloatArray
from monitor.app import Service
from monitor.budget import serving, shares
from monitor.calibrating import in_force
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.track import rule_of, thresholds_of
from storage.cursors import EvidenceRow
from storage.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowThreshold:
    """The least effect that matters in one window; None where the window never pages."""

    seconds: int
    ks: float | None
    psi: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadingBet:
    """The event with the strongest bet: its share in training, and the band in which it is nothing new.

    `index` is its number in the column's `EventIndex`; of a `mean` the three are values, not shares.
    """

    index: int
    event: str
    kind: str
    direction: str
    trained: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """How one column is judged. `learning` is a `ColumnLearning`.

    `learned_from` … `learned_until` is what it was learned from (`source`: training or traffic), None where nothing was;
    `learning_since` is set while it is learned. `delay_seconds` is from a shift of D = 0.3 to the page, `detectable` the
    smallest D that pages within 6 h: both None where nothing is known, and, of a column that is learned or too variable,
    where there is none. `budget` is in false pages a year, `budget_share` that of the model's (0 to 1).
    """

    name: str
    learning: str
    source: str
    learning_since: datetime | None
    learned_from: datetime | None
    learned_until: datetime | None
    block_seconds: int
    tau_seconds: float | None
    delay_seconds: float | None
    detectable: float | None
    ks_from: str
    psi_from: str
    thresholds: tuple[WindowThreshold, ...]
    budget: float
    budget_share: float
    evidence: float
    leading: LeadingBet | None


def judged(
    service: Service, conn: Connection, model: ModelHandle, version: VersionHandle, segment: str = ""
) -> tuple[ColumnRule, ...]:
    """The rule of every column of a version's segment, in the baseline's order; nothing without a baseline."""
    if version.baseline is None or version.baseline_id is None:
        return ()
    settings = service.config.settings(model.name)
    index = service.pipeline.bases.of(version.baseline_id, version.baseline).of(segment)
    calibration = calibration_of(service, conn, model, version, segment)
    stored = storage.cursors.get_evidence(conn, version.baseline_id, segment)
    upto = service.pipeline.cursor(model.model_id).evaluated_upto
    answering = serving(conn, model, settings, upto)
    known = shares(answering, service.pipeline.segments, settings)
    _, share = known.get((version.baseline_id, segment), (version, 0.0))
    return describe(index, calibration, settings, stored=stored, share=share)


def calibration_of(
    service: Service, conn: Connection, model: ModelHandle, version: VersionHandle, segment: str = ""
) -> Calibration:
    """The calibration that a version's segment is judged by now, or would be with its next row."""
    assert version.baseline is not None
    assert version.baseline_id is not None
    bases = service.pipeline.bases
    return in_force(
        conn,
        bases,
        model,
        version.baseline_id,
        segment,
        bases.of(version.baseline_id, version.baseline).of(segment),
        service.config.settings(model.name),
        service.pipeline.cursor(model.model_id).evaluated_upto,
    ).calibration


def mismatched(
    service: Service, conn: Connection, model: ModelHandle, version: VersionHandle, segment: str = ""
) -> frozenset[str]:
    """The columns of which production never was what the version was trained on: no drift, but the wrong baseline."""
    if version.baseline is None:
        return frozenset()
    states = calibration_of(service, conn, model, version, segment).states
    return frozenset(
        column.name
        for column, state in zip(version.baseline.columns, states, strict=True)
        if state is ColumnLearning.MISMATCH
    )


def describe(
    index: EventIndex,
    calibration: Calibration,
    settings: ModelSettings,
    *,
    stored: EvidenceRow | None,
    share: float,
) -> tuple[ColumnRule, ...]:
    """One rule per column; `share` is this version's and segment's part of the model's budget."""
    rule = rule_of(index.baseline, settings, share=share)
    evidence = Evidence.zeros(index) if stored is None else Evidence.decode(stored.state)
    since = None if stored is None else stored.peaks_since
    mean, (events, directions) = evidence_mean(evidence), leading_bets(evidence)
    thresholds = thresholds_of(index.baseline, settings, calibration)
    found = []
    for position, column in enumerate(index.baseline.columns):
        state = calibration.states[position]
        taught = calibration.source is not CalibrationSource.NONE and state is not ColumnLearning.LEARNING
        span = calibration.span if taught and calibration.span != (0, 0) else None
        learning = state is ColumnLearning.LEARNING and since is not None
        own = settings.effect.get(column.name)
        otherwise = threshold_origin(state, settings.preset)
        share_here = float(rule.shares[position])
        found.append(
            ColumnRule(
                name=column.name,
                learning=state.value,
                source=calibration.source.value,
                learning_since=from_seconds(since) if learning and since is not None else None,
                learned_from=None if span is None else from_seconds(span[0]),
                learned_until=None if span is None else from_seconds(span[1]),
                block_seconds=int(calibration.block_seconds[position]),
                tau_seconds=_finite(calibration.tau_seconds, position),
                delay_seconds=_finite(calibration.delay_seconds, position),
                detectable=_finite(calibration.detectable, position),
                ks_from="configuration" if own and (own.ks or own.shift) is not None else otherwise,
                psi_from="configuration" if own and own.psi is not None else otherwise,
                thresholds=_thresholds(calibration, thresholds, position),
                budget=share_here * rule.false_pages_per_year,
                budget_share=share_here,
                evidence=float(mean[position]),
                leading=_leading(index, calibration, int(events[position]), int(directions[position])),
            )
        )
    return tuple(found)


def _thresholds(calibration: Calibration, thresholds: Thresholds, column: int) -> tuple[WindowThreshold, ...]:
    return tuple(
        WindowThreshold(
            seconds=int(seconds),
            ks=_finite(thresholds.theta[window], column),
            psi=_finite(thresholds.psi[window], column),
        )
        for window, seconds in enumerate(calibration.windows)
    )


def _leading(index: EventIndex, calibration: Calibration, event: int, direction: int) -> LeadingBet | None:
    if event < 0:
        return None
    return LeadingBet(
        index=event,
        event=index.describe(event),
        kind="mean" if index.kinds[event] is EventKind.MEAN else "share",
        direction=("up", "down")[direction],
        trained=float(index.trained.hits[event] / np.maximum(index.trained.totals[event], 1)),
        low=float(calibration.bands.low[event]),
        high=float(calibration.bands.high[event]),
    )


def _finite(values: FloatArray, column: int) -> float | None:
    value = float(values[column])
    return value if math.isfinite(value) else None
