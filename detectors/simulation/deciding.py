"""The rules at work on a chunk: which columns' alerts are firing at the end of every minute.

An alert fires when its condition turns true and is resolved when the condition has been false for an hour (two blocks, where
that is longer), as `alerts.lifecycle` has it. For driftd's rule the condition that opens is both keys, the one that holds is the
effect alone, and evidence restarts at 0 when the alert is resolved.

The effect is evaluated only in chunks in which a column's evidence key has turned or its alert is firing, and there for every
minute. That changes nothing: without the evidence key no effect opens anything, and there is nothing to hold open.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from detectors.decision import SECONDS_PER_YEAR, EventIndex, Thresholds
from detectors.decision.calibration import Calibration, ColumnLearning, unlearned
from detectors.decision.effect import CHANCE_KS, MIN_ROWS_KS, RATES
from detectors.psi import MIN_ROWS as MIN_ROWS_PSI
from detectors.simulation.bets import EVENTS, Bets
from detectors.simulation.looking import BoolArray, Look, rate_psi
from detectors.simulation.phase_one import ASK_MINUTES, PhaseOne
from detectors.simulation.rules import WINDOW_MINUTES, Condition, Rule
from detectors.types import FloatArray, IntArray

KEEP_MINUTES: Final = 60
_NEVER: Final = -(1 << 40)


class Judge(Protocol):
    """A rule at work on one simulated model."""

    def judge(self, look: Look, hits: IntArray | None) -> BoolArray:
        """Which alerts are firing, bool [T, C]. `hits` int64 [T, C, 16] per minute. Each chunk once, in order."""
        ...


class Classic:
    """A condition per column and minute, held for an hour."""

    def __init__(self, condition: Condition, columns: int) -> None:
        self._condition = condition
        self._hold = _Hold(columns)

    def judge(self, look: Look, hits: IntArray | None) -> BoolArray:  # noqa: ARG002  # as Judge has it
        columns = look.grid.trained.shape[0]
        found = [self._condition(look, column, columns) for column in range(columns)]
        return self._hold.firing(look.chunk.start, np.stack(found, axis=1))


class EvidenceAlone:
    """The evidence key without the effect: every crossing is an alarm, and evidence restarts at once."""

    def __init__(self, index: EventIndex, pages_per_year: float) -> None:
        self._bets = _groups(index, unlearned(index, _seconds(), 60), pages_per_year)[0]
        self._hold = _Hold(index.starts.size)

    def judge(self, look: Look, hits: IntArray | None) -> BoolArray:
        assert hits is not None
        crossed = np.zeros((look.chunk.minutes, self._bets.columns.size), dtype=np.bool_)
        at, payoffs = self._bets.payoffs(look.chunk.start, hits, look.chunk.rows[look.chunk.new :])
        for minute, payoff in zip(at.tolist(), payoffs, strict=True):
            if self._bets.place(payoff) >= 1.0:
                turned = self._bets.means() >= 1.0
                crossed[minute] = turned
                self._bets.reset(turned)
        return self._hold.firing(look.chunk.start, crossed)


class TwoKey:
    """The shipped decision; with `learns` it is silent through Phase I and goes by what that showed."""

    def __init__(self, index: EventIndex, pages_per_year: float, *, learns: bool) -> None:
        columns = index.starts.size
        self._index, self._pages = index, pages_per_year
        self.calibration: Calibration | None = None
        self._learning = PhaseOne(index, pages_per_year) if learns else None
        self._bets: list[Bets] = []
        self._firing = np.zeros(columns, dtype=np.bool_)
        self._false_since = np.full(columns, -1)
        self._keep = np.full(columns, KEEP_MINUTES)
        if not learns:
            self._adopt(unlearned(index, _seconds(), 60), np.ones(columns, dtype=np.bool_))

    def judge(self, look: Look, hits: IntArray | None) -> BoolArray:
        assert hits is not None
        if self._learning is not None and look.chunk.start in ASK_MINUTES:
            learned = self._learning.ask(self.calibration)
            self._adopt(*learned)
            if not any(state is ColumnLearning.LEARNING for state in learned[0].states):
                self._learning = None
        if self._learning is not None:
            self._learning.collect(look, hits)
        fired = np.zeros((look.chunk.minutes, self._firing.size), dtype=np.bool_)
        if self.calibration is not None:
            self._run(look, hits, fired)
        return fired

    def _run(self, look: Look, hits: IntArray, fired: BoolArray) -> None:
        start, rows = look.chunk.start, look.chunk.rows[look.chunk.new :]
        assert self.calibration is not None
        effect = _Effect(look, self.calibration.thresholds)
        due: list[list[tuple[Bets, Iterator[FloatArray]]]] = [[] for _ in range(rows.size)]
        for bets in self._bets:
            at, payoffs = bets.payoffs(start, hits[:, bets.columns], rows)
            for minute in at.tolist():
                due[minute].append((bets, payoffs))
        turned = np.zeros(self._firing.size, dtype=np.bool_)
        for bets in self._bets:
            turned[bets.columns] = bets.means() >= 1.0
        warm = bool(turned.any()) or bool(self._firing.any())
        for minute, closing in enumerate(due):
            for bets, payoffs in closing:
                if bets.place(next(payoffs)) >= 1.0 or warm:
                    turned[bets.columns] = bets.means() >= 1.0
                    warm = True
            if warm:
                self._step(start + minute, effect.at(minute, turned | self._firing), turned)
                fired[minute] = self._firing
                warm = bool(turned.any()) or bool(self._firing.any())

    def _step(self, minute: int, holds: npt.NDArray[np.int8], turned: BoolArray) -> None:
        """One boundary; `holds` [C] is 1, 0, or -1 where no window can tell. Clears `turned` where evidence restarts."""
        was = self._firing.copy()
        self._firing |= turned & (holds == 1)
        self._false_since[holds == 1] = -1
        gone = was & (holds == 0)
        if not gone.any():
            return
        self._false_since[gone & (self._false_since < 0)] = minute
        over = gone & (minute - self._false_since >= self._keep)
        if over.any():
            self._firing[over] = False
            self._false_since[over] = -1
            turned[over] = False
            for bets in self._bets:
                bets.reset(over[bets.columns])

    def _adopt(self, calibration: Calibration, changed: BoolArray) -> None:
        kept = {int(c): bets.r[:, :, i * EVENTS : (i + 1) * EVENTS]
                for bets in self._bets for i, c in enumerate(bets.columns)}  # fmt: skip
        self.calibration = calibration
        self._bets = _groups(self._index, calibration, self._pages)
        for bets in self._bets:
            for i, c in enumerate(bets.columns.tolist()):
                if c in kept and not changed[c]:
                    bets.r[:, :, i * EVENTS : (i + 1) * EVENTS] = kept[c]
        self._keep = np.maximum(KEEP_MINUTES, 2 * calibration.block_seconds // 60)


class _Effect:
    """Whether the effect of each column holds, worked out for a whole chunk when a column is first asked for."""

    def __init__(self, look: Look, thresholds: Thresholds) -> None:
        self._look, self._thresholds = look, thresholds
        columns = look.grid.trained.shape[0]
        self._holds = np.zeros((look.chunk.minutes, columns), dtype=np.int8)
        self._known = np.zeros(columns, dtype=np.bool_)

    def at(self, minute: int, wanted: BoolArray) -> npt.NDArray[np.int8]:
        for column in np.flatnonzero(wanted & ~self._known).tolist():
            self._holds[:, column] = self._answers(column)
            self._known[column] = True
        answer: npt.NDArray[np.int8] = np.where(wanted, self._holds[minute], np.int8(0))
        return answer

    def _answers(self, column: int) -> npt.NDArray[np.int8]:
        look = self._look
        known = np.zeros(look.chunk.minutes, dtype=np.bool_)
        holds = np.zeros(look.chunk.minutes, dtype=np.bool_)
        for window in range(len(look.windows)):
            known |= look.rows(window) >= MIN_ROWS_KS
            holds |= self._in_window(column, window)
        return np.where(holds, np.int8(1), np.where(known, np.int8(0), np.int8(-1)))

    def _in_window(self, column: int, window: int) -> BoolArray:
        look, limits = self._look, self._thresholds
        n = look.rows(window)
        theta, psi = float(limits.theta[window, column]), float(limits.psi[window, column])
        rates = np.full(RATES, psi) if limits.rates is None else limits.rates[:, window, column]
        enough = n >= MIN_ROWS_PSI
        holds = np.zeros(n.size, dtype=np.bool_)
        if psi < np.inf and enough.any():
            holds |= enough & (look.psi(column, window) >= psi)
        if enough.any() and np.isfinite(rates).any():
            quiet = rate_psi(0, n, 0, look.grid.m)
            holds |= enough & ((quiet >= rates[0]) | (quiet >= rates[1]))
            holds |= enough & (look.out_of_range(column, window) >= rates[2])
        if theta < np.inf and not holds.all():
            limit = np.maximum(theta, CHANCE_KS / np.sqrt(np.maximum(n, 1)))
            holds |= look.ks_reaches(column, window, np.where(holds, np.inf, limit))
        return holds


class _Hold:
    """Alerts that stay for an hour after their condition was last true."""

    def __init__(self, columns: int) -> None:
        self._last = np.full(columns, _NEVER)

    def firing(self, start: int, condition: BoolArray) -> BoolArray:
        """Bool [T, C] from the conditions [T, C] of minutes from `start`."""
        minute = (start + np.arange(condition.shape[0]))[:, np.newaxis]
        last = np.maximum.accumulate(np.where(condition, minute, _NEVER), axis=0)
        last = np.maximum(last, self._last)
        self._last = last[-1]
        firing: BoolArray = minute - last <= KEEP_MINUTES
        return firing


def judge_of(rule: Rule, index: EventIndex, pages_per_year: float) -> Judge:
    """A rule set to work on a model, with the budget of its evidence."""
    if rule.condition is not None:
        return Classic(rule.condition, index.starts.size)
    if rule.alone:
        return EvidenceAlone(index, pages_per_year)
    return TwoKey(index, pages_per_year, learns=rule.learns)


def _groups(index: EventIndex, calibration: Calibration, pages_per_year: float) -> list[Bets]:
    """The bets of every block length."""
    columns = index.starts.size
    budget = calibration.budget(pages_per_year, np.full(columns, 1.0 / columns))
    assert np.all(budget <= pages_per_year * calibration.block_seconds / SECONDS_PER_YEAR)
    lengths: list[int] = np.unique(calibration.block_seconds).tolist()
    members = [np.flatnonzero(calibration.block_seconds == seconds) for seconds in lengths]
    return [
        Bets(own, calibration.bands, budget[own], seconds // 60)
        for own, seconds in zip(members, lengths, strict=True)
    ]


def _seconds() -> tuple[int, ...]:
    return tuple(60 * minutes for minutes in WINDOW_MINUTES)
