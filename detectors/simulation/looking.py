r"""What the windows that end at every minute of a chunk show, column by column, and only where somebody asks.

Statistics are the shipped ones (`ks`, `psi`, the rates of `decision.effect`), from running sums of counts. PSI and the rates
need counts at the deciles and at the two ends alone. D needs all K cuts, so it is approached in three steps, each of which
leaves few minutes to the next:

1. counts at some fifty cuts bracket D: low = max |F_w - F_b| there, and between two of them neither function leaves
   the values it has at their ends, so high = max(F_w(c') - F_b(c), F_b(c') - F_w(c)) over neighbours c < c';
2. counts at some 250 cuts bracket it five times as closely;
3. D of all cuts, from the cells of the window's rows, at the minutes that are still open.

Every answer is that of the kernel on all cells, at every minute.
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
_FEW: Final = 64
"""So many minutes are no dearer on all cuts than a closer bracket is."""
_BLOCK: Final = 64


class Look:
    """The windows of `seconds` [W] that end with each of the T new minutes of a chunk."""

    def __init__(self, grid: Grid, chunk: Chunk, minutes: tuple[int, ...]) -> None:
        self.grid, self.chunk, self.windows = grid, chunk, minutes
        self._total = np.concatenate([[0], np.cumsum(chunk.rows)])
        self._stop = np.arange(chunk.new, chunk.new + chunk.minutes) + 1
        self._starts = [np.maximum(self._stop - w, 0) for w in minutes]
        self._running: dict[int, IntArray] = {}
        self._finer: dict[int, IntArray] = {}
        self._below: tuple[tuple[int, int], IntArray] | None = None

    def rows(self, window: int) -> IntArray:
        """Rows in each window, int64 [T]."""
        rows: IntArray = self._total[self._stop] - self._total[self._starts[window]]
        return rows

    def below(self, column: int, window: int) -> IntArray:
        """Rows at or below each coarse cut, int64 [T, J]."""
        if self._below is None or self._below[0] != (column, window):
            running = self._cumulated(column)
            self._below = (column, window), running[self._stop] - running[self._starts[window]]
        return self._below[1]

    def ks_reaches(self, column: int, window: int, threshold: FloatArray) -> BoolArray:
        """Whether D >= threshold [T] at every minute; False below 30 rows."""
        n = self.rows(window)
        now = self.below(column, window) / np.maximum(n, 1)[:, np.newaxis]
        low, high = (
            self._low(column, now, self.grid.coarse_cuts),
            self._high(column, now, self.grid.coarse_cuts),
        )
        enough = n >= MIN_ROWS_KS
        reaches: BoolArray = enough & (low >= threshold + _ROUNDING)
        undecided = np.flatnonzero(enough & ~reaches & (high >= threshold - _ROUNDING))
        if undecided.size > _FEW:
            now = self._closer(column, window, undecided)
            low, high = (
                self._low(column, now, self.grid.fine_cuts),
                self._high(column, now, self.grid.fine_cuts),
            )
            sure = low >= threshold[undecided] + _ROUNDING
            reaches[undecided[sure]] = True
            undecided = undecided[~sure & (high >= threshold[undecided] - _ROUNDING)]
        reaches[undecided] = self.distances(column, window, undecided) >= threshold[undecided]
        return reaches

    def ks_peak(self, column: int, window: int, allowed: BoolArray, above: float = -1.0) -> float:
        """The largest D over the allowed minutes whose windows have 30 rows, if it is more than `above`; else `above`."""
        n = self.rows(window)
        now = self.below(column, window) / np.maximum(n, 1)[:, np.newaxis]
        high = self._high(column, now, self.grid.coarse_cuts) + _ROUNDING
        best = above
        minutes = np.flatnonzero(allowed & (n >= MIN_ROWS_KS) & (high > best))
        high = high[minutes]
        if minutes.size > _FEW:
            now = self._closer(column, window, minutes)
            high = self._high(column, now, self.grid.fine_cuts) + _ROUNDING
        while minutes.size:
            likely = np.sort(np.argsort(-high, kind="stable")[:_FEW])
            best = max(best, float(self.distances(column, window, minutes[likely]).max()))
            high[likely] = -1.0
            left = high > best
            minutes, high = minutes[left], high[left]
        return best

    def distances(self, column: int, window: int, minutes: IntArray | None = None) -> FloatArray:
        """D on all cuts, the lower end that decisions read, at rising `minutes` (None: at each) [M]; NaN without rows."""
        grid = self.grid
        at = np.arange(self._stop.size) if minutes is None else minutes
        n = self.rows(window)[at]
        found, counts = np.full(at.size, np.nan), np.zeros(grid.trained.shape[1] + 1, dtype=np.int64)
        came, left = 0, 0
        for first in range(0, at.size, _BLOCK):
            own = slice(first, first + _BLOCK)
            begins, ends = self._starts[window][at[own]], self._stop[at[own]]
            if first == 0:
                came = left = int(begins[0])
            within = self._changes(column, np.append(came, ends), np.append(left, begins), counts.size)
            within[0] += counts
            for minute in range(1, within.shape[0]):  # eight times as fast as a sum along the first axis
                within[minute] += within[minute - 1]
            counts, came, left = within[-1], int(ends[-1]), int(begins[-1])
            # Products below 2^53 are exact in float64.
            below = np.cumsum(within, axis=1)[:, :-1] * float(self.chunk.weight * grid.m)
            rows = n[own, np.newaxis].astype(np.float64)
            up = (below - rows * grid.trained_below[column]).max(axis=1)
            down = (rows * grid.trained[column] - below).max(axis=1)
            held = n[own] > 0
            found[own][held] = (np.maximum(up, down) / np.maximum(rows[:, 0] * grid.m, 1.0))[held]
        return found

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

    def _changes(self, column: int, came: IntArray, left: IntArray, size: int) -> IntArray:
        """Draws per cell that enter in minutes came[i]..came[i+1] of the chunk less those that leave in left[i]..left[i+1]:
        int64 [M, size] from M + 1 of each."""
        chunk = self.chunk
        changes = np.zeros((came.size - 1) * size, dtype=np.int64)
        for sign, bounds in ((1, chunk.offsets[came]), (-1, chunk.offsets[left])):
            keys = np.repeat(np.arange(came.size - 1) * size, np.diff(bounds))
            keys += chunk.cells[column][bounds[0] : bounds[-1]]
            changes += sign * np.bincount(keys, minlength=changes.size)
        return changes.reshape(-1, size)

    def _low(self, column: int, now: FloatArray, cuts: IntArray) -> FloatArray:
        """The lower end of D, [M], from shares at or below the cuts, [M, J]."""
        grid = self.grid
        above = (now - grid.trained_below[column][cuts] / grid.m).max(axis=1)
        low: FloatArray = np.maximum(above, (grid.trained[column][cuts] / grid.m - now).max(axis=1))
        return low

    def _high(self, column: int, now: FloatArray, cuts: IntArray) -> FloatArray:
        """The upper end of D, [M], from shares at or below the cuts, [M, J]; the lower end is nowhere above it."""
        grid = self.grid
        then = grid.trained[column][cuts] / grid.m
        rise, fall = (now[:, 1:] - then[:-1]).max(axis=1), (then[1:] - now[:, :-1]).max(axis=1)
        # Below the first cut and above the last training has no rows.
        outside = np.maximum(now[:, 0] - grid.trained_below[column][cuts[0]] / grid.m, then[-1] - now[:, -1])
        high: FloatArray = np.maximum(np.maximum(rise, fall), outside)
        return high

    def _closer(self, column: int, window: int, minutes: IntArray) -> FloatArray:
        """Shares of the window at or below each fine cut at `minutes`, each with rows: float64 [M, J]."""
        if column not in self._finer:
            self._finer[column] = _cumulated(
                self.chunk, self.grid.fine[self.chunk.cells[column]], self.grid.fine_cuts.size
            )
        running, n = self._finer[column], self.rows(window)[minutes]
        found: FloatArray = (running[self._stop[minutes]] - running[self._starts[window][minutes]]) / n[
            :, np.newaxis
        ]
        return found

    def _cumulated(self, column: int) -> IntArray:
        """Rows at or below each coarse cut since the chunk's first minute: int64 [minutes + 1, J]."""
        if column not in self._running:
            cells = self.grid.coarse[self.chunk.cells[column]]
            self._running[column] = _cumulated(self.chunk, cells, self.grid.coarse_cuts.size)
        return self._running[column]


def _cumulated(chunk: Chunk, cells: IntArray, cuts: int) -> IntArray:
    """Rows at or below each cut since the chunk's first minute, int64 [minutes + 1, cuts], from the cell of every draw."""
    draws = np.diff(chunk.offsets)
    keys = np.repeat(np.arange(draws.size) * (cuts + 1), draws)
    keys += cells
    counts = np.bincount(keys, minlength=draws.size * (cuts + 1)).reshape(draws.size, cuts + 1)
    running = np.zeros((draws.size + 1, cuts), dtype=np.int64)
    np.cumsum(counts[:, :-1], axis=1, out=running[1:])
    for minute in range(1, draws.size):  # several times as fast as a sum along the first axis
        running[minute + 1] += running[minute]
    running *= chunk.weight
    return running


def rate_psi(hits: IntArray | int, rows: IntArray, trained_hits: int, trained_rows: int) -> FloatArray:
    """The effect of a rate as `decision.effect` has it, float64 [T]."""
    p: FloatArray = (np.asarray(hits) + 0.5) / (rows + 1.0)
    q = np.full(p.shape, (trained_hits + 0.5) / (trained_rows + 1.0))
    return psi_two_cells(p, q)
