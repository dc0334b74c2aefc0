"""The peers' rules over the counts of the windows, in the shapes of the two-key rule.

What a classic rule decides is whether the *values* of a column page: its statistic of the longest window, compared once
per boundary. Everything else stays with driftd's two keys, under the budget:
- columns that the rule cannot judge: categories under KS and Wasserstein, one constant value under PSI and Wasserstein, a
  baseline of too few values (30; 100 for PSI);
- the rates of missing, non-finite and out-of-range values, which no classic rule sees.

A column is DRIFT where the rule holds and the column may page (it has budget; else WATCH); INSUFFICIENT_DATA where the
rule has too few values (30; 200 for PSI) and no rate pages; WATCH where driftd's own rule would say WATCH; STABLE else.

How this differs from the peers' own code: D is the certified lower end, and exact where training has at most 1024
distinct values; W1 is the lower end too, and values beyond the training range count as at its end; PSI has half a row
added to each bin, where peers fill an empty one with a share of 1e-4: a window with an empty bin gets a smaller PSI
here, and one of fewer than 200 values none.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from detectors import psi, wasserstein
from detectors.decision.effect import EFFECT_KINDS, VALUE_KINDS, BoolArray, Effects
from detectors.decision.events import EventIndex
from detectors.decision.evidence import Evidence
from detectors.decision.verdict import Effect, Verdict, decide
from detectors.ks import MIN_ROWS
from detectors.paging import ClassicKind, ClassicRule
from detectors.types import NOT_APPLICABLE, ColumnState, FloatArray, IntArray

_RULE = len(EFFECT_KINDS)
"""Where the rule's own statistic stands on the first axis of `Effects`: after driftd's kinds."""


def classic_effects(index: EventIndex, found: Effects, rule: ClassicRule, may_page: BoolArray) -> Effects:
    """`found` with a sixth kind, the rule's, on axes [6, W, C]; valid in the longest window alone.

    In the columns that the rule judges it takes the place of KS and PSI. `may_page` bool [C] are the columns among
    which KS_BONFERRONI shares its alpha.
    """
    compared, threshold, least = _compared(index, found, rule, may_page)
    last = int(found.windows.seconds.argmax())
    judged = ~np.isnan(threshold)
    rows = found.rows[0]
    statistic = np.full(rows.shape, np.nan)
    statistic[last] = compared
    valid = np.zeros(rows.shape, dtype=np.bool_)
    valid[last] = judged & (rows[last] >= least) & ~np.isnan(compared)
    limit = np.where(judged, threshold, np.inf)[np.newaxis].repeat(rows.shape[0], axis=0)
    with np.errstate(invalid="ignore"):
        holds = valid & (statistic >= limit)
    own_threshold, own_holds = found.threshold.copy(), found.holds.copy()
    own_threshold[:VALUE_KINDS, :, judged], own_holds[:VALUE_KINDS, :, judged] = np.inf, False
    return replace(
        found,
        statistic=np.concatenate([found.statistic, statistic[np.newaxis]]),
        threshold=np.concatenate([own_threshold, limit[np.newaxis]]),
        rows=np.concatenate([found.rows, rows[np.newaxis]]),
        valid=np.concatenate([found.valid, valid[np.newaxis]]),
        holds=np.concatenate([own_holds, holds[np.newaxis]]),
        known=np.where(judged, valid, found.known),
    )


def decide_by(
    rule: ClassicRule | None,
    index: EventIndex,
    found: Effects,
    evidence: Evidence,
    *,
    may_page: BoolArray,
    false_pages_per_year: float,
    block_seconds: float | IntArray = 60.0,
) -> tuple[Effects, tuple[Verdict, ...]]:
    """The effects as the rule sees them and one verdict per column; None is driftd's own rule, `decide`, whose arguments
    these are. `may_page` bool [C]: the columns with a budget.
    """
    if rule is None:
        verdicts = decide(
            index, found, evidence, false_pages_per_year=false_pages_per_year, block_seconds=block_seconds
        )
        return found, verdicts
    seen = classic_effects(index, found, rule, may_page)
    own = replace(found, holds=seen.holds[:_RULE])
    verdicts = decide(
        index, own, evidence, false_pages_per_year=false_pages_per_year, block_seconds=block_seconds
    )
    judged = np.isfinite(seen.threshold[_RULE, 0])
    return seen, tuple(
        _ruled(verdict, seen, column, rule, pages=bool(may_page[column])) if judged[column] else verdict
        for column, verdict in enumerate(verdicts)
    )


def _ruled(verdict: Verdict, seen: Effects, column: int, rule: ClassicRule, *, pages: bool) -> Verdict:
    """One judged column: the rule's word over that of driftd's keys."""
    last = int(seen.windows.seconds.argmax())
    place = (_RULE, last, column)
    if seen.holds[place]:
        effect = Effect(
            detector=rule.kind.detector,
            window_seconds=int(seen.windows.seconds[last]),
            statistic=float(seen.statistic[place]),
            threshold=float(seen.threshold[place]),
            rows=int(seen.rows[place]),
        )
        said = f"the rule {rule} holds: {effect.detector} {effect.statistic:.3g} ≥ {effect.threshold:.3g}"
        return replace(
            verdict,
            state=ColumnState.DRIFT if pages else ColumnState.WATCH,
            effect=effect,
            leader=None,
            since=verdict.since if verdict.evidence >= 1.0 else None,
            reason=f"{said} ({effect.rows} rows)",
            rule=rule,
        )
    if not seen.valid[place] and verdict.state is not ColumnState.DRIFT:
        return replace(
            verdict,
            state=ColumnState.INSUFFICIENT_DATA,
            effect=None,
            leader=None,
            reason=f"the longest window holds too few values of it for the rule {rule}",
        )
    return verdict


def _compared(
    index: EventIndex, found: Effects, rule: ClassicRule, may_page: BoolArray
) -> tuple[FloatArray, FloatArray, int]:
    """The longest window's statistic [C], its threshold [C] (NaN where the rule cannot judge), and the least values."""
    baseline, windows = index.baseline, found.windows
    last = int(windows.seconds.argmax())
    if rule.kind.is_p_value:
        judged = baseline.present >= MIN_ROWS
        judged[baseline.layout.categorical] = False
        return windows.ks[last], _critical(index, found.rows[0, last], rule, judged, may_page), MIN_ROWS
    if rule.kind is ClassicKind.PSI:
        judged = psi.applicable(baseline)
        return windows.psi[last], np.where(judged, rule.threshold, np.nan), psi.MIN_ROWS
    scores = wasserstein.kernel(baseline, windows.counts[last], int(windows.rows[last]))
    judged = scores.status != NOT_APPLICABLE
    return scores.statistic, np.where(judged, rule.threshold, np.nan), MIN_ROWS


