"""Phase I of a simulated model: its minutes as blocks, the peaks of its windows, and the calibration they support."""

from typing import Final

import numpy as np

from detectors.decision import BlockEvents, EventIndex
from detectors.decision.calibration import Calibration, CalibrationSource, ended_learning, taking
from detectors.decision.effect import MIN_ROWS_KS, RATES, VALUE_KINDS
from detectors.decision.envelope import BlockStack
from detectors.decision.learning import History, learn
from detectors.decision.peaks import Peaks
from detectors.psi import MIN_ROWS as MIN_ROWS_PSI
from detectors.simulation.looking import BoolArray, Look, rate_psi
from detectors.simulation.rules import WINDOW_MINUTES
from detectors.simulation.scenarios import MINUTES_PER_DAY
from detectors.types import FloatArray, IntArray

ASK_MINUTES: Final = tuple(days * MINUTES_PER_DAY for days in (15, 29, 57, 91))
"""When it is asked what has been learned. The daemon asks more often; a day after each look, for thin traffic does not begin at once."""


class PhaseOne:
    """What a model's traffic showed since minute 0."""

    def __init__(self, index: EventIndex, pages_per_year: float) -> None:
        self._index, self._pages = index, pages_per_year
        self._starts: list[IntArray] = []
        self._hits: list[IntArray] = []
        self._rows: list[IntArray] = []
        self._peaks = Peaks.none(len(WINDOW_MINUTES), index.starts.size).statistic

    def collect(self, look: Look, hits: IntArray) -> None:
        """Take a chunk in; `hits` int64 [T, C, 16] per minute."""
        rows = look.chunk.rows[look.chunk.new :]
        held = np.flatnonzero(rows)
        self._starts.append(60 * (look.chunk.start + held))
        self._hits.append(hits[held].reshape(held.size, -1))
        self._rows.append(rows[held])
        seen = np.array(
            [[self._seen(look, w, c) for c in range(hits.shape[1])] for w in range(len(look.windows))]
        )
        self._peaks = np.fmax(self._peaks, seen.transpose(2, 0, 1))

    def ask(self, before: Calibration | None) -> tuple[Calibration, BoolArray]:
        """The calibration now, and which columns it changes: those that were still learning, or all at first."""
        found = learn(
            self._index,
            [60 * minutes for minutes in WINDOW_MINUTES],
            self.history(),
            source=CalibrationSource.TRAFFIC,
            block_seconds=60,
            false_pages_per_year=self._pages,
        )
        if before is None:
            return found, np.ones(len(found.states), dtype=np.bool_)
        changed = ended_learning(before, found)
        return taking(before, found, changed), changed

    def history(self) -> History:
        """All that was collected."""
        hits = np.concatenate(self._hits)
        # One total per block serves all events: no column of a simulated model ever lacks a value.
        totals = np.broadcast_to(np.concatenate(self._rows)[:, np.newaxis], hits.shape)
        events = BlockEvents(hits=hits, totals=totals)
        stack = BlockStack(seconds=60, starts=np.concatenate(self._starts), events=events)
        return History(blocks=stack, peaks=Peaks(statistic=self._peaks))

    def _seen(self, look: Look, window: int, column: int) -> FloatArray:
        """The largest statistics of one window in the chunk, float64 [5], of windows that are whole; D may be an older peak."""
        n = look.rows(window)
        whole = look.chunk.start + np.arange(n.size) + 1 >= look.windows[window]
        enough = whole & (n >= MIN_ROWS_PSI)
        quiet = rate_psi(0, n, 0, look.grid.m)
        peaks = np.full(VALUE_KINDS + RATES, np.nan)
        if np.any(whole & (n >= MIN_ROWS_KS)):
            before = float(self._peaks[0, window, column])
            peaks[0] = look.ks_peak(column, window, whole, above=before if before == before else -1.0)
        if enough.any():
            outside = look.out_of_range(column, window)
            for kind, value in enumerate((look.psi(column, window), quiet, quiet, outside), start=1):
                peaks[kind] = value[enough].max()
        return peaks
