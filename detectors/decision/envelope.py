r"""Learned bands: how far event shares moved by nature during Phase I, and half as far again.

Phase I is a span of traffic (or of timestamped training rows) that is taken to be in order. Its blocks of one length
give each event the envelope [lowest share, highest share]. With q the event's share in training the band is

    low = q - 1.5 (q - lowest),    high = q + 1.5 (highest - q)

and never narrower than the band of baseline error and tolerance (`bands`), nor wider than [0, 1], where no bet is left.

A share is noisy when its block has few rows, and the envelope of noise is wider than that of the level. So

- blocks are merged with their neighbours in time until they have 100 values of the column (what is left over joins the
  last). A column that does not wander has one level, so its blocks merge further, to 500 where that leaves 14 groups;
- deviations from the mean share m are multiplied by the square root of the groups' reliability
  1 - mean(m (1 - m)/n) / variance, the part of their variance that rows drawn independently do not explain. It is raised by
  three standard errors of a variance, 3 sqrt(2/groups), and rows that come in equal ones vary more than that, so the
  correction errs towards wider bands. A mean (of the confidence) has no such law and is left as it is.

Blocks under 1 h use the envelope of 1 h: a minute's expected share is taken to wander no further than the hour's.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.decision.bands import Bands
from detectors.decision.events import BlockEvents, EventIndex, EventKind
from detectors.types import DetectorError, FloatArray, IntArray

WIDENING: Final = 1.5
LEAST_ROWS: Final = 100
"""Values of the column in a block of Phase I, or it merges with its neighbours."""
STILL_ROWS: Final = 500
"""Values in a group of blocks of a column that does not wander, where Phase I has as many for all groups."""
STILL_PARTS: Final = 28
"""Such a group has at least this part of all values: a group ends with a whole block, so it may have nearly twice as many."""
SHORTEST_ENVELOPE: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockStack:
    """Consecutive blocks of one length that hold rows: `starts` int64 [N] epoch seconds, rising, multiples of `seconds`;
    `events` int64 [N, E]."""

    seconds: int
    starts: IntArray
    events: BlockEvents
    _made: dict[int, "BlockStack"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise DetectorError(f"blocks of {self.seconds} s; a block lasts at least 1 s")
        blocks = self.starts.shape
        if (
            len(blocks) != 1
            or self.events.hits.shape[:-1] != blocks
            or self.events.totals.shape[:-1] != blocks
        ):
            raise DetectorError(
                f"{blocks} starts with events of {self.events.hits.shape}; one start per block"
            )
        if np.any(np.diff(self.starts) <= 0) or np.any(self.starts % self.seconds):
            raise DetectorError(f"block starts must rise and be multiples of the blocks' {self.seconds} s")

    @property
    def span(self) -> tuple[int, int]:
        """Start of the first and end of the last block, epoch seconds; (0, 0) without blocks."""
        if self.starts.size == 0:
            return 0, 0
        return int(self.starts[0]), int(self.starts[-1]) + self.seconds

    def longer(self, seconds: int) -> "BlockStack":
        """The same rows in blocks of `seconds`, a multiple of the length now; integers add up, nothing is lost.

        Made once for each length: learning asks for the same few column by column, and the sums go over all events.
        """
        if seconds % self.seconds:
            raise DetectorError(f"blocks of {seconds} s cannot be made of blocks of {self.seconds} s")
        if seconds not in self._made:
            self._made[seconds] = self._longer(seconds)
        return self._made[seconds]

    def _longer(self, seconds: int) -> "BlockStack":
        if seconds == self.seconds or self.starts.size == 0:
            return BlockStack(seconds=seconds, starts=self.starts, events=self.events)
        own = self.starts // seconds * seconds
        first = np.flatnonzero(np.diff(own, prepend=own[0] - 1))
        summed = sum_runs(self.events, first)
        return BlockStack(seconds=seconds, starts=own[first], events=summed)


def sum_runs(events: BlockEvents, first: IntArray) -> BlockEvents:
    """Blocks [N, E] summed into runs that begin at `first`; sums beyond int64 are refused as `BlockEvents` does."""
    hits, totals = (np.add.reduceat(part, first, axis=0) for part in (events.hits, events.totals))
    longest = int(np.diff(first, append=events.totals.shape[0]).max(initial=1))
    most = int(events.totals.max(initial=0))
    if most * longest >= 2**63 and np.any(np.add.reduceat(events.totals / 2.0**62, first, axis=0) >= 2.0):
        raise DetectorError(
            "a merged block passes the rows whose confidence can be summed; choose a shorter block"
        )
    return BlockEvents(hits=hits, totals=totals)


def column_events(index: EventIndex, column: int) -> slice:
    """Where a column's events stand among all."""
    stop = index.starts[column + 1] if column + 1 < index.starts.size else index.column.size
    return slice(int(index.starts[column]), int(stop))


