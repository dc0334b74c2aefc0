"""Block lengths: which of them a column may bet on, and which one would page it soonest; see `learning` for the rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.decision.bands import Bands
from detectors.decision.delay import REFERENCE_SHIFTS, expected_delay, growth, shifted, spread_levels
from detectors.decision.envelope import (
    SHORTEST_ENVELOPE,
    BlockStack,
    column_events,
    column_shares,
    learned_band,
    missing_event,
)
from detectors.decision.events import BlockEvents, EventIndex
from detectors.decision.evidence import SECONDS_PER_YEAR, STAKES, Evidence, advance, evidence_mean
from detectors.decision.wander import wanders
from detectors.types import FloatArray

BLOCK_LENGTHS: Final = (60, 900, 3_600, 21_600, 86_400, 604_800)
COMPLETE_BLOCKS: Final = 14
BLOCKS_IN_TAU: Final = 8
"""A column that wanders bets at most so often within one correlation time, unless Phase I saw many of them."""
EXCURSIONS: Final = 64
"""Correlation times in Phase I after which half as far again as it went is further than the next year's excursions go."""
LATE_SECONDS: Final = 14 * 86_400
"""A shift that is paged later might as well be missed: lengths are compared on a larger one first."""
MOST_REPLAYED: Final = 20_000
"""Blocks of Phase I, the latest, that a candidate's bets are tried on."""
REFUTED: Final = 20.0
_MOST_ROWS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """Phase I of one baseline: `stacks` by block length, `span` in epoch seconds, `tau` [C] seconds, `yearly` [C] the pages
    a year each column may spend, `trained` shares [E], and the bands `floor` that learned ones are never narrower than."""

    index: EventIndex
    stacks: Mapping[int, BlockStack]
    span: tuple[int, int]
    tau: FloatArray
    yearly: FloatArray
    trained: FloatArray
    floor: Bands

    @property
    def seconds(self) -> int:
        """How long it lasted."""
        return self.span[1] - self.span[0]

    @property
    def hours(self) -> BlockStack:
        """Its hours, or the shortest blocks where those are longer."""
        return self.stacks.get(SHORTEST_ENVELOPE, self.stacks[min(self.stacks)])

    def wanders(self, column: int) -> bool:
        """Whether the column's level does more than sampling noise."""
        return wanders(self.index, self.stacks[min(self.stacks)], column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One block length for one column: `delays` [3 reference shifts, 2 directions] in seconds."""

    seconds: int
    shares: FloatArray
    low: FloatArray
    high: FloatArray
    rows: float
    occupancy: float
    budget: float
    delays: FloatArray


def sound_candidates(phase: Phase) -> list[list[Candidate]]:
    """Per column the block lengths that can be chosen, shortest first."""
    every = [_candidates(phase, column) for column in range(phase.index.starts.size)]
    kept: list[list[Candidate]] = [[] for _ in every]
    for seconds, stack in phase.stacks.items():
        tried = {c: at for c, found in enumerate(every) for at in found if at.seconds == seconds}
        if not tried:
            continue
        highest, spent = _replayed(phase, stack, tried)
        for column, at in tried.items():
            if highest[column] < REFUTED * spent[column]:
                kept[column].append(at)
    return kept


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the shortest delay; None where none has a finite one."""
    for latest in (LATE_SECONDS, np.finfo(np.float64).max):
        for worst in (True, False):
            for shift in range(len(REFERENCE_SHIFTS)):
                delays = [
                    float(c.delays[shift].max() if worst else c.delays[shift].min()) for c in candidates
                ]
                if delays and min(delays) <= latest:
                    return candidates[delays.index(min(delays))]
    return None


def delays_of(phase: Phase, column: int, at: Candidate, distance: float) -> FloatArray:
    """Seconds to the evidence key for both directions of a shift of this D: float64 [2]."""
    levels = spread_levels(at.shares)
    if levels.shape[0] == 0:
        return np.full(2, np.inf)
    moved = shifted(phase.index, column, levels, distance)
    events = moved.shape[-1]
    return expected_delay(
        growth(moved, at.rows, at.low[:events], at.high[:events]),
        seconds=at.seconds,
        bets=2 * len(STAKES) * at.low.size,
        budget=at.budget,
        occupancy=at.occupancy,
    )


def stacks_of(index: EventIndex, blocks: BlockStack) -> dict[int, BlockStack]:
    """Phase I in blocks of every length that can be made of it."""
    base = blocks.seconds
    lengths = sorted({base, *(s for s in BLOCK_LENGTHS if s % base == 0)})
    rows = blocks.events.totals[:, missing_event(index, 0)] if blocks.starts.size else None
    stacks = {}
    for seconds in lengths:
        if rows is not None and index.mean.size:
            own = blocks.starts // seconds
            if np.bincount(own - own[0], weights=rows).max() > _MOST_ROWS:
                break
        stacks[seconds] = blocks.longer(seconds)
    return stacks


def _candidates(phase: Phase, column: int) -> list[Candidate]:
    found = []
    start, end = phase.span
    place = column_events(phase.index, column)
    floor = phase.floor
    tau, moves = float(phase.tau[column]), phase.wanders(column)
    slow = moves and not phase.seconds >= EXCURSIONS * tau
    for seconds, stack in phase.stacks.items():
        if seconds % phase.index.baseline.pane_seconds:
            continue  # production is counted in panes, however finely Phase I was
        inside = (stack.starts >= start) & (stack.starts + seconds <= end)
        if int(inside.sum()) < COMPLETE_BLOCKS or (slow and BLOCKS_IN_TAU * seconds < tau):
            continue
        wide = phase.stacks.get(SHORTEST_ENVELOPE, stack) if seconds < SHORTEST_ENVELOPE else stack
        shares = column_shares(phase.index, wide, column, moves=moves)
        merged = 2 * shares.shape[0] < wide.starts.size
        if shares.shape[0] < COMPLETE_BLOCKS or (merged and moves):
            continue
        low, high = learned_band(phase.trained[place], shares, floor.low[place], floor.high[place])
        totals = stack.events.totals[:, place.start]
        held = totals[totals > 0]
        if held.size == 0:
            continue
        draft = Candidate(
            seconds=seconds,
            shares=shares,
            low=low,
            high=high,
            rows=float(np.median(held)),
            occupancy=min(held.size * seconds / phase.seconds, 1.0),
            budget=float(phase.yearly[column]) * seconds / SECONDS_PER_YEAR,
            delays=np.zeros((0, 2)),
        )
        delays = np.stack([delays_of(phase, column, draft, distance) for distance in REFERENCE_SHIFTS])
        found.append(replace(draft, delays=delays))
    return found


def _replayed(
    phase: Phase, stack: BlockStack, tried: Mapping[int, Candidate]
) -> tuple[FloatArray, FloatArray]:
    """The highest mean R of each column over Phase I, and the budget spent: float64 [C] each."""
    low, high = phase.floor.low.copy(), phase.floor.high.copy()
    budget = np.zeros(phase.index.starts.size)
    for column, at in tried.items():
        place = column_events(phase.index, column)
        low[place], high[place], budget[column] = at.low, at.high, at.budget
    band, columns = Bands(low=low, high=high), budget > 0.0
    evidence, highest = Evidence.zeros(phase.index), np.zeros(budget.size)
    first = max(stack.starts.size - MOST_REPLAYED, 0)
    for block in range(first, stack.starts.size):
        events = BlockEvents(hits=stack.events.hits[block], totals=stack.events.totals[block])
        evidence = advance(
            evidence, events, band, budget, block_start=int(stack.starts[block]), columns=columns
        )
        np.maximum(highest, evidence_mean(evidence), out=highest)
    return highest, budget * (stack.starts.size - first)
