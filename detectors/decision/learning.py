r"""Learning: from Phase I to a calibration, column by column.

Per column, from blocks of the shortest length and the peaks of its windows:

1. tau, the correlation time of its hourly level (`wander`).
2. For every block length with 14 complete blocks (and 14 groups of them with 100 values, see `envelope`): learned bands, and the
   expected delay of a reference shift under them (`delay`). Lengths drop out
   - where a column wanders from hour to hour, Phase I has seen fewer than 64 tau of it, and the block is shorter than
     tau/8: one excursion beyond the envelope would be bet on often enough to page;
   - where it wanders and most blocks had to be merged to have 100 values: a day's mean says nothing of how far its
     quarters of an hour go;
   - where the bets, placed on Phase I itself, reached 20 times the budget spent there, which has a probability of at
     most 1/20 while the bands hold (Ville 1939).
   The shortest worst-direction delay wins, for the smallest of the reference shifts (D = .3, .6, .9) that some length
   pages within a fortnight in both directions; else in one; else at all.
3. State. MISMATCH where Phase I as a whole is off training by D > .2 (a share of any event by more than .2) beyond
   chance, and beyond twice what its own wander does to a mean over the span: production is not what the model was trained on, and to learn it would be to call that normal. It is asked of
   Phase I as a whole and not of each of its days because a column that wanders, weather for one, has days far from
   training in training itself; a change inside Phase I keeps tau, and so learning, long instead.
   LEARNED needs a span of 25 tau, and of two weeks (working days and weekends, twice). TOO_VARIABLE where that holds and
   no bet is informative at any length, or where 90 days are not 25 tau. Too few rows in 90 days: UNLEARNED.
   LEARNING else.
4. Thresholds of a LEARNED column (preset C): theta = max(.35/.18/.12/.10, 1.5 max D), psi = max(.35/.18/.12/.10,
   2.25 max PSI) over Phase I, 2.25 being 1.5 squared as PSI grows with the square of a shift; the rates have their
   own peaks. As D ends at 1, theta is at most half way from the peak to 1, and infinite where D was 1 by nature. A
   window that was never seen keeps preset A.

The factors and the two weeks come from simulation, not from theory: the promise then rests on the envelope holding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.decision.bands import Bands
from detectors.decision.calibration import Calibration, CalibrationSource, ColumnLearning, unlearned
from detectors.decision.choosing import (
    BLOCK_LENGTHS,
    COMPLETE_BLOCKS,
    Candidate,
    Phase,
    choose,
    delays_of,
    sound_candidates,
    stacks_of,
)
from detectors.decision.delay import SOON_SECONDS
from detectors.decision.effect import CHANCE_KS, MIN_ROWS_KS, PRESET_A, PRESET_C, VALUE_KINDS, Thresholds
from detectors.decision.envelope import WIDENING, BlockStack, column_events, trained_shares
from detectors.decision.events import BlockEvents, EventIndex, EventKind
from detectors.decision.peaks import Peaks
from detectors.decision.wander import correlation_seconds
from detectors.types import DetectorError, FloatArray, IntArray

__all__ = ["BLOCK_LENGTHS", "COMPLETE_BLOCKS", "History", "learn"]

SPAN_IN_TAU: Final = 25.0
LEAST_SPAN: Final = 14 * 86_400
MOST_SPAN: Final = 90 * 86_400
MISMATCH: Final = 0.2
LOOK_FACTOR: Final = 2
"""Live traffic is looked at after 14, 28, 56 and 90 days only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Phase I: the shortest blocks that hold rows, and the peaks of the windows over the same span."""

    blocks: BlockStack
    peaks: Peaks


def learn(
    index: EventIndex,
    windows_seconds: Sequence[int] | IntArray,
    history: History,
    *,
    source: CalibrationSource,
    block_seconds: int,
    false_pages_per_year: float = 0.1,
    weights: Sequence[float] | FloatArray | None = None,
    least_span_seconds: int = LEAST_SPAN,
) -> Calibration:
    """The calibration that Phase I supports now; ask again when it has grown, until no column is LEARNING.

    Asking often does no harm: of live traffic the blocks up to 14, 28, 56 or 90 days are looked at, whichever is passed.
    A look at every hour would stop each column at its luckiest, and simulated slow wanders then page ten times as often.

    `block_seconds` is the length for columns from which nothing is learned (yet). `false_pages_per_year` and
    `weights` [C] are those of `spend`; they shift the choice of block lengths a little, never the bands.
    """
    span = history.blocks.span
    if source is CalibrationSource.TRAFFIC:
        span = _last_look(span, least_span_seconds)
        history = replace(history, blocks=_before(history.blocks, span[1]))
    return _Learner(
        index,
        np.asarray(windows_seconds, dtype=np.int64),
        history,
        unlearned(index, windows_seconds, block_seconds),
        span,
        _yearly(index, false_pages_per_year, weights),
        least_span_seconds,
    ).calibration(source)


class _Learner:
    """The steps of `learn`, and what they share."""

    def __init__(
        self,
        index: EventIndex,
        windows: IntArray,
        history: History,
        start: Calibration,
        span: tuple[int, int],
        yearly: FloatArray,
        least_span: int,
    ) -> None:
        if history.peaks.statistic.shape[1:] != (windows.size, index.starts.size):
            raise DetectorError("the peaks are of other windows or columns; collect them with these windows")
        if history.blocks.events.hits.shape[1:] != (index.column.size,):
            raise DetectorError("the blocks are of another baseline; count both on one baseline")
        self.index, self.windows, self.peaks, self.start = index, windows, history.peaks, start
        self.least_span = least_span
        self.phase = Phase(
            index=index,
            stacks=stacks_of(index, history.blocks),
            span=span,
            tau=correlation_seconds(index, history.blocks),
            yearly=yearly,
            trained=trained_shares(index),
            floor=start.bands,
        )

    def calibration(self, source: CalibrationSource) -> Calibration:
        low, high = self.start.bands.low.copy(), self.start.bands.high.copy()
        found = self.start.thresholds
        assert found.rates is not None
        theta, psi, rates = found.theta.copy(), found.psi.copy(), found.rates.copy()
        seconds = self.start.block_seconds.copy()
        delays, detectable = np.full((2, self.index.starts.size), np.nan)
        states = []
        every = sound_candidates(self.phase)
        for column, candidates in enumerate(every):
            place = column_events(self.index, column)
            chosen = choose(candidates)
            state = self._state(column, candidates, chosen)
            states.append(state)
            if state is ColumnLearning.LEARNING:
                theta[:, column], psi[:, column] = PRESET_A.cautious(self.windows)
                rates[..., column] = psi[:, column]
            elif state is ColumnLearning.LEARNED:
                assert chosen is not None
                low[place], high[place], seconds[column] = chosen.low, chosen.high, chosen.seconds
                theta[:, column], psi[:, column], rates[..., column] = self._thresholds(column)
                delays[column] = chosen.delays[0].max()
                detectable[column] = self._detectable(column, chosen, theta[:, column])
            elif state is ColumnLearning.TOO_VARIABLE:
                low[place], high[place], seconds[column] = self._rates_only(column, candidates)
                _, _, rates[..., column] = self._thresholds(column)
                theta[:, column], psi[:, column] = np.inf, np.inf
                delays[column], detectable[column] = np.inf, np.inf
        return Calibration(
            windows=self.windows,
            starts=self.index.starts,
            bands=Bands(low=low, high=high),
            thresholds=Thresholds(theta=theta, psi=psi, rates=rates),
            block_seconds=seconds,
            states=tuple(states),
            source=source,
            span=self.phase.span,
            tau_seconds=self.phase.tau,
            delay_seconds=delays,
            detectable=detectable,
        )

    def _state(
        self, column: int, candidates: Sequence[Candidate], chosen: Candidate | None
    ) -> ColumnLearning:
        tau = float(self.phase.tau[column])
        # NaN is not enough.
        remembered = self.phase.seconds >= SPAN_IN_TAU * tau and self.phase.seconds >= self.least_span
        if remembered and candidates:
            if self._mismatch(column):
                # A wander may have stayed on one side by luck: it has the whole time to come back.
                early = self.phase.seconds < MOST_SPAN and self.phase.wanders(column)
                return ColumnLearning.LEARNING if early else ColumnLearning.MISMATCH
            return ColumnLearning.LEARNED if chosen is not None else ColumnLearning.TOO_VARIABLE
        if self.phase.seconds < MOST_SPAN:
            return ColumnLearning.LEARNING
        if self._mismatch(column):
            return ColumnLearning.MISMATCH
        return ColumnLearning.TOO_VARIABLE if self.phase.wanders(column) else ColumnLearning.UNLEARNED

    def _mismatch(self, column: int) -> bool:
        """Whether Phase I as a whole is off training by more than .2, beyond chance and beyond what wander explains.

        The mean over a span T of a level with deviation s and correlation time tau has deviation s sqrt(2 tau / T).
        """
        place = column_events(self.index, column)
        kept = np.array([kind is not EventKind.MEAN for kind in self.index.kinds[place]])
        hits, totals = (
            part[:, place][:, kept] for part in (self.phase.hours.events.hits, self.phase.hours.events.totals)
        )
        rows = totals.sum(axis=0)
        off = np.abs(hits.sum(axis=0) / np.maximum(rows, 1) - self.phase.trained[place][kept])
        levels = np.where(totals > 0, hits / np.maximum(totals, 1), hits.sum(axis=0) / np.maximum(rows, 1))
        tau = float(self.phase.tau[column])
        memory = np.sqrt(min(2.0 * tau / self.phase.seconds, 1.0)) if np.isfinite(tau) else 1.0
        least = np.maximum(MISMATCH, CHANCE_KS / np.sqrt(np.maximum(rows, 1)))
        known = (rows > 0) & (self.index.trained.totals[place][kept] > 0)
        return bool(np.any(known & (off > least + 2.0 * memory * levels.std(axis=0))))

    def _thresholds(self, column: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Preset C: theta [W], psi [W], rates [3, W]."""
        least, first = PRESET_C.at(self.windows), PRESET_A.at(self.windows)
        peaks = self.peaks.statistic[..., column]
        unseen = np.isnan(peaks)
        d, divergence = np.where(unseen, 0.0, peaks)[0], np.where(unseen, 0.0, peaks)[1:]
        room = np.where(d < 1.0, np.minimum(WIDENING * d, (1.0 + d) / 2.0), np.inf)
        theta = np.where(unseen[0], first[0], np.maximum(least[0], room))
        psi = np.where(unseen[1:], first[1], np.maximum(least[1], WIDENING**2 * divergence))
        return theta, psi[0], psi[VALUE_KINDS - 1 :]

    def _rates_only(self, column: int, candidates: Sequence[Candidate]) -> tuple[FloatArray, FloatArray, int]:
        """Bands that leave no bet but on missing and infinite values, at the longest length that was sound."""
        place = column_events(self.index, column)
        low, high = self.start.bands.low[place], self.start.bands.high[place]
        seconds = int(self.start.block_seconds[column])
        if candidates:
            low, high, seconds = candidates[-1].low, candidates[-1].high, candidates[-1].seconds
        rates = np.array(
            [kind in (EventKind.MISSING, EventKind.NON_FINITE) for kind in self.index.kinds[place]]
        )
        return np.where(rates, low, 0.0), np.where(rates, high, 1.0), seconds

    def _detectable(self, column: int, at: Candidate, theta: FloatArray) -> float:
        """The smallest D, in its worse direction, that turns both keys within 6 h; infinite where there is none."""
        least, most = 0.0, 1.0 - 2.0**-12
        if delays_of(self.phase, column, at, most).max() > SOON_SECONDS:
            return float("inf")
        while most - least > 2.0**-9:
            middle = (least + most) / 2.0
            if delays_of(self.phase, column, at, middle).max() > SOON_SECONDS:
                least = middle
            else:
                most = middle
        rows = at.rows * at.occupancy / at.seconds * self.windows
        enough = np.where(rows >= MIN_ROWS_KS, CHANCE_KS / np.sqrt(np.maximum(rows, 1.0)), np.inf)
        diluted = np.maximum(1.0, self.windows / SOON_SECONDS)
        effect = float((np.maximum(theta, enough) * diluted).min())
        smallest = max(most, effect)
        return smallest if smallest <= 1.0 else float("inf")


