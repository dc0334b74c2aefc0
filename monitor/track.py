"""One model version on one baseline and segment while it is evaluated: its windows, its evidence, its verdicts.

`Track.step` decides one boundary. It reads panes, writes nothing, and leaves what has to be stored in its result
and its own state, so that many boundaries can be decided before one transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import ks, mean_shift, psi
from detectors.decision import (
    BlockEvents,
    Calibration,
    ClassicRule,
    ColumnLearning,
    Effects,
    EventIndex,
    Evidence,
    Peaks,
    Preset,
    Thresholds,
    Verdict,
    Windows,
    advance,
    decide_by,
    effect_holds,
    effects,
    evidence_mean,
    overridden,
    preset_thresholds,
    reset,
)
from detectors.decision.closing import ClosedBlocks, OpenBlocks, Terms
from detectors.decision.effect import rate_hits
from detectors.decision.units import distance_of_shift
from detectors.profile import Baseline
from detectors.types import FloatArray, IntArray
from monitor.config import ModelSettings
from monitor.scores import STATISTICS, Scores
from monitor.windows import FetchPanes, RollingWindows, WindowStack

NEVER: Final = -(2**62)
"""Before every instant, in epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a track is judged: what the operator configured, on this baseline's columns.

    `shares` float64 [C] is each column's part of the model's budget; their sum over all that may page is at most 1.
    `classic` decides in place of driftd's two keys; a column without a share does not page under it either.
    """

    windows: tuple[int, ...]
    shares: FloatArray
    false_pages_per_year: float
    ignored: frozenset[str]
    preset: Preset = Preset.AUTO
    classic: ClassicRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a track is of; `''` is the segment of every row."""

    version_id: int
    version: str
    baseline_id: int
    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bets:
    """What a boundary's evidence came from: the state before it, the blocks bet on, in order, and the `budget` float64
    [C] that each column's block may spend.
    """

    before: Evidence
    blocks: tuple[ClosedBlocks, ...]
    budget: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one boundary came to for one track. `holds` per column: see `effect_holds`."""

    boundary: int
    bets: Bets
    found: Effects
    verdicts: tuple[Verdict, ...]
    holds: tuple[bool | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Judgement):
    """A judgement of windows summed from panes, with the scores to store."""

    stack: WindowStack
    scores: Scores


class Track:
    """The moving state of one version, baseline and segment."""

    def __init__(
        self, identity: Identity, index: EventIndex, rule: Rule, calibration: Calibration, fetch: FetchPanes
    ) -> None:
        self.identity = identity
        self.index = index
        self.rule = rule
        self.evidence = Evidence.zeros(index)
        self.upto: int | None = None
        self.peaks: Peaks | None = None
        self.peaks_since: int | None = None
        self.windows = RollingWindows(self.baseline.layout, self.baseline.pane_seconds, rule.windows, fetch)
        self._calibration = calibration
        self._thresholds: Thresholds = calibration.thresholds
        self.terms = Terms.of(calibration, NEVER)
        self._blocks = OpenBlocks(calibration, self.baseline.pane_seconds, after=NEVER, terms=self.terms)

    @property
    def baseline(self) -> Baseline:
        """What rows are counted on: the version's baseline, or its coarse view for a segment."""
        return self.index.baseline

    @property
    def calibration(self) -> Calibration:
        """Bands, thresholds and block lengths in force."""
        return self._calibration

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in force, the operator's own among them."""
        return self._thresholds

    @property
    def learning(self) -> bool:
        """Whether some column is still being learned."""
        return ColumnLearning.LEARNING in self._calibration.states

    def calibrate(
        self,
        calibration: Calibration,
        thresholds: Thresholds,
        *,
        terms: Terms,
        base_blocks: Iterable[tuple[int, BlockEvents]],
    ) -> None:
        """Judge by `calibration` from now on. `base_blocks` are those under way in its blocks, closed already."""
        self._calibration, self._thresholds, self.terms = calibration, thresholds, terms
        after = NEVER if self.upto is None else self.upto
        self._blocks = OpenBlocks(calibration, self.baseline.pane_seconds, after=after, terms=terms)
        for start, events in base_blocks:
            for _ in self._blocks.add(start, events):
                raise AssertionError(f"a block before {after} was bet on already")

    def step(self, boundary: int, base_blocks: Iterable[tuple[int, BlockEvents]]) -> Decision:
        """Decide the boundary (epoch seconds). `base_blocks` are those that it closes, by start."""
        stack = self.windows.move_to(boundary)
        seconds = np.array(stack.seconds, dtype=np.int64)
        distance = ks.bracket(self.baseline, stack.counts, stack.rows)
        windows = _windows(self.baseline, seconds, stack.counts, stack.rows, distance.low)
        judged = self.judge(boundary, base_blocks, windows)
        return Decision(
            boundary=boundary,
            bets=judged.bets,
            found=judged.found,
            verdicts=judged.verdicts,
            holds=judged.holds,
            stack=stack,
            scores=self._scores(stack, judged.found, judged.verdicts, distance.high),
        )

    def judge(
        self, boundary: int, base_blocks: Iterable[tuple[int, BlockEvents]], windows: Windows
    ) -> Judgement:
        """Decide the boundary from windows that somebody else measured."""
        if self.peaks is not None and self.peaks_since is None:
            self.peaks_since = boundary - self.baseline.pane_seconds
        bets = self.bet(boundary, base_blocks)
        found = effects(self.index, windows, self._thresholds)
        if self.peaks is not None and self.peaks_since is not None:
            self.peaks = self.peaks.seen(found, boundary=boundary, since=self.peaks_since)
        found, verdicts = decide_by(
            self.rule.classic,
            self.index,
            found,
            self.evidence,
            may_page=self.rule.shares > 0.0,
            false_pages_per_year=self.rule.false_pages_per_year,
            block_seconds=self._calibration.block_seconds,
        )
        return Judgement(
            boundary=boundary, bets=bets, found=found, verdicts=verdicts, holds=effect_holds(found)
        )

    def bet(self, boundary: int, base_blocks: Iterable[tuple[int, BlockEvents]]) -> Bets:
        """Place every bet on the blocks that the boundary closes, and decide nothing."""
        before = self.evidence
        budget = self._calibration.budget(self.rule.false_pages_per_year, self.rule.shares)
        closed = [one for start, events in base_blocks for one in self._blocks.add(start, events)]
        closed += self._blocks.close(boundary)
        for block in closed:
            self.evidence = advance(
                self.evidence,
                block.events,
                self._calibration.bands,
                budget,
                block_start=block.starts,
                columns=block.columns,
            )
        self.upto = boundary
        return Bets(before=before, blocks=tuple(closed), budget=budget)

    def forget(self, columns: Iterable[str]) -> None:
        """Restart the evidence of columns at 0, as after every page that has resolved."""
        names = set(columns)
        self.evidence = reset(self.evidence, np.array([c.name in names for c in self.baseline.columns]))

    def _scores(
        self, stack: WindowStack, found: Effects, verdicts: tuple[Verdict, ...], ks_high: FloatArray
    ) -> Scores:
        layout = self.baseline.layout
        present = layout.present(stack.counts, stack.rows)
        rates = np.where(
            stack.rows[:, np.newaxis, np.newaxis] > 0,
            rate_hits(self.index, stack.counts) / np.maximum(stack.rows, 1)[:, np.newaxis, np.newaxis],
            np.nan,
        )
        rates[:, 1:, layout.categorical] = np.nan
        parts = {
            "ks": found.windows.ks,
            "ks_high": ks_high,
            "psi": found.windows.psi,
            "mean_shift": self._mean_shift(),
            "missing": rates[:, 0],
            "present": present.astype(np.float64),
            "non_finite": rates[:, 1],
            "out_of_range": rates[:, 2],
        }
        ratio = np.where(found.valid, found.statistic / found.threshold, -1.0)
        effect = ratio.max(axis=(0, 1))
        return Scores(
            windows=stack.seconds,
            rows=stack.rows,
            values=np.stack([parts[name] for name in STATISTICS], axis=-1),
            effect=np.where(effect < 0, np.nan, effect),
            evidence=evidence_mean(self.evidence),
            states=tuple(verdict.state for verdict in verdicts),
        )

    def _mean_shift(self) -> FloatArray:
        means, clusters = [], []
        for index, seconds in enumerate(self.rule.windows):
            width = mean_shift.cluster_seconds(self.baseline.pane_seconds, seconds)
            means.append(self.windows.means(index))
            clusters.append(self.windows.clusters(index, width))
        return mean_shift.kernel(self.baseline, np.stack(means), np.stack(clusters)).statistic


