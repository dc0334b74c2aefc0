"""The paging rule: evidence and effect, per column, at every block and boundary.

index = EventIndex.of(baseline)                       # once per baseline
events = index.count(profile)                         # per block; merge with +, store .encode()
evidence = advance(evidence, events, bands(index), spend(0.1, weights, 60), block_start=start)
found = effects(index, Windows(...), resolve_thresholds(seconds, names))
verdicts = decide(index, found, evidence, false_pages_per_year=0.1)

A `Calibration` holds what the rule takes from Phase I (bands, thresholds, a block length per column): `unlearned` to
begin with, then `learn`, or `inherit` from the version before; `closing` says whose blocks close when.
"""

from detectors.decision.bands import Bands, bands, clopper_pearson, psi_roots, psi_two_cells
from detectors.decision.calibration import (
    Calibration,
    CalibrationSource,
    ColumnLearning,
    ended_learning,
    overridden,
    taking,
    unlearned,
)
from detectors.decision.classic import classic_effects, decide_by
from detectors.decision.closing import ClosedBlocks, OpenBlocks, closing, first_needed
from detectors.decision.effect import (
    PRESET_A,
    PRESET_C,
    EffectKind,
    Effects,
    EffectThresholds,
    Thresholds,
    Windows,
    effect_holds,
    effects,
    resolve_thresholds,
)
from detectors.decision.envelope import BlockStack, learned_bands
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
from detectors.decision.ground import (
    Ground,
    Measure,
    Redone,
    Rules,
    as_json,
    redo,
    threshold_source,
    window_profile,
)
from detectors.decision.inheritance import baseline_distance, inherit
from detectors.decision.learning import BLOCK_LENGTHS, History, learn
from detectors.decision.magnitude import magnitude
from detectors.decision.peaks import Peaks, peaks_of
from detectors.decision.preset import preset_thresholds, threshold_origin
from detectors.decision.verdict import Effect, Leader, Verdict, decide
from detectors.paging import ClassicKind, ClassicRule, Preset

__all__ = [
    "BLOCK_LENGTHS",
    "EVIDENCE_CAP",
    "PRESET_A",
    "PRESET_C",
    "SECONDS_PER_YEAR",
    "STAKES",
    "Bands",
    "BlockEvents",
    "BlockStack",
    "Calibration",
    "CalibrationSource",
    "ClassicKind",
    "ClassicRule",
    "ClosedBlocks",
    "ColumnLearning",
    "Effect",
    "EffectKind",
    "EffectThresholds",
    "Effects",
    "EventIndex",
    "EventKind",
    "Evidence",
    "Ground",
    "History",
    "Leader",
    "Measure",
    "OpenBlocks",
    "Peaks",
    "Preset",
    "Redone",
    "Rules",
    "Thresholds",
    "Verdict",
    "Windows",
    "advance",
    "as_json",
    "bands",
    "baseline_distance",
    "block_events",
    "classic_effects",
    "clopper_pearson",
    "closing",
    "decide",
    "decide_by",
    "effect_holds",
    "effects",
    "ended_learning",
    "evidence_mean",
    "first_needed",
    "inherit",
    "leading_bets",
    "learn",
    "learned_bands",
    "magnitude",
    "overridden",
    "peaks_of",
    "preset_thresholds",
    "psi_roots",
    "psi_two_cells",
    "redo",
    "reset",
    "resolve_thresholds",
    "spend",
    "taking",
    "threshold_origin",
    "threshold_source",
    "unlearned",
    "window_profile",
]