def _last_look(span: tuple[int, int], least_span: int) -> tuple[int, int]:
    """Phase I up to the last span at which it is looked at; all of it before the first."""
    start, end = span
    look = max(least_span, 1)
    if end - start < look:
        return span
    while look < MOST_SPAN and min(look * LOOK_FACTOR, MOST_SPAN) <= end - start:
        look = min(look * LOOK_FACTOR, MOST_SPAN)
    return start, start + look


def _before(blocks: BlockStack, end: int) -> BlockStack:
    kept = int(np.searchsorted(blocks.starts, end - blocks.seconds, side="right"))
    if kept == blocks.starts.size:
        return blocks
    events = BlockEvents(hits=blocks.events.hits[:kept], totals=blocks.events.totals[:kept])
    return BlockStack(seconds=blocks.seconds, starts=blocks.starts[:kept], events=events)


def _yearly(
    index: EventIndex, false_pages_per_year: float, weights: Sequence[float] | FloatArray | None
) -> FloatArray:
    """Pages a year each column may spend, for delays; a column without budget is reckoned with an equal share."""
    columns = index.starts.size
    shares = np.ones(columns) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (columns,) or not np.all(shares >= 0.0) or not false_pages_per_year >= 0.0:
        raise DetectorError(f"learning needs {columns} weights and a budget, none of them negative")
    shares = np.where(shares > 0.0, shares / max(float(shares.sum()), 1.0), 1.0 / columns)
    return shares * (false_pages_per_year or 0.1)
