"""What a transition is stored with, so that its verdict can be decided again: see `detectors.decision.ground`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detectors.counts import Profile
from detectors.decision import BlockEvents, Ground, Rules, Thresholds, as_json, preset_thresholds
from detectors.decision.effect import EFFECT_KINDS
from detectors.types import FloatArray
from monitor.track import Judgement, Track


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGround:
    """An encoded ground and the baseline it was counted on."""

    baseline_id: int
    blob: bytes


def ground_of(
    track: Track, judged: Judgement, position: int, window_profile: Callable[[int], Profile]
) -> StoredGround:
    """The ground of one column's verdict; `window_profile` gives the windows at its boundary, by index."""
    column, calibration = track.baseline.columns[position], track.calibration
    mine = _events(track, position)
    thresholds = _of_column(track.thresholds, position)
    ground = Ground(
        column=column.name,
        boundary=judged.boundary,
        rules=Rules(
            block_seconds=int(calibration.block_seconds[position]),
            budget=float(judged.bets.budget[position]),
            false_pages_per_year=track.rule.false_pages_per_year,
            share=float(track.rule.shares[position]),
            learning=calibration.states[position],
            source=calibration.source,
            span=calibration.span,
            configured=_configured(preset_thresholds(calibration, track.rule.preset), thresholds, position),
            preset=track.rule.preset,
            classic=track.rule.classic,
            paging=tuple(np.flatnonzero(track.rule.shares > 0.0).tolist()) if track.rule.classic else (),
        ),
        windows=track.rule.windows,
        profiles=tuple(
            _alone(track, window_profile(window), position) for window in range(len(track.rule.windows))
        ),
        thresholds=thresholds,
        low=calibration.bands.low[mine],
        high=calibration.bands.high[mine],
        r=judged.bets.before.r[mine],
        since=int(judged.bets.before.since[position]),
        blocks=tuple(
            (
                int(block.starts[position]),
                BlockEvents(hits=block.events.hits[mine], totals=block.events.totals[mine]),
            )
            for block in judged.bets.blocks
            if block.columns[position]
        ),
        verdict=as_json(judged.verdicts[position], judged.holds[position]),
    )
    return StoredGround(baseline_id=track.identity.baseline_id, blob=ground.encode())


def _events(track: Track, position: int) -> slice:
    starts = [*track.index.starts.tolist(), track.index.column.size]
    return slice(starts[position], starts[position + 1])


def _of_column(thresholds: Thresholds, position: int) -> FloatArray:
    """Float64 [5, W], in the order of EFFECT_KINDS."""
    rates = thresholds.rates
    assert rates is not None
    tables = (thresholds.theta, thresholds.psi, *rates)
    return np.stack([table[:, position] for table in tables])


def _configured(preset: Thresholds, thresholds: FloatArray, position: int) -> tuple[str, ...]:
    """The effect kinds that are not as the preset has them."""
    theirs = _of_column(preset, position)
    return tuple(
        kind.value
        for kind, own, other in zip(EFFECT_KINDS, thresholds, theirs, strict=True)
        if not np.array_equal(own, other)
    )


def _alone(track: Track, whole: Profile, position: int) -> Profile:
    counts = whole.counts[track.baseline.layout.slices[position]]
    return Profile(rows=whole.rows, counts=counts, moments=whole.moments[position : position + 1])
