r"""What the windows that end at every minute of a chunk show, column by column, and only where somebody asks.

Statistics are the shipped ones (`ks`, `psi`, the rates of `decision.effect`), from running sums of counts. PSI and the rates
need counts at the deciles and at the two ends alone. D needs all K cuts, and is compared with its threshold in three steps,
each of which decides most of what the one before left open:

1. counts at some fifty cuts bracket D: low = max |F_w - F_b| there, and between two of them neither function leaves
   the values it has at their ends, so high = max(F_w(c') - F_b(c), F_b(c') - F_w(c)) over neighbours c < c';
2. D of all cuts, from the cells of the window's rows, at the first minute left open;
3. that D holds for later minutes within 1 - s/max(n, n'), for windows of n and n' rows that share s: the two empirical
   distributions have at least so much mass in common, and F_w cannot move by more than what they have not.

Where that would take many steps, because a threshold is within chance of D all day, D is worked out for every minute from
running counts of all cells. Either way every answer is that of the kernel on all cells, at every minute.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.decision.bands import psi_two_cells
from detectors.decision.effect import MIN_ROWS_KS
from detectors.psi import SMOOTHING
from detectors.simulation.grid import Grid
from detectors.simulation.streams import Chunk
from detectors.types import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

_ROUNDING: Final = 1e-9
_AHEAD: Final = 512
_STEPS: Final = 24
"""So many single windows cost as much as every minute of a day."""
_BLOCK: Final = 64


class Look:
    """The windows of `seconds` [W] that end with each of the T new minutes of a chunk."""

    def __init__(self, grid: Grid, chunk: Chunk, minutes: tuple[int, ...]) -> None:
        self.grid, self.chunk, self.windows = grid, chunk, minutes
        self._total = np.concatenate([[0], np.cumsum(chunk.rows)])
        self._stop = np.arange(chunk.new, chunk.new + chunk.minutes) + 1
        self._starts = [np.maximum(self._stop - w, 0) for w in minutes]
        self._running: dict[int, IntArray] = {}
        self._distances: dict[tuple[int, int], FloatArray] = {}

    def rows(self, window: int) -> IntArray:
        """Rows in each window, int64 [T]."""
        rows: IntArray = self._total[self._stop] - self._total[self._starts[window]]
        return rows

    def below(self, column: int, window: int) -> IntArray:
        """Rows at or below each coarse cut, int64 [T, J]."""
        running = self._cumulated(column)
        found: IntArray = running[self._stop] - running[self._starts[window]]
        return found

    def ks_reaches(self, column: int, window: int, threshold: FloatArray) -> BoolArray:
        """Whether D >= threshold [T] at every minute; False below 30 rows."""
        n = self.rows(window)
        low, high = self._bracket(column, window, n)
        enough = n >= MIN_ROWS_KS
        reaches: BoolArray = enough & (low >= threshold + _ROUNDING)
        undecided = np.flatnonzero(enough & ~reaches & (high >= threshold - _ROUNDING))
        steps = 0
        while undecided.size:
            steps += 1
            if steps > _STEPS or (column, window) in self._distances:
                found = self.distances(column, window)[undecided]
                reaches[undecided] = found >= threshold[undecided]
                break
            at, ahead = int(undecided[0]), undecided[:_AHEAD]
            distance = self.distance(column, window, at)
            room = distance - threshold[ahead]
            slack = self._moved(window, at, ahead)
            sure = (room + slack < -_ROUNDING) | (room - slack >= _ROUNDING)
            sure[0] = True
            stop = ahead.size if sure.all() else int(sure.argmin())
            reaches[ahead[:stop]] = room[:stop] >= 0.0
            undecided = undecided[stop:]
        return reaches

    def ks_peak(self, column: int, window: int, allowed: BoolArray) -> float:
        """The largest D over the allowed minutes, NaN where no window has 30 rows."""
        n = self.rows(window)
        _, high = self._bracket(column, window, n)
        high = np.where(allowed & (n >= MIN_ROWS_KS), high, -1.0)
        minutes, best, steps = np.arange(high.size), float("nan"), 0
        while high.max() > (best if best == best else -0.5):
            steps += 1
            if steps > _STEPS:
                return max(best, float(self.distances(column, window)[high > best].max()))
            at = int(high.argmax())
            distance = self.distance(column, window, at)
            best = distance if not best >= distance else best
            high = np.minimum(high, np.where(high >= 0.0, distance + self._moved(window, at, minutes), -1.0))
            high[at] = -1.0
        return best

    def distance(self, column: int, window: int, at: int) -> float:
        """D of one window on all cuts: the lower end that decisions read."""
        grid, chunk = self.grid, self.chunk
        begin, end = (chunk.offsets[int(side[at])] for side in (self._starts[window], self._stop))
        cells = np.bincount(chunk.cells[column][begin:end], minlength=grid.trained.shape[1] + 1)
        below = np.cumsum(cells)[:-1] * chunk.weight
        n = int(self.rows(window)[at])
        above = below * grid.m - n * grid.trained[column]
        under = below * grid.m - n * grid.trained_below[column]
        return float(max(above.max(), -above.min(), under.max(), -under.min()) / (n * grid.m))

    def distances(self, column: int, window: int) -> FloatArray:
        """D of the window at every minute, float64 [T], NaN without rows."""
        key = (column, window)
        if key not in self._distances:
            grid, n = self.grid, self.rows(window)
            size = grid.trained.shape[1] + 1
            found, counts = np.full(n.size, np.nan), np.zeros(size, dtype=np.int64)
            for first in range(0, n.size, _BLOCK):
                last = min(first + _BLOCK, n.size)
                within = self._changes(column, window, first, last, size)
                within[0] += counts
                for minute in range(1, last - first):  # eight times as fast as a sum along the first axis
                    within[minute] += within[minute - 1]
                counts = within[-1]
                # Products below 2^53 are exact in float64.
                below = np.cumsum(within, axis=1)[:, :-1] * float(self.chunk.weight * grid.m)
                ends = n[first:last, np.newaxis].astype(np.float64)
                up = (below - ends * grid.trained_below[column]).max(axis=1)
                down = (ends * grid.trained[column] - below).max(axis=1)
                held = n[first:last] > 0
                found[first:last][held] = (np.maximum(up, down) / np.maximum(ends[:, 0] * grid.m, 1.0))[held]
            self._distances[key] = found
        return self._distances[key]

    def deciles(self, column: int, window: int) -> tuple[IntArray, IntArray]:
        """Rows of each of the ten PSI bins, int64 [T, 10], and of training [10]."""
        grid = self.grid
        found = self.below(column, window)[:, grid.deciles]
        trained = grid.trained[column][grid.coarse_cuts[grid.deciles]]
        ends = self.rows(window)[:, np.newaxis]
        return np.diff(found, axis=1, prepend=0, append=ends), np.diff(trained, prepend=0, append=grid.m)

    def psi(self, column: int, window: int) -> FloatArray:
        """The shipped PSI at every minute, float64 [T], whatever the rows."""
        w, b = self.deciles(column, window)
        bins = b.size
        p = (w + SMOOTHING) / (w.sum(axis=1, keepdims=True) + SMOOTHING * bins)
        q = (b + SMOOTHING) / (self.grid.m + SMOOTHING * bins)
        value: FloatArray = ((p - q) * np.log(p / q)).sum(axis=1)
        return value

    def out_of_range(self, column: int, window: int) -> FloatArray:
        """PSI of the two cells {outside the training range, inside}, float64 [T]."""
        found, n = self.below(column, window), self.rows(window)
        outside = found[:, 0] + n - found[:, -1]
        trained = int(self.grid.trained_below[column][0]) + self.grid.m - int(self.grid.trained[column][-1])
        return rate_psi(outside, n, trained, self.grid.m)

    def moments(self, column: int, window: int) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each window's rows, float64 [T] each; NaN below two rows."""
        assert self.chunk.sums is not None
        running = np.concatenate([np.zeros((1, 2)), np.cumsum(self.chunk.sums[:, column], axis=0)])
        total = running[self._stop] - running[self._starts[window]]
        n = self.rows(window)
        known = n >= 2
        mean = np.where(known, total[:, 0] / np.maximum(n, 1), np.nan)
        variance = (total[:, 1] - n * mean * mean) / np.maximum(n - 1, 1)
        return mean, variance

    def _changes(self, column: int, window: int, first: int, last: int, size: int) -> IntArray:
        """Draws that enter less those that leave, per cell, at minutes first..last of the chunk: int64 [last-first, size].

        At minute 0 everything in the window enters.
        """
        chunk, starts = self.chunk, self._starts[window]
        minutes = np.arange(first, last)
        came = np.where(minutes > 0, self._stop[minutes] - 1, starts[0])
        left = starts[np.maximum(minutes - 1, 0)]
        changes = np.zeros((last - first) * size, dtype=np.int64)
        for sign, begin, end in ((1, came, self._stop[minutes]), (-1, left, starts[minutes])):
            draws = chunk.offsets[end] - chunk.offsets[begin]
            cells = chunk.cells[column][chunk.offsets[begin[0]] : chunk.offsets[end[-1]]]
            keys = np.repeat(np.arange(last - first) * size, draws) + cells
            changes += sign * np.bincount(keys, minlength=changes.size)
        return changes.reshape(last - first, size)

    def _moved(self, window: int, at: int, others: IntArray) -> FloatArray:
        """How far D may be at other minutes from what it is at `at`."""
        starts, total = self._starts[window], self._total
        later, earlier = np.maximum(others, at), np.minimum(others, at)
        shared = np.maximum(total[self._stop[earlier]] - total[starts[later]], 0)
        n = total[self._stop] - total[starts]
        slack: FloatArray = 1.0 - shared / np.maximum(np.maximum(n[at], n[others]), 1)
        return slack

    def _bracket(self, column: int, window: int, n: IntArray) -> tuple[FloatArray, FloatArray]:
        grid = self.grid
        now = self.below(column, window) / np.maximum(n, 1)[:, np.newaxis]
        then = grid.trained[column][grid.coarse_cuts] / grid.m
        then_below = grid.trained_below[column][grid.coarse_cuts] / grid.m
        low = np.maximum((now - then_below).max(axis=1), (then - now).max(axis=1))
        rise = (now[:, 1:] - then[:-1]).max(axis=1)
        fall = (then[1:] - now[:, :-1]).max(axis=1)
        return low, np.maximum(low, np.maximum(rise, fall))

    def _cumulated(self, column: int) -> IntArray:
        """Rows at or below each coarse cut since the chunk's first minute: int64 [minutes + 1, J]."""
        if column not in self._running:
            chunk, grid = self.chunk, self.grid
            size = grid.coarse_cuts.size + 1
            draws = np.diff(chunk.offsets)
            keys = np.repeat(np.arange(draws.size) * size, draws) + grid.coarse[chunk.cells[column]]
            counts = np.bincount(keys, minlength=draws.size * size).reshape(draws.size, size)
            running = np.zeros((draws.size + 1, size - 1), dtype=np.int64)
            np.cumsum(np.cumsum(counts, axis=1)[:, :-1], axis=0, out=running[1:])
            self._running[column] = running * chunk.weight
        return self._running[column]


def rate_psi(hits: IntArray | int, rows: IntArray, trained_hits: int, trained_rows: int) -> FloatArray:
    """The effect of a rate as `decision.effect` has it, float64 [T]."""
    p: FloatArray = (np.asarray(hits) + 0.5) / (rows + 1.0)
    q = np.full(p.shape, (trained_hits + 0.5) / (trained_rows + 1.0))
    return psi_two_cells(p, q)