def missing_event(index: EventIndex, column: int) -> int:
    """The column's event whose total is every row of the block."""
    place = column_events(index, column)
    return int(place.start) + index.kinds[place].index(EventKind.MISSING)


def column_shares(index: EventIndex, stack: BlockStack, column: int, *, moves: bool) -> FloatArray:
    """Shares float64 [G, J] of a column's J events in groups of neighbouring blocks, freed of sampling noise as far as
    that is sure; NaN where an event had no total.

    `moves` says whether the column wanders. Each group has the values of the column (rows, where it never has a value)
    that the module's text asks for; G is 0 if all of Phase I has fewer.
    """
    place = column_events(index, column)
    hits, totals = stack.events.hits[:, place], stack.events.totals[:, place]
    rows = totals[:, 0]
    if not rows.any():
        rows = stack.events.totals[:, missing_event(index, column)]
    least = LEAST_ROWS if moves else int(np.clip(rows.sum() // STILL_PARTS, LEAST_ROWS, STILL_ROWS))
    first = _group_starts(rows, least)
    if first.size == 0:
        return np.zeros((0, place.stop - place.start))
    runs = sum_runs(BlockEvents(hits=hits, totals=totals), first)
    counted = np.array([kind is not EventKind.MEAN for kind in index.kinds[place]])
    return _levels(runs, counted)


def _levels(runs: BlockEvents, counted: npt.NDArray[np.bool_]) -> FloatArray:
    """Shares [G, J] of groups, drawn towards their mean by what sampling explains, for the events marked in [J]."""
    totals = np.maximum(runs.totals, 1)
    seen = runs.totals > 0
    mean = runs.hits.sum(axis=0) / np.maximum(runs.totals.sum(axis=0), 1)
    off = np.where(seen, runs.hits / totals - mean, 0.0)
    groups = np.maximum(seen.sum(axis=0), 1)
    variance = (off * off).sum(axis=0) / groups
    noise = np.where(seen, mean * (1.0 - mean) / totals, 0.0).sum(axis=0) / groups
    explained = np.where(counted & (variance > 0.0), noise / np.where(variance > 0.0, variance, 1.0), 0.0)
    reliability = np.clip(1.0 - explained + 3.0 * np.sqrt(2.0 / groups), 0.0, 1.0)
    levels: FloatArray = np.where(seen, mean + off * np.sqrt(reliability), np.nan)
    return levels


def learned_band(
    trained: FloatArray, shares: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The band [J] of one column's events from their shares [G, J] in Phase I, all inside it.

    `trained` [J] are the shares in training; `low` and `high` [J] the band it must not be narrower than.

    >>> learned_band(np.array([0.5]), np.array([[0.4], [0.6]]), np.array([0.45]), np.array([0.55]))
    (array([0.35]), array([0.65]))
    """
    seen = np.isfinite(shares)
    lowest = np.minimum(np.where(seen, shares, np.inf).min(axis=0, initial=np.inf), trained)
    highest = np.maximum(np.where(seen, shares, -np.inf).max(axis=0, initial=-np.inf), trained)
    down = np.maximum(trained - WIDENING * (trained - lowest), 0.0)
    up = np.minimum(trained + WIDENING * (highest - trained), 1.0)
    return np.minimum(low, down), np.maximum(high, up)


def learned_bands(index: EventIndex, stack: BlockStack, floor: Bands) -> Bands:
    """The bands of every column for blocks of the stack's length, all taken to wander; never narrower than `floor`."""
    wide = stack.longer(SHORTEST_ENVELOPE) if SHORTEST_ENVELOPE % stack.seconds == 0 else stack
    low, high = floor.low.copy(), floor.high.copy()
    trained = trained_shares(index)
    for column in range(index.starts.size):
        place = column_events(index, column)
        shares = column_shares(index, wide, column, moves=True)
        low[place], high[place] = learned_band(trained[place], shares, floor.low[place], floor.high[place])
    return Bands(low=low, high=high)


def trained_shares(index: EventIndex) -> FloatArray:
    """The share (or mean) of every event in training, float64 [E]; 0.5 where training had no row for it."""
    totals = index.trained.totals
    shares: FloatArray = np.where(totals > 0, index.trained.hits / np.maximum(totals, 1), 0.5)
    return shares


def _group_starts(rows: IntArray, least: int) -> IntArray:
    """Where groups of consecutive blocks with `least` rows each begin; the remainder belongs to the last."""
    ends = np.cumsum(rows)
    first, taken = [], 0
    at = 0
    while at < rows.size:
        stop = int(np.searchsorted(ends, taken + least))
        if stop >= rows.size:
            break
        first.append(at)
        taken, at = int(ends[stop]), stop + 1
    return np.array(first, dtype=np.int64)