def measure(baseline: Baseline, seconds: IntArray, counts: IntArray, rows: IntArray) -> Windows:
    """What the effect key needs to know of windows: lengths int64 [W], counts int64 [W, layout.length], rows int64 [W]."""
    return _windows(baseline, seconds, counts, rows, ks.kernel(baseline, counts, rows).statistic)


def _windows(
    baseline: Baseline, seconds: IntArray, counts: IntArray, rows: IntArray, distance: FloatArray
) -> Windows:
    scores = psi.kernel(baseline, counts, rows)
    return Windows(seconds=seconds, counts=counts, rows=rows, ks=distance, psi=scores.statistic)


def rule_of(baseline: Baseline, settings: ModelSettings, *, share: float) -> Rule:
    """The rule of a baseline's columns; `share` (0 to 1) is its part of the model's budget.

    Ignored columns get no budget, so they never have evidence and never page; their scores are still shown.
    """
    names = [column.name for column in baseline.columns]
    weights = np.array([0.0 if n in settings.ignore else settings.weights.get(n, 1.0) for n in names])
    total = float(weights.sum())
    return Rule(
        windows=tuple(int(window.total_seconds()) for window in settings.windows),
        shares=weights / total * share if total else weights,
        false_pages_per_year=settings.false_pages_per_year,
        ignored=frozenset(settings.ignore),
        preset=settings.preset,
        classic=settings.rule,
    )


def thresholds_of(baseline: Baseline, settings: ModelSettings, calibration: Calibration) -> Thresholds:
    """The calibration's thresholds under the configured preset, with the operator's own in place of them."""
    found = preset_thresholds(calibration, settings.preset)
    for name, own in settings.effect.items():
        if name in baseline.layout.positions:
            position = baseline.layout.positions[name]
            theta = own.ks if own.shift is None else distance_of_shift(baseline, position, own.shift)
            found = overridden(found, position, theta=theta, psi=own.psi)
    return found
