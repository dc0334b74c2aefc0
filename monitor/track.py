"""One model version on one baseline while it is evaluated: its windows, its evidence, its verdicts.

`Track.step` decides one boundary. It reads panes and closed blocks, writes nothing, and leaves what has to be
stored in its result, so that many boundaries can be decided before one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors import ks, mean_shift, psi
from detectors.decision import (
    Bands,
    BlockEvents,
    Effects,
    EventIndex,
    Evidence,
    Thresholds,
    Verdict,
    Windows,
    advance,
    bands,
    decide,
    effect_holds,
    effects,
    evidence_mean,
    reset,
    resolve_thresholds,
    spend,
)
from detectors.decision import EffectThresholds as ThresholdTable
from detectors.decision.effect import PRESET_A
from detectors.profile import Baseline
from detectors.types import FloatArray
from monitor.config import ModelSettings
from monitor.scores import STATISTICS, Scores
from monitor.windows import FetchPanes, RollingWindows, WindowStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a track is judged: what the operator configured, on this baseline's columns."""

    windows: tuple[int, ...]
    thresholds: Thresholds
    shares: FloatArray
    false_pages_per_year: float
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one boundary came to for one track. `holds` per column: see `effect_holds`."""

    boundary: int
    stack: WindowStack
    scores: Scores
    found: Effects
    verdicts: tuple[Verdict, ...]
    holds: tuple[bool | None, ...]


class Track:
    """The moving state of one version and baseline; `''` is the segment of every row."""

    def __init__(
        self,
        *,
        version_id: int,
        version: str,
        baseline_id: int,
        baseline: Baseline,
        rule: Rule,
        block_seconds: int,
        evidence: Evidence | None,
        evidence_upto: int | None,
        fetch: FetchPanes,
    ) -> None:
        self.version_id = version_id
        self.version = version
        self.baseline_id = baseline_id
        self.baseline = baseline
        self.block_seconds = block_seconds
        self.rule = rule
        self.index = EventIndex.of(baseline)
        self.bands: Bands = bands(self.index)
        self.evidence = evidence if evidence is not None else Evidence.zeros(self.index)
        self.evidence_upto = evidence_upto
        self.windows = RollingWindows(baseline.layout, baseline.pane_seconds, rule.windows, fetch)

    def step(self, boundary: int, blocks: Mapping[int, BlockEvents]) -> Decision:
        """Decide the boundary (epoch seconds). `blocks` are those that it closes, by start."""
        stack = self.windows.move_to(boundary)
        for start in sorted(blocks):
            self._bet(start, blocks[start])
        return self._judge(boundary, stack)

    def forget(self, columns: Sequence[str]) -> None:
        """Restart the evidence of columns at 0, as after every page that has resolved."""
        marked = np.array([column.name in columns for column in self.baseline.columns])
        self.evidence = reset(self.evidence, marked)

    def _bet(self, start: int, events: BlockEvents) -> None:
        end = start + self.block_seconds
        if self.evidence_upto is not None and end <= self.evidence_upto:
            raise AssertionError(f"block {start} of baseline {self.baseline_id} was bet on already")
        budget = spend(self.rule.false_pages_per_year, self.rule.shares, self.block_seconds)
        self.evidence = advance(self.evidence, events, self.bands, budget, block_start=start)
        self.evidence_upto = end

    def _judge(self, boundary: int, stack: WindowStack) -> Decision:
        ks_low = ks.kernel(self.baseline, stack.counts, stack.rows).statistic
        psi_scores = psi.kernel(self.baseline, stack.counts, stack.rows).statistic
        windows = Windows(
            seconds=np.array(stack.seconds, dtype=np.int64),
            counts=stack.counts,
            rows=stack.rows,
            ks=ks_low,
            psi=psi_scores,
        )
        found = effects(self.index, windows, self.rule.thresholds)
        verdicts = decide(
            self.index,
            found,
            self.evidence,
            false_pages_per_year=self.rule.false_pages_per_year,
            block_seconds=self.block_seconds,
        )
        return Decision(
            boundary=boundary,
            stack=stack,
            scores=self._scores(stack, found, verdicts),
            found=found,
            verdicts=verdicts,
            holds=effect_holds(found),
        )

    def _scores(self, stack: WindowStack, found: Effects, verdicts: Sequence[Verdict]) -> Scores:
        layout = self.baseline.layout
        present = layout.present(stack.counts, stack.rows)
        missing = np.where(
            stack.rows[:, np.newaxis] > 0,
            stack.counts[:, layout.missing] / np.maximum(stack.rows, 1)[:, np.newaxis],
            np.nan,
        )
        parts = {
            "ks": found.windows.ks,
            "ks_high": ks.bracket(self.baseline, stack.counts, stack.rows).high,
            "psi": found.windows.psi,
            "mean_shift": self._mean_shift(),
            "missing": missing,
            "present": present.astype(np.float64),
        }
        ratio = np.where(found.valid, found.statistic / found.threshold, np.nan)
        valid = np.isfinite(ratio).any(axis=(0, 1))
        effect = np.where(valid, np.nanmax(np.where(np.isfinite(ratio), ratio, -1.0), axis=(0, 1)), np.nan)
        return Scores(
            windows=stack.seconds,
            rows=stack.rows,
            values=np.stack([parts[name] for name in STATISTICS], axis=-1),
            effect=effect,
            evidence=evidence_mean(self.evidence),
            states=tuple(verdict.state for verdict in verdicts),
        )

    def _mean_shift(self) -> FloatArray:
        moments, clusters = [], []
        for index, seconds in enumerate(self.rule.windows):
            width = mean_shift.cluster_seconds(self.baseline.pane_seconds, seconds)
            parts = self.windows.clusters(index, width)
            moments.append(self.windows.window_profile(index).moments)
            clusters.append((parts[..., 0] > 0).sum(axis=0))
        return mean_shift.kernel(self.baseline, np.stack(moments), np.stack(clusters)).statistic


def rule_of(baseline: Baseline, settings: ModelSettings, *, share: float) -> Rule:
    """The rule of a baseline's columns; `share` (0 to 1) is its part of the model's budget.

    Ignored columns get no budget, so they never have evidence and never page; their scores are still shown.
    """
    names = [column.name for column in baseline.columns]
    weights = np.array([0.0 if n in settings.ignore else settings.weights.get(n, 1.0) for n in names])
    total = float(weights.sum())
    seconds = tuple(int(window.total_seconds()) for window in settings.windows)
    overrides = {}
    for name, own in settings.effect.items():
        if name in names:
            theta, psi_points = PRESET_A.at(seconds)
            overrides[name] = ThresholdTable(
                seconds=tuple(map(float, seconds)),
                theta=tuple(theta.tolist() if own.ks is None else [own.ks] * len(seconds)),
                psi=tuple(psi_points.tolist() if own.psi is None else [own.psi] * len(seconds)),
            )
    return Rule(
        windows=seconds,
        thresholds=resolve_thresholds(seconds, names, overrides=overrides),
        shares=weights / total * share if total else weights,
        false_pages_per_year=settings.false_pages_per_year,
        ignored=frozenset(settings.ignore),
    )
