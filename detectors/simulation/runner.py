"""Running rules on a scenario: replicates of a model, each with training rows and traffic of its own.

Without a shift a replicate lasts a quarter of a year after settling (a day; the 14 days of Phase I where a rule learns).
With one, every column of the model is shifted after settling, so a replicate gives as many delays as it has columns, and
ends when all rules have alarmed in all of them, or after ten days. Each column has the budget of one of `columns`.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.decision import EventIndex
from detectors.simulation.bets import minute_hits
from detectors.simulation.deciding import Judge, TwoKey, judge_of
from detectors.simulation.looking import BoolArray, Look
from detectors.simulation.phase_one import ASK_MINUTES
from detectors.simulation.result import MINUTES_PER_YEAR, Progress, Result, Tally
from detectors.simulation.rules import WINDOW_MINUTES, Rule, rules_of
from detectors.simulation.scenarios import MINUTES_PER_DAY, Scenario, scenario_of
from detectors.simulation.streams import Chunk, Streams
from detectors.types import DetectorError, IntArray

SETTLING: Final = MINUTES_PER_DAY
REPLICATE: Final = MINUTES_PER_YEAR // 4
HORIZON: Final = 10 * MINUTES_PER_DAY


def simulate(
    scenario: str | Scenario,
    rules: Sequence[str],
    *,
    years: float,
    seed: int = 0,
    columns: int = 36,
    rows_per_minute: float | None = None,
    false_pages_per_year: float = 0.1,
    chunk_minutes: int = MINUTES_PER_DAY,
    progress: Progress | None = None,
) -> dict[str, Result]:
    """One result per rule, all on the same traffic.

    `years` are those counted; with a planted shift, those spent at most (settling and ten days for each replicate).
    The same seed gives the same result, whatever `chunk_minutes`.
    """
    name = scenario if isinstance(scenario, str) else "custom"
    found = scenario_of(scenario, rows_per_minute) if isinstance(scenario, str) else scenario
    if not (years > 0.0 and np.isfinite(years)):
        raise DetectorError(f"years is {years}; it must be more than 0")
    if columns < 1 or chunk_minutes < 1 or seed < 0:
        raise DetectorError("columns and chunk_minutes are at least 1, the seed at least 0")
    if not (false_pages_per_year >= 0.0 and np.isfinite(false_pages_per_year)):
        raise DetectorError(f"false_pages_per_year is {false_pages_per_year}; it is finite, 0 or more")
    chosen = rules_of(rules)
    tallies = {rule: Tally() for rule in chosen}
    left, replicate = max(round(years * MINUTES_PER_YEAR), 1), 0
    whole = left
    while left > 0:
        run = _Run(
            found, chosen, np.random.SeedSequence(seed, spawn_key=(replicate,)), columns, false_pages_per_year
        )
        counted = HORIZON if found.shift else min(left, REPLICATE)
        run.go(counted, chunk_minutes, tallies)
        left -= run.settling + counted if found.shift else counted
        replicate += 1
        if progress is not None:
            progress(1.0 - max(left, 0) / whole)
    return {
        rule: tally.result(
            scenario=name,
            rule=rule,
            seed=seed,
            columns=columns,
            rows_per_minute=found.rows_per_minute,
            budget=false_pages_per_year,
            horizon_days=HORIZON / MINUTES_PER_DAY if found.shift else None,
        )
        for rule, tally in tallies.items()
    }


class _Run:
    """One replicate."""

    def __init__(
        self,
        scenario: Scenario,
        rules: dict[str, Rule],
        seed: np.random.SeedSequence,
        columns: int,
        pages_per_year: float,
    ) -> None:
        self.settling = ASK_MINUTES[0] if any(rule.learns for rule in rules.values()) else SETTLING
        self._streams = Streams(scenario, columns, seed, sums=any(rule.needs_sums for rule in rules.values()))
        if scenario.shift is not None:
            self._streams.shift_at = self.settling
        self._planted = scenario.shift is not None
        index = EventIndex.of(self._streams.grid.baseline)
        self._judges: dict[str, Judge] = {
            name: judge_of(rule, index, pages_per_year) for name, rule in rules.items()
        }
        self._betting = any(rule.condition is None for rule in rules.values())
        self._last = {name: np.zeros(columns, dtype=np.bool_) for name in rules}
        self._first = {name: np.full(columns, np.inf) for name in rules}
        self._open: dict[str, list[BoolArray]] = {name: [] for name in rules}

    def go(self, counted: int, chunk_minutes: int, tallies: dict[str, Tally]) -> None:
        """Settle, then run for `counted` minutes, and count."""
        end = self.settling + counted
        stops = sorted({self.settling, end, *(at for at in ASK_MINUTES if at < end)})
        minute = 0
        while minute < end:
            if minute == self.settling:
                self._begin(tallies)
            step = min(chunk_minutes, next(stop for stop in stops if stop > minute) - minute)
            self._advance(step, tallies, counted=minute >= self.settling)
            minute += step
            if self._planted and minute > self.settling and self._all_found():
                break
        for name, tally in tallies.items():
            self._close(tally, name)

    def _advance(self, minutes: int, tallies: dict[str, Tally], *, counted: bool) -> None:
        chunk = self._streams.take(minutes)
        look = Look(self._streams.grid, chunk, WINDOW_MINUTES)
        hits = self._hits(chunk) if self._betting else None
        for name, judge in self._judges.items():
            firing = judge.judge(look, hits)
            if counted:
                self._count(name, tallies[name], chunk, firing)
            self._last[name] = firing[-1]

    def _count(self, name: str, tally: Tally, chunk: Chunk, firing: BoolArray) -> None:
        if self._planted:
            at = np.where(firing.any(axis=0), chunk.start + firing.argmax(axis=0), np.inf)
            self._first[name] = np.minimum(self._first[name], at)
            return
        before = np.concatenate([self._last[name][np.newaxis], firing[:-1]])
        tally.column_alerts += int((firing & ~before).sum())
        incident: BoolArray = np.logical_or.reduce(firing, axis=1)
        incident_before: BoolArray = np.logical_or.reduce(before, axis=1)
        tally.pages += int((incident & ~incident_before).sum())
        self._open[name].append(incident)

    def _begin(self, tallies: dict[str, Tally]) -> None:
        """The moment of the shift: a column in alarm already has no delay to measure."""
        if not self._planted:
            return
        for name, tally in tallies.items():
            tally.shifted += self._last[name].size
            tally.before += int(self._last[name].sum())
            self._first[name][self._last[name]] = -np.inf

    def _close(self, tally: Tally, name: str) -> None:
        if self._planted:
            measured = self._first[name][self._first[name] > -np.inf]
            # An alarm at the end of minute t comes t + 1 minutes after its beginning.
            tally.delays.extend(((measured + 1 - self.settling) / 60.0).tolist())
        else:
            incident = np.concatenate(self._open[name])
            tally.minutes += incident.size
            tally.count(incident.astype(np.int64))
        judge = self._judges[name]
        if isinstance(judge, TwoKey) and judge.calibration is not None:
            for state in judge.calibration.states:
                tally.learned[state.value] = tally.learned.get(state.value, 0) + 1

    def _all_found(self) -> bool:
        return all(bool(np.isfinite(first[first > -np.inf]).all()) for first in self._first.values())

    def _hits(self, chunk: Chunk) -> IntArray:
        """Hits of every event in the new minutes, int64 [T, C, 16]."""
        begin = int(chunk.offsets[chunk.new])
        draws = np.diff(chunk.offsets[chunk.new :])
        evidence = self._streams.grid.evidence
        found = [minute_hits(cells[begin:], evidence, draws, chunk.weight) for cells in chunk.cells]
        return np.stack(found, axis=1)