def _critical(
    index: EventIndex, rows: IntArray, rule: ClassicRule, judged: BoolArray, may_page: BoolArray
) -> FloatArray:
    """The D at which p is alpha, [C]: p < alpha is D above it, and unlike p it grows with drift."""
    sharing = judged & may_page if np.any(judged & may_page) else judged
    shared = rule.kind is ClassicKind.KS_BONFERRONI
    alpha = rule.threshold / max(int(sharing.sum()), 1) if shared else rule.threshold
    trained = index.baseline.present
    effective = np.rint(rows * trained / np.maximum(rows + trained, 1)).astype(np.int64)
    limits = [
        critical_distance(alpha, max(size, 1)) if known else float("nan")
        for size, known in zip(effective.tolist(), judged.tolist(), strict=True)
    ]
    return np.array(limits)


@lru_cache(maxsize=4096)
def critical_distance(alpha: float, effective: int) -> float:
    """The D whose two-sided p-value is `alpha` at the effective size n·m/(n+m), rounded.

    >>> round(critical_distance(0.05, 5000) * 5000**0.5, 3)
    1.356
    """
    # Imported when such a rule is selected: scipy.stats is half of a daemon's start-up time.
    from scipy.stats import kstwo

    return float(kstwo.isf(alpha, effective))
