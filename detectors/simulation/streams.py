"""The rows of a simulated model, chunk by chunk: how many arrive each minute, and the cell of each value.

Rows are drawn one by one, not as multinomial counts per minute. 60 rows of a column cost 1.2 us, as much as the 15 binomials
of a multinomial draw on the cells that are bet on (fewer rows cost less, binomials do not); the level may differ by
minute at no cost; and all thousand cells of any window are known where a decision hangs on them.

Every column, and the arrivals, draw from a generator of their own, in order of time, so results do not depend on the chunks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from detectors.profile import ColumnData, build_baseline
from detectors.simulation.grid import Cells, Grid, Rows
from detectors.simulation.scenarios import MINUTES_PER_DAY, Scenario
from detectors.types import ColumnRole, ColumnType, FloatArray, IntArray

TRAINING_ROWS: Final = 10_000
HISTORY: Final = MINUTES_PER_DAY
"""Minutes kept before a chunk: the longest window."""
_WEEK: Final = 7 * MINUTES_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Minutes `first`..`stop` (exclusive) of a model; those before `start` are the history that windows reach into.

    `rows` int64 [stop-first] per minute. `offsets` int64 [stop-first+1]: where a minute's draws begin; `weight`: rows per
    draw. `cells` [C] of int16 [draws]. `sums` float64 [stop-first, C, 2]: sum and sum of squares of the values, or None.
    """

    first: int
    start: int
    stop: int
    weight: int
    rows: IntArray
    offsets: IntArray
    cells: tuple[Cells, ...]
    sums: FloatArray | None

    @property
    def minutes(self) -> int:
        """New minutes."""
        return self.stop - self.start

    @property
    def new(self) -> int:
        """Index of the first new minute."""
        return self.start - self.first


class Streams:
    """The traffic of one simulated model of `columns` columns. `sums` asks for sums of values, too."""

    def __init__(
        self, scenario: Scenario, columns: int, seed: np.random.SeedSequence, *, sums: bool = False
    ) -> None:
        self._scenario = scenario
        self._arrivals, *own = (np.random.Generator(np.random.SFC64(s)) for s in seed.spawn(1 + 2 * columns))
        self._values, self._levels = own[:columns], own[columns:]
        self._phases = np.array([g.uniform(0.0, 2.0 * np.pi) for g in self._levels])
        self.grid = Grid.of(
            build_baseline(
                [
                    ColumnData(
                        name=f"x{c:02d}",
                        role=ColumnRole.FEATURE,
                        type=ColumnType.NUMERIC,
                        dtype="float32",
                        values=self._training(c),
                    )
                    for c in range(columns)
                ],
                60,
                (),
                None,
                "simulation",
            )
        )
        self._wander = np.array([g.normal(0.0, scenario.wander_sd) for g in self._levels])
        self._sums = sums
        self.shift_at: int | None = None
        """The minute from which the scenario's shift is in force; None: never."""
        self._minute = 0
        self._rows = np.zeros(0, dtype=np.int64)
        self._cells: list[Cells] = [np.zeros(0, dtype=np.int16) for _ in range(columns)]
        self._kept_sums = np.zeros((0, columns, 2))

    def take(self, minutes: int) -> Chunk:
        """The next `minutes`, with up to a day of history."""
        scenario = self._scenario
        at = np.arange(self._minute, self._minute + minutes)
        draws = self._arrivals.poisson(
            scenario.rows_per_minute / scenario.batch * _volume(scenario, at)
        ).astype(np.int64)
        kept = min(self._rows.size, HISTORY)
        dropped = int(self._rows[: self._rows.size - kept].sum())
        self._rows = np.concatenate([self._rows[self._rows.size - kept :], draws])
        sums = np.zeros((minutes, len(self._cells), 2))
        for c, ruler in enumerate(self.grid.rulers):
            values = self._draw(c, at, draws)
            self._cells[c] = np.concatenate([self._cells[c][dropped:], ruler.cells(values)])
            if self._sums:
                sums[:, c] = _sums(values, draws)
        if self._sums:
            self._kept_sums = np.concatenate([self._kept_sums[len(self._kept_sums) - kept :], sums])
        self._minute += minutes
        return Chunk(
            first=self._minute - minutes - kept,
            start=self._minute - minutes,
            stop=self._minute,
            weight=scenario.batch,
            rows=self._rows * scenario.batch,
            offsets=np.concatenate([[0], np.cumsum(self._rows)]),
            cells=tuple(self._cells),
            sums=self._kept_sums * scenario.batch if self._sums else None,
        )

    def _draw(self, c: int, at: IntArray, draws: IntArray) -> Rows:
        scenario, generator = self._scenario, self._values[c]
        values = generator.standard_normal(int(draws.sum()), dtype=np.float32)
        if not scenario.still:
            values += np.repeat(self._level(c, at).astype(np.float32), draws)
        shift = scenario.shift
        if shift is None or self.shift_at is None or int(at[-1]) < self.shift_at:
            return values
        begin = int(draws[at < self.shift_at].sum())
        moved = values[begin:] * np.float32(shift.scale) + np.float32(shift.mean_sd)
        if shift.share_of_rows < 1.0:
            struck = generator.random(moved.size, dtype=np.float32) < np.float32(shift.share_of_rows)
            moved = np.where(struck, moved, values[begin:])
        values[begin:] = moved
        return values

    def _level(self, c: int, at: IntArray) -> FloatArray:
        scenario = self._scenario
        level = _season(scenario, at, float(self._phases[c]))
        if scenario.wander_sd > 0.0:
            rho = float(np.exp(-1.0 / scenario.wander_minutes))
            noise = self._levels[c].normal(0.0, scenario.wander_sd * np.sqrt(1.0 - rho * rho), at.size)
            walked, _ = lfilter([1.0], [1.0, -rho], noise, zi=[rho * self._wander[c]])
            self._wander[c] = walked[-1]
            level = level + walked
        return level

    def _training(self, c: int) -> npt.NDArray[np.float32]:
        """Rows of the same process at random times, with the volume of each."""
        scenario, generator = self._scenario, self._values[c]
        week = np.arange(_WEEK)
        volume = _volume(scenario, week)
        at = generator.choice(week, size=TRAINING_ROWS, p=volume / volume.sum())
        level = _season(scenario, at, float(self._phases[c]))
        wander = generator.normal(0.0, scenario.wander_sd, TRAINING_ROWS)
        values: npt.NDArray[np.float32] = (level + wander + generator.standard_normal(TRAINING_ROWS)).astype(
            np.float32
        )
        return values


def _season(scenario: Scenario, at: IntArray, phase: float) -> FloatArray:
    day = 2.0 * np.pi * at / MINUTES_PER_DAY
    weekend = at // MINUTES_PER_DAY % 7 >= 5
    level: FloatArray = scenario.daily_sd * np.sin(day + phase) + scenario.weekend_sd * weekend
    return level


def _volume(scenario: Scenario, at: IntArray) -> FloatArray:
    volume: FloatArray = 1.0 + scenario.volume_swing * np.sin(2.0 * np.pi * at / MINUTES_PER_DAY)
    return volume


def _sums(values: Rows, draws: IntArray) -> FloatArray:
    """Sum and sum of squares per minute, float64 [minutes, 2]."""
    found = np.zeros((draws.size, 2))
    held = np.flatnonzero(draws)
    if held.size:
        first = (np.cumsum(draws) - draws)[held]
        wide = values.astype(np.float64)
        found[held, 0] = np.add.reduceat(wide, first)
        found[held, 1] = np.add.reduceat(wide * wide, first)
    return found
