"""What a simulation came to, with intervals of 95 %."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from scipy import stats

from detectors.simulation.scenarios import MINUTES_PER_DAY
from detectors.types import FloatArray, IntArray

Interval = tuple[float, float]

MINUTES_PER_YEAR: Final = 525_960
_RESAMPLES: Final = 2_000
_WEEK: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One rule on one scenario.

    Without a shift: `model_years` counted (settling apart), `false_pages` in them: incidents of the model, that is times when the
    first of its columns' alerts fires; `column_alerts_per_model_year` counts every column's alert, which is what the
    promise bounds. `minutes_in_alarm_share`: minutes in which an incident is open.
    With one: `shifts` columns that were not in alarm when it came, and of them the delay to the alert in hours, and the share
    that had none within `horizon_days`; `in_alarm_before_share` of all columns. A median or 90 % quantile that lies beyond
    the horizon is None, as is all that a scenario does not show.
    Intervals: of rates by Poisson (Garwood), of shares of minutes by resampled weeks, of delays by resampled columns
    (too narrow where rows are few, as the columns of a replicate share their arrivals).
    `learned`: columns per state of learning at the end.
    """

    scenario: str
    rule: str
    seed: int
    columns: int
    rows_per_minute: float
    false_pages_budget: float
    model_years: float
    false_pages: int | None
    false_pages_per_model_year: float | None
    false_pages_interval: Interval | None
    column_alerts_per_model_year: float | None
    minutes_in_alarm_share: float | None
    minutes_in_alarm_interval: Interval | None
    shifts: int
    in_alarm_before_share: float | None
    delay_hours_median: float | None
    delay_hours_median_interval: tuple[float | None, float | None] | None
    delay_hours_p90: float | None
    missed_share: float | None
    missed_interval: Interval | None
    horizon_days: float | None
    learned: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is counted while a rule runs: over all replicates of the model."""

    minutes: int = 0
    pages: int = 0
    column_alerts: int = 0
    shifted: int = 0
    before: int = 0
    alarm_days: list[tuple[int, int]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    learned: dict[str, int] = field(default_factory=dict)

    def result(
        self,
        *,
        scenario: str,
        rule: str,
        seed: int,
        columns: int,
        rows_per_minute: float,
        budget: float,
        horizon_days: float | None,
    ) -> Result:
        """The summary; `horizon_days` is None where no shift was planted."""
        rng = np.random.default_rng(seed)
        years = self.minutes / MINUTES_PER_YEAR
        planted = horizon_days is not None
        counted = not planted and years > 0.0
        delays = np.array(self.delays)
        missed = int(np.isinf(delays).sum())
        low, high = poisson_interval(self.pages)
        return Result(
            scenario=scenario,
            rule=rule,
            seed=seed,
            columns=columns,
            rows_per_minute=rows_per_minute,
            false_pages_budget=budget,
            model_years=years,
            false_pages=self.pages if counted else None,
            false_pages_per_model_year=self.pages / years if counted else None,
            false_pages_interval=(low / years, high / years) if counted else None,
            column_alerts_per_model_year=self.column_alerts / years if counted else None,
            minutes_in_alarm_share=self._share() if counted else None,
            minutes_in_alarm_interval=_weekly(self.alarm_days, rng) if counted else None,
            shifts=delays.size,
            in_alarm_before_share=self.before / self.shifted if self.shifted else None,
            delay_hours_median=_quantile(delays, 0.5),
            delay_hours_median_interval=_delay_interval(delays, rng),
            delay_hours_p90=_quantile(delays, 0.9),
            missed_share=missed / delays.size if delays.size else None,
            missed_interval=_binomial(missed, delays.size) if delays.size else None,
            horizon_days=horizon_days,
            learned=dict(self.learned),
        )

    def count(self, firing: IntArray) -> None:
        """Take in the minutes [T] of one replicate, 1 where an incident is open."""
        for first in range(0, firing.size, MINUTES_PER_DAY):
            day = firing[first : first + MINUTES_PER_DAY]
            self.alarm_days.append((int(day.sum()), day.size))

    def _share(self) -> float:
        alarmed, minutes = (sum(day[i] for day in self.alarm_days) for i in (0, 1))
        return alarmed / minutes


def poisson_interval(events: int) -> Interval:
    """The 95 % interval of a Poisson mean (Garwood 1936).

    >>> [round(end, 3) for end in poisson_interval(0)], [round(end, 3) for end in poisson_interval(10)]
    ([0.0, 3.689], [4.795, 18.39])
    """
    low = float(stats.chi2.ppf(0.025, 2 * events)) / 2 if events else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * events + 2)) / 2


def _binomial(hits: int, total: int) -> Interval:
    found = stats.binomtest(hits, total).proportion_ci()
    return float(found.low), float(found.high)


def _weekly(days: Sequence[tuple[int, int]], rng: np.random.Generator) -> Interval:
    """Weeks drawn again with replacement; days of one week go together."""
    table = np.array(days, dtype=np.int64)
    weeks = np.add.reduceat(table, np.arange(0, len(days), _WEEK), axis=0)
    drawn = weeks[rng.integers(0, len(weeks), size=(_RESAMPLES, len(weeks)))].sum(axis=1)
    return _ends(drawn[:, 0] / drawn[:, 1])


def _delay_interval(delays: FloatArray, rng: np.random.Generator) -> tuple[float | None, float | None] | None:
    if delays.size == 0:
        return None
    drawn = np.sort(delays[rng.integers(0, delays.size, size=(_RESAMPLES, delays.size))], axis=1)
    medians = np.sort(_lower(drawn, 0.5))
    low, high = (float(medians[int(q * (_RESAMPLES - 1))]) for q in (0.025, 0.975))
    return _finite(low), _finite(high)


def _quantile(values: FloatArray, q: float) -> float | None:
    return _finite(float(_lower(np.sort(values), q))) if values.size else None


def _lower(ordered: FloatArray, q: float) -> FloatArray:
    """The order statistic ceil(q·n) along the last axis: unlike an interpolated one it may be infinite beside finite ones."""
    found: FloatArray = ordered[..., max(int(np.ceil(q * ordered.shape[-1])) - 1, 0)]
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _ends(values: FloatArray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


Progress = Callable[[float], None]
"""Told the share that is done."""
