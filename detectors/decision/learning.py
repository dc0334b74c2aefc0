r"""Learning: from Phase I to a calibration, column by column.

Per column, from blocks of the shortest length and the peaks of its windows:

1. tau, the correlation time of its hourly level (`wander`).
2. For every block length with 14 complete blocks (and 14 groups of 500 values, see `envelope`): learned bands, and the
   expected delay of a reference shift under them (`delay`). Lengths drop out
   - where a column wanders from hour to hour and the block is shorter than tau/8: one excursion beyond the envelope would
     be bet on often enough to page;
   - where it wanders and most blocks had to be merged to reach 500 values: a day's mean says nothing of how far its
     quarters of an hour go;
   - where the bets, placed on Phase I itself, reached 20 times the budget spent there, which has a probability of at
     most 1/20 while the bands hold (Ville 1939).
   The shortest worst-direction delay wins, for the smallest of the reference shifts (D = .3, .6, .9) that some length can
   tell in both directions; else in one.
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.decision.bands import Bands
from detectors.decision.calibration import Calibration, CalibrationSource, ColumnLearning, unlearned
from detectors.decision.delay import (
    REFERENCE_SHIFTS,
    SOON_SECONDS,
    expected_delay,
    growth,
    shifted,
    spread_levels,
)
from detectors.decision.effect import CHANCE_KS, MIN_ROWS_KS, PRESET_A, PRESET_C, VALUE_KINDS, Thresholds
from detectors.decision.envelope import (
    SHORTEST_ENVELOPE,
    WIDENING,
    BlockStack,
    column_events,
    column_shares,
    learned_band,
    missing_event,
    trained_shares,
)
from detectors.decision.events import BlockEvents, EventIndex, EventKind
from detectors.decision.evidence import SECONDS_PER_YEAR, STAKES, Evidence, advance, evidence_mean
from detectors.decision.peaks import Peaks
from detectors.decision.wander import correlation_seconds, wanders
from detectors.types import DetectorError, FloatArray, IntArray

BLOCK_LENGTHS: Final = (60, 900, 3_600, 21_600, 86_400, 604_800)
COMPLETE_BLOCKS: Final = 14
SPAN_IN_TAU: Final = 25.0
LEAST_SPAN: Final = 14 * 86_400
MOST_SPAN: Final = 90 * 86_400
MISMATCH: Final = 0.2
LOOK_FACTOR: Final = 2
"""Live traffic is looked at after 14, 28, 56 and 90 days only."""
BLOCKS_IN_TAU: Final = 8
"""A column that wanders bets at most so often within one correlation time."""
MOST_REPLAYED: Final = 20_000
"""Blocks of Phase I, the latest, that a candidate's bets are tried on."""
REFUTED: Final = 20.0
_MOST_ROWS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Phase I: the shortest blocks that hold rows, and the peaks of the windows over the same span."""

    blocks: BlockStack
    peaks: Peaks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """One block length for one column: `delays` [3 reference shifts, 2 directions] in seconds."""

    seconds: int
    shares: FloatArray
    low: FloatArray
    high: FloatArray
    rows: float
    occupancy: float
    budget: float
    delays: FloatArray


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
    if source is CalibrationSource.TRAFFIC:
        history = replace(history, blocks=_upto_last_look(history.blocks, least_span_seconds))
    return _Learner(
        index,
        np.asarray(windows_seconds, dtype=np.int64),
        history,
        unlearned(index, windows_seconds, block_seconds),
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
        yearly: FloatArray,
        least_span: int,
    ) -> None:
        if history.peaks.statistic.shape[1:] != (windows.size, index.starts.size):
            raise DetectorError("the peaks are of other windows or columns; collect them with these windows")
        if history.blocks.events.hits.shape[1:] != (index.column.size,):
            raise DetectorError("the blocks are of another baseline; count both on one baseline")
        self.index, self.windows, self.peaks, self.start = index, windows, history.peaks, start
        self.yearly, self.least_span = yearly, least_span
        self.trained = trained_shares(index)
        self.blocks = history.blocks
        self.span = self.blocks.span[1] - self.blocks.span[0]
        self.stacks = self._stacks()
        self.hours = self.stacks.get(SHORTEST_ENVELOPE, self.blocks)
        self.tau = correlation_seconds(index, self.blocks)

    def calibration(self, source: CalibrationSource) -> Calibration:
        low, high = self.start.bands.low.copy(), self.start.bands.high.copy()
        found = self.start.thresholds
        assert found.rates is not None
        theta, psi, rates = found.theta.copy(), found.psi.copy(), found.rates.copy()
        seconds = self.start.block_seconds.copy()
        delays, detectable = np.full((2, self.index.starts.size), np.nan)
        states = []
        every = self._sound([self._candidates(column) for column in range(self.index.starts.size)])
        for column, candidates in enumerate(every):
            place = column_events(self.index, column)
            chosen = _choose(candidates)
            state = self._state(column, candidates, chosen)
            states.append(state)
            if state is ColumnLearning.LEARNING:
                late = self.windows > np.sort(self.windows)[:2][-1]
                theta[late, column], psi[late, column], rates[:, late, column] = np.inf, np.inf, np.inf
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
            span=self.blocks.span,
            tau_seconds=self.tau,
            delay_seconds=delays,
            detectable=detectable,
        )

    def _stacks(self) -> dict[int, BlockStack]:
        """Phase I in blocks of every length that can be made of it."""
        base = self.blocks.seconds
        lengths = sorted({base, *(s for s in BLOCK_LENGTHS if s % base == 0)})
        rows = self.blocks.events.totals[:, missing_event(self.index, 0)] if self.blocks.starts.size else None
        stacks = {}
        for seconds in lengths:
            if rows is not None and self.index.mean.size:
                own = self.blocks.starts // seconds
                if np.bincount(own - own[0], weights=rows).max() > _MOST_ROWS:
                    break
            stacks[seconds] = self.blocks.longer(seconds)
        return stacks

    def _candidates(self, column: int) -> list[_Candidate]:
        found = []
        start, end = self.blocks.span
        place = column_events(self.index, column)
        floor = self.start.bands
        tau, moves = float(self.tau[column]), self._wanders(column)
        for seconds, stack in self.stacks.items():
            inside = (stack.starts >= start) & (stack.starts + seconds <= end)
            if int(inside.sum()) < COMPLETE_BLOCKS or (moves and BLOCKS_IN_TAU * seconds < tau):
                continue
            wide = self.stacks.get(SHORTEST_ENVELOPE, stack) if seconds < SHORTEST_ENVELOPE else stack
            shares = column_shares(self.index, wide, column)
            merged = 2 * shares.shape[0] < wide.starts.size
            if shares.shape[0] < COMPLETE_BLOCKS or (merged and moves):
                continue
            low, high = learned_band(self.trained[place], shares, floor.low[place], floor.high[place])
            totals = stack.events.totals[:, place.start]
            held = totals[totals > 0]
            if held.size == 0:
                continue
            draft = _Candidate(
                seconds=seconds,
                shares=shares,
                low=low,
                high=high,
                rows=float(np.median(held)),
                occupancy=min(held.size * seconds / self.span, 1.0),
                budget=float(self.yearly[column]) * seconds / SECONDS_PER_YEAR,
                delays=np.zeros((0, 2)),
            )
            delays = np.stack([self._delays(column, draft, distance) for distance in REFERENCE_SHIFTS])
            found.append(replace(draft, delays=delays))
        return found

    def _sound(self, every: list[list[_Candidate]]) -> list[list[_Candidate]]:
        """The candidates of every column whose bets stay where they belong on Phase I itself."""
        kept: list[list[_Candidate]] = [[] for _ in every]
        for seconds, stack in self.stacks.items():
            tried = {c: at for c, found in enumerate(every) for at in found if at.seconds == seconds}
            if not tried:
                continue
            highest, spent = self._replayed(stack, tried)
            for column, at in tried.items():
                if highest[column] < REFUTED * spent[column]:
                    kept[column].append(at)
        return kept

    def _replayed(self, stack: BlockStack, tried: Mapping[int, _Candidate]) -> tuple[FloatArray, FloatArray]:
        """The highest mean R of each column over Phase I, and the budget spent: float64 [C] each."""
        low, high = self.start.bands.low.copy(), self.start.bands.high.copy()
        budget = np.zeros(self.index.starts.size)
        for column, at in tried.items():
            place = column_events(self.index, column)
            low[place], high[place], budget[column] = at.low, at.high, at.budget
        band, columns = Bands(low=low, high=high), budget > 0.0
        evidence, highest = Evidence.zeros(self.index), np.zeros(budget.size)
        first = max(stack.starts.size - MOST_REPLAYED, 0)
        for block in range(first, stack.starts.size):
            events = BlockEvents(hits=stack.events.hits[block], totals=stack.events.totals[block])
            evidence = advance(
                evidence, events, band, budget, block_start=int(stack.starts[block]), columns=columns
            )
            np.maximum(highest, evidence_mean(evidence), out=highest)
        return highest, budget * (stack.starts.size - first)

    def _delays(self, column: int, at: _Candidate, distance: float) -> FloatArray:
        """Seconds to the evidence key for both directions of a shift of this D: float64 [2]."""
        levels = spread_levels(at.shares)
        if levels.shape[0] == 0:
            return np.full(2, np.inf)
        moved = shifted(self.index, column, levels, distance)
        events = moved.shape[-1]
        return expected_delay(
            growth(moved, at.rows, at.low[:events], at.high[:events]),
            seconds=at.seconds,
            bets=2 * len(STAKES) * at.low.size,
            budget=at.budget,
            occupancy=at.occupancy,
        )

    def _state(
        self, column: int, candidates: Sequence[_Candidate], chosen: _Candidate | None
    ) -> ColumnLearning:
        tau = float(self.tau[column])
        # NaN is not enough.
        remembered = self.span >= SPAN_IN_TAU * tau and self.span >= self.least_span
        if remembered and candidates:
            if self._mismatch(column):
                # A wander may have stayed on one side by luck: it has the whole time to come back.
                early = self.span < MOST_SPAN and self._wanders(column)
                return ColumnLearning.LEARNING if early else ColumnLearning.MISMATCH
            return ColumnLearning.LEARNED if chosen is not None else ColumnLearning.TOO_VARIABLE
        if self.span < MOST_SPAN:
            return ColumnLearning.LEARNING
        if self._mismatch(column):
            return ColumnLearning.MISMATCH
        return ColumnLearning.TOO_VARIABLE if self._wanders(column) else ColumnLearning.UNLEARNED

    def _wanders(self, column: int) -> bool:
        return wanders(self.index, self.hours, column)

    def _mismatch(self, column: int) -> bool:
        """Whether Phase I as a whole is off training by more than .2, beyond chance and beyond what wander explains.

        The mean over a span T of a level with deviation s and correlation time tau has deviation s sqrt(2 tau / T).
        """
        place = column_events(self.index, column)
        kept = np.array([kind is not EventKind.MEAN for kind in self.index.kinds[place]])
        hits, totals = (
            part[:, place][:, kept] for part in (self.hours.events.hits, self.hours.events.totals)
        )
        rows = totals.sum(axis=0)
        off = np.abs(hits.sum(axis=0) / np.maximum(rows, 1) - self.trained[place][kept])
        levels = np.where(totals > 0, hits / np.maximum(totals, 1), hits.sum(axis=0) / np.maximum(rows, 1))
        tau = float(self.tau[column])
        memory = np.sqrt(min(2.0 * tau / self.span, 1.0)) if np.isfinite(tau) else 1.0
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

    def _rates_only(
        self, column: int, candidates: Sequence[_Candidate]
    ) -> tuple[FloatArray, FloatArray, int]:
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

    def _detectable(self, column: int, at: _Candidate, theta: FloatArray) -> float:
        """The smallest D, in its worse direction, that turns both keys within 6 h; infinite where there is none."""
        least, most = 0.0, 1.0 - 2.0**-12
        if self._delays(column, at, most).max() > SOON_SECONDS:
            return float("inf")
        while most - least > 2.0**-9:
            middle = (least + most) / 2.0
            if self._delays(column, at, middle).max() > SOON_SECONDS:
                least = middle
            else:
                most = middle
        rows = at.rows * at.occupancy / at.seconds * self.windows
        enough = np.where(rows >= MIN_ROWS_KS, CHANCE_KS / np.sqrt(np.maximum(rows, 1.0)), np.inf)
        diluted = np.maximum(1.0, self.windows / SOON_SECONDS)
        effect = float((np.maximum(theta, enough) * diluted).min())
        smallest = max(most, effect)
        return smallest if smallest <= 1.0 else float("inf")


def _upto_last_look(blocks: BlockStack, least_span: int) -> BlockStack:
    """Phase I up to the last span at which it is looked at."""
    start, end = blocks.span
    look = least_span
    if look < 1 or end - start < look:
        return blocks
    while look < MOST_SPAN and min(look * LOOK_FACTOR, MOST_SPAN) <= end - start:
        look = min(look * LOOK_FACTOR, MOST_SPAN)
    kept = blocks.starts + blocks.seconds <= start + look
    events = BlockEvents(hits=blocks.events.hits[kept], totals=blocks.events.totals[kept])
    return BlockStack(seconds=blocks.seconds, starts=blocks.starts[kept], events=events)


def _choose(candidates: Sequence[_Candidate]) -> _Candidate | None:
    """The candidate with the shortest delay; None where none has a finite one."""
    for worst in (True, False):
        for shift in range(len(REFERENCE_SHIFTS)):
            delays = [float(c.delays[shift].max() if worst else c.delays[shift].min()) for c in candidates]
            if delays and min(delays) < np.inf:
                return candidates[delays.index(min(delays))]
    return None


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
