"""The paging rule: what the two keys say of every column at a boundary.

- DRIFT: an effect holds in some window and the column's mean R >= 1.
- INSUFFICIENT_DATA: else, when no window can tell anything of the column.
- WATCH: else, when an effect >= 0.10 stands in the longest window with 200 rows, or the evidence would page at a
  budget of one page a day. R is linear in the budget B that was spent on it, so at B' = 365.25 a year it would be
  R B'/B, which reaches 1 where R >= B/365.25. A column without budget has no evidence to watch. Where blocks are
  longer than a hundredth of a day, the budget is one page in a hundred blocks instead: one page a day with blocks of
  a day would be spent in full on every block, and quiet traffic would be watched for ever.
- STABLE: else.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.decision.effect import (
    EFFECT_KINDS,
    MIN_ROWS_KS,
    VALUE_KINDS,
    BoolArray,
    Effects,
    watch_effects,
    watch_levels,
)
from detectors.decision.events import EventIndex, EventKind
from detectors.decision.evidence import NOT_GROWING, Evidence, evidence_mean, leading_bets
from detectors.paging import ClassicRule
from detectors.types import ColumnState, DetectorError, FloatArray, IntArray

DAYS_PER_YEAR: Final = 365.25
SECONDS_PER_DAY: Final = 86_400.0
WATCH_BLOCKS: Final = 100
"""At most one WATCH by evidence in so many blocks, over all columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect that turned the key: of all that hold, the one with the largest statistic over threshold.

    `detector` is a value of `EffectKind`, or the statistic of a classic rule; `rows` are those it was computed from.
    """

    detector: str
    window_seconds: int
    statistic: float
    threshold: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The event with the strongest bet, for the message: `event` in words, its share (or mean) then and now.

    `direction` is that of the bet, "up" or "down"; `now` is of the window of `window_seconds` with `rows` rows.
    """

    event: str
    kind: EventKind
    direction: str
    baseline: float
    now: float
    window_seconds: int
    rows: int

    def __str__(self) -> str:
        if self.kind is EventKind.MEAN:
            return f"{self.event}: baseline {self.baseline:.3g} → now {self.now:.3g}"
        return f"{self.event}: baseline {_percent(self.baseline)} → now {_percent(self.now)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rule says of one column at one boundary.

    `evidence` is the mean R (the key turns at 1), `log_evidence` its natural logarithm, None at 0. `effect` and
    `leader` are filled for DRIFT and WATCH, where there is one. `since` is the estimated onset in epoch seconds, None
    while evidence is at rest. `reason` says all of it in one sentence. `rule` is the classic rule that decided, None for
    driftd's two keys.
    """

    column: str
    state: ColumnState
    evidence: float
    log_evidence: float | None
    effect: Effect | None
    leader: Leader | None
    since: int | None
    reason: str
    rule: ClassicRule | None = None


def decide(
    index: EventIndex,
    found: Effects,
    evidence: Evidence,
    *,
    false_pages_per_year: float,
    block_seconds: float | IntArray = 60.0,
) -> tuple[Verdict, ...]:
    """One verdict per column, in the baseline's order, from its effects and its evidence.

    `block_seconds` is the length of the blocks the evidence was gathered over, [C] where it differs by column.
    """
    if not np.all(np.asarray(block_seconds) > 0.0):
        raise DetectorError(f"block_seconds is {block_seconds}; it must be more than 0")
    if not (false_pages_per_year >= 0.0 and math.isfinite(false_pages_per_year)):
        raise DetectorError(
            f"false_pages_per_year is {false_pages_per_year}; it is a finite number, 0 or more"
        )
    if not np.array_equal(evidence.starts, index.starts):
        raise DetectorError("the evidence belongs to another baseline; start it with Evidence.zeros(index)")
    mean = evidence_mean(evidence)
    if not np.all(mean >= 0.0):
        raise DetectorError("evidence is not a number; this is a bug, and no page is decided on it")
    watching = watch_effects(found)
    holding = found.holds.any(axis=(0, 1))
    drift = holding & (mean >= 1.0)
    insufficient = ~drift & ~found.known.any(axis=0)
    patience = np.maximum(1.0, WATCH_BLOCKS * np.asarray(block_seconds) / SECONDS_PER_DAY)
    by_evidence = (mean > 0.0) & (mean >= false_pages_per_year * patience / DAYS_PER_YEAR)
    watch = ~drift & ~insufficient & (by_evidence | watching.any(axis=(0, 1)))
    verdicts = []
    if np.any(drift | watch):
        leads, levels = leading_bets(evidence), watch_levels(found)
        held, seen = _largest(found, found.holds, found.threshold), _largest(found, watching, levels)
    # Lists, because a look at one element of an array costs as much as ten at a list's.
    columns = zip(
        mean.tolist(),
        drift.tolist(),
        insufficient.tolist(),
        watch.tolist(),
        evidence.since.tolist(),
        strict=True,
    )
    for position, (level, drifts, lacks, watched, since) in enumerate(columns):
        effect, leader, state = None, None, ColumnState.STABLE
        if drifts:
            state = ColumnState.DRIFT
            effect = _effect(found, found.threshold, held[position], position)
        elif lacks:
            state = ColumnState.INSUFFICIENT_DATA
        elif watched:
            state, effect = ColumnState.WATCH, _effect(found, levels, seen[position], position)
        if drifts or watched:
            leader = _lead(index, found, int(leads[0][position]), int(leads[1][position]), effect)
        verdicts.append(
            Verdict(
                column=index.baseline.columns[position].name,
                state=state,
                evidence=level,
                log_evidence=math.log(level) if level > 0.0 else None,
                effect=effect,
                leader=leader,
                since=None if since == NOT_GROWING else since,
                reason=_reason(state, level, effect, leader),
            )
        )
    return tuple(verdicts)


def _largest(found: Effects, marked: BoolArray, levels: FloatArray) -> list[int]:
    """Per column the marked effect with the largest statistic over its level, as kind · W + window; -1 where none is.

    KS and PSI of the values go first: what moves past the training range moves the values too, and is drift.
    """
    choice = marked.copy()
    choice[VALUE_KINDS:] &= ~choice[:VALUE_KINDS].any(axis=(0, 1))
    ratio = np.where(choice, found.statistic / levels, -1.0).reshape(-1, choice.shape[-1])
    largest: list[int] = np.where(choice.any(axis=(0, 1)), ratio.argmax(axis=0), -1).tolist()
    return largest


def _effect(found: Effects, levels: FloatArray, which: int, column: int) -> Effect | None:
    if which < 0:
        return None
    kind, window = divmod(which, found.windows.seconds.size)
    return Effect(
        detector=EFFECT_KINDS[kind].value,
        window_seconds=int(found.windows.seconds[window]),
        statistic=float(found.statistic[kind, window, column]),
        threshold=float(levels[kind, window, column]),
        rows=int(found.rows[kind, window, column]),
    )


def _lead(
    index: EventIndex, found: Effects, event: int, direction: int, effect: Effect | None
) -> Leader | None:
    """The leading bet's event in the effect's window, else in the longest that has rows for it."""
    if event < 0:
        return None
    windows = found.windows
    lengths: list[int] = windows.seconds.tolist()
    order = sorted(range(len(lengths)), key=lambda window: -lengths[window])
    if effect is not None:
        order.sort(key=lambda window: lengths[window] != effect.window_seconds)
    trained = int(index.trained.totals[event])
    counted = ((w, *index.count_one(event, windows.counts[w], int(windows.rows[w]))) for w in order)
    window, hits, total = next((seen for seen in counted if seen[2] > 0), (-1, 0, 0))
    if total == 0 or trained == 0:
        return None
    return Leader(
        event=index.describe(event),
        kind=index.kinds[event],
        direction=("up", "down")[direction],
        baseline=float(index.trained.hits[event] / trained),
        now=hits / total,
        window_seconds=lengths[window],
        rows=int(windows.rows[window]),
    )


def _reason(state: ColumnState, level: float, effect: Effect | None, leader: Leader | None) -> str:
    if state is ColumnState.INSUFFICIENT_DATA:
        return f"no window holds {MIN_ROWS_KS} values of it to compare with training"
    if state is ColumnState.STABLE:
        return "no change that is both certain and large"
    parts = [] if leader is None else [str(leader)]
    if effect is not None:
        parts.append(
            f"{effect.detector} {effect.statistic:.3g} ≥ {effect.threshold:.3g} "
            f"over {_span(effect.window_seconds)} ({effect.rows} rows)"
        )
    parts.append(f"evidence {level:.3g} of the 1 that pages")
    return "; ".join(parts)


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def _span(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length and seconds % length == 0 and (unit != "d" or seconds > length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
