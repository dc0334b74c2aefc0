"""The paging rule: evidence and effect, per column, at every block and boundary.

index = EventIndex.of(baseline)                       # once per baseline
events = index.count(profile)                         # per block; merge with +, store .encode()
evidence = advance(evidence, events, bands(index), spend(0.1, weights, 60), block_start=start)
found = effects(index, Windows(...), resolve_thresholds(seconds, names))
verdicts = decide(index, found, evidence, false_pages_per_year=0.1)
"""

from detectors.decision.bands import Bands, bands, clopper_pearson, psi_roots, psi_two_cells
from detectors.decision.effect import (
    PRESET_A,
    EffectKind,
    Effects,
    EffectThresholds,
    Thresholds,
    Windows,
    effect_holds,
    effects,
    resolve_thresholds,
)
from detectors.decision.events import BlockEvents, EventIndex, EventKind, block_events
from detectors.decision.evidence import (
    EVIDENCE_CAP,
    SECONDS_PER_YEAR,
    STAKES,
    Evidence,
    advance,
    evidence_mean,
    leading_bets,
    reset,
    spend,
)
from detectors.decision.verdict import Effect, Leader, Verdict, decide

__all__ = [
    "EVIDENCE_CAP",
    "PRESET_A",
    "SECONDS_PER_YEAR",
    "STAKES",
    "Bands",
    "BlockEvents",
    "Effect",
    "EffectKind",
    "EffectThresholds",
    "Effects",
    "EventIndex",
    "EventKind",
    "Evidence",
    "Leader",
    "Thresholds",
    "Verdict",
    "Windows",
    "advance",
    "bands",
    "block_events",
    "clopper_pearson",
    "decide",
    "effect_holds",
    "effects",
    "evidence_mean",
    "leading_bets",
    "psi_roots",
    "psi_two_cells",
    "reset",
    "resolve_thresholds",
    "spend",
]
