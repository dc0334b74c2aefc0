"""The evidence of a group of columns with one block length, advanced in place.

The arithmetic is that of `decision.advance`, operation for operation, so the state is the same bits; what is left out are its
checks and the estimate of the onset, which cost ten times the bets. The means over a column's bets may differ from
`evidence_mean` in the last bits, as the sum runs in another order.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.decision import EVIDENCE_CAP, STAKES, Bands
from detectors.types import FloatArray, IntArray

EVENTS: Final = 16
"""Events of a numeric column: 13 cuts, missing, non-finite, out of range."""
_BELOW: Final = 13
_OUT_OF_RANGE: Final = 15
_SMALLEST_EDGE: Final = 2.0**-40
_SLICE: Final = 64
"""Blocks whose payoffs stay in the cache until they are placed."""


class Bets:
    """The bets of C columns on blocks of `block_minutes`. `r` float64 [5 stakes, 2 directions, 16·C]."""

    def __init__(self, columns: IntArray, bands: Bands, budget: FloatArray, block_minutes: int) -> None:
        """`columns` are positions [C] in the baseline of the `bands`; `budget` [C] is theirs per block."""
        events = (columns[:, np.newaxis] * EVENTS + np.arange(EVENTS)).ravel()
        low, high = bands.low[events], bands.high[events]
        self.columns, self.block_minutes = columns, block_minutes
        self.r = np.zeros((len(STAKES), 2, events.size))
        self._edges = np.stack([np.maximum(high, _SMALLEST_EDGE), np.maximum(1.0 - low, _SMALLEST_EDGE)])
        self._credit = np.where(np.stack([high < 1.0, low > 0.0]), np.repeat(budget, EVENTS), 0.0)
        self._stakes = np.array(STAKES)[:, np.newaxis, np.newaxis]
        self._factors = np.empty_like(self.r)
        self._hits = np.zeros((columns.size, EVENTS), dtype=np.int64)
        self._rows = 0

    def payoffs(self, start: int, hits: IntArray, rows: IntArray) -> tuple[IntArray, Iterator[FloatArray]]:
        """Blocks that close in the minutes from `start` (of the epoch): the index of the minute that closes each, and
        one after another their payoffs [2, 16·C].

        `hits` int64 [T, C, 16] and `rows` int64 [T] per minute; to be called for every minute once, in order. Blocks
        without rows are left out, as they make no bet.
        """
        if self.block_minutes == 1:
            closing = np.flatnonzero(rows)
            return closing, self._of(hits[closing], rows[closing])
        ends = np.flatnonzero((start + np.arange(rows.size) + 1) % self.block_minutes == 0)
        bounds = np.concatenate([[0], ends + 1, [rows.size]])
        summed = np.concatenate([np.zeros((1, *hits.shape[1:]), dtype=np.int64), np.cumsum(hits, axis=0)])
        total = np.concatenate([[0], np.cumsum(rows)])
        block_hits, block_rows = np.diff(summed[bounds], axis=0), np.diff(total[bounds])
        block_hits[0] += self._hits
        block_rows[0] += self._rows
        self._hits, self._rows = block_hits[-1], int(block_rows[-1])
        held = np.flatnonzero(block_rows[:-1])
        return ends[held], self._of(block_hits[held], block_rows[held])

    def place(self, payoff: FloatArray) -> float:
        """Place every bet on one block [2, 16·C]; the largest R afterwards."""
        np.multiply(payoff, self._stakes, out=self._factors)
        np.add(self._factors, 1.0, out=self._factors)
        np.add(self.r, self._credit, out=self.r)
        np.multiply(self.r, self._factors, out=self.r)
        most = float(self.r.max())
        if most > EVIDENCE_CAP:
            np.minimum(self.r, EVIDENCE_CAP, out=self.r)
        return most

    def means(self) -> FloatArray:
        """Mean R of every column, float64 [C]."""
        sums = self.r.sum(axis=(0, 1)).reshape(-1, EVENTS).sum(axis=1)
        mean: FloatArray = sums / (EVENTS * 2 * len(STAKES))
        return mean

    def reset(self, columns: npt.NDArray[np.bool_]) -> None:
        """Restart the evidence of the columns marked in bool [C] at 0."""
        self.r[:, :, np.repeat(columns, EVENTS)] = 0.0

    def _of(self, hits: IntArray, rows: IntArray) -> Iterator[FloatArray]:
        flat = hits.reshape(rows.size, self.r.shape[2])
        for first in range(0, rows.size, _SLICE):
            own = slice(first, first + _SLICE)
            share = flat[own] / rows[own, np.newaxis]
            payoff = np.empty((share.shape[0], 2, share.shape[1]))
            np.divide(share, self._edges[0], out=payoff[:, 0])
            np.divide(1.0 - share, self._edges[1], out=payoff[:, 1])
            payoff -= 1.0
            yield from payoff


def minute_hits(cells: npt.NDArray[np.int16], evidence: IntArray, draws: IntArray, weight: int) -> IntArray:
    """Hits of one column's 16 events per minute, int64 [T, 16], from the fine cells of its draws."""
    keys = np.repeat(np.arange(draws.size) * EVENTS, draws) + evidence[cells]
    counts = np.bincount(keys, minlength=draws.size * EVENTS).reshape(draws.size, EVENTS)
    hits = np.zeros_like(counts)
    hits[:, :_BELOW] = np.cumsum(counts, axis=1)[:, 1:-2]
    hits[:, _OUT_OF_RANGE] = counts[:, 0] + counts[:, -1]
    return hits * weight
