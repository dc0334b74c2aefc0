r"""Traffic volume against the same hour of earlier weeks: an alert class of its own, never a page for drift.

Detects that a model is asked far less or far more often than it is at this hour of the week. Blind to what the rows
hold, and to a slow growth over months (the band moves along). Volume says nothing of the data's distribution, so
nothing here reaches `decision`, and no budget of false pages is spent on it.

Let r_1 … r_k be the rows per minute in the k earlier hours of the same hour of week (0 for an hour without rows), and
m how many minutes are judged, with N rows. The band is [Q(q)/s, Q(1−q)·s], Q the inverse empirical CDF (an observed
value, no interpolation) and s the slack. With λ = low·m rows at its lower edge (or high·m at the upper),

    LOW   N < low·m   and  P(Poisson(low·m) <= N) < chance
    HIGH  N > high·m  and  P(Poisson(high·m) >= N) < chance

so that a quarter of an hour without a row is nothing where three an hour are due. The `departure` grows with the
distance from the band in either direction: log2 of the factor by which N + ½ lies beyond the edge, 0 inside.

INSUFFICIENT_DATA below 4 earlier weeks of that hour, or with 0 minutes to judge: never NORMAL for want of history. NaN,
negative and infinite inputs are refused.

False alarms: the next of k+1 exchangeable hours lies below the other k with probability 1/(k+1), which is why s is 2:
an alert needs half the quietest or twice the busiest such hour (k <= 100 at q = .01). Holidays will alert.

>>> import numpy as np
>>> hours = np.tile(np.arange(168), 6)
>>> rows = np.where(hours % 24 < 8, 60, 6_000)
>>> judge(hours, rows, hour=33, rows=1_450, minutes=15).status.value
'normal'
>>> fallen = judge(hours, rows, hour=33, rows=120, minutes=15)
>>> fallen.status.value, fallen.low, round(fallen.departure, 2)
('low', 50.0, 2.64)
>>> [judge(hours, rows, hour=3, rows=0, minutes=minutes).status.value for minutes in (15, 30)]
['normal', 'low']
>>> judge(hours[:400], rows[:400], hour=3, rows=0, minutes=15).status.value
'insufficient_data'

Reference: Hyndman & Fan (1996) for the quantile, their definition 1.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy import special

from detectors.types import DetectorError, IntArray

HOURS_PER_WEEK: Final = 168
MIN_WEEKS: Final = 4
QUANTILE: Final = 0.01
SLACK: Final = 2.0
CHANCE: Final = 1e-4
_MONDAY: Final = 72
"""Hours from Monday 00:00 to the epoch, a Thursday."""


class VolumeStatus(StrEnum):
    """Where the rows per minute lie."""

    NORMAL = "normal"
    LOW = "low"
    HIGH = "high"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What `judge` says. `rate`, `low`, `high` and `median` are rows per minute, of now and of the earlier weeks.

    They are None for INSUFFICIENT_DATA, as is `departure`; `weeks` is how many earlier hours there were.
    """

    status: VolumeStatus
    weeks: int
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    median: float | None = None
    departure: float | None = None


def hour_of_week(epoch_seconds: int) -> int:
    """The hour of the week in UTC, 0 to 167 from Monday 00:00.

    >>> hour_of_week(0), hour_of_week(1_704_067_200), hour_of_week(1_704_067_199)
    (72, 0, 167)
    """
    return (epoch_seconds // 3_600 + _MONDAY) % HOURS_PER_WEEK


def judge(
    hours: IntArray,
    hourly_rows: IntArray,
    *,
    hour: int,
    rows: int,
    minutes: float,
    quantile: float = QUANTILE,
    slack: float = SLACK,
    chance: float = CHANCE,
    min_weeks: int = MIN_WEEKS,
) -> Volume:
    """Compare `rows` in the last `minutes` (of hour `hour` of the week) with a history of whole hours.

    `hours` int64 [H], 0 to 167, and `hourly_rows` int64 [H]: one entry per hour that lies back, in any order, 0 for an hour
    without traffic. Hours before the model's first row and those of known outages are for the caller to leave out.
    """
    _check(hours, hourly_rows, hour, rows, minutes)
    _check_parameters(quantile, slack, chance, min_weeks)
    same = np.sort(hourly_rows[hours == hour])
    if same.size < min_weeks or minutes == 0:
        return Volume(status=VolumeStatus.INSUFFICIENT_DATA, weeks=int(same.size))
    low, median, high = (_quantile(same, q) / 60.0 for q in (quantile, 0.5, 1.0 - quantile))
    low, high = low / slack, high * slack
    rate = rows / minutes
    status, departure = VolumeStatus.NORMAL, 0.0
    if rate < low and special.pdtr(rows, low * minutes) < chance:
        status, departure = VolumeStatus.LOW, math.log2((low * minutes + 0.5) / (rows + 0.5))
    elif rate > high and _at_least(rows, high * minutes) < chance:
        status, departure = VolumeStatus.HIGH, math.log2((rows + 0.5) / (high * minutes + 0.5))
    return Volume(
        status=status, weeks=int(same.size), rate=rate, low=low, high=high, median=median, departure=departure
    )


def _quantile(ordered: IntArray, share: float) -> float:
    # The product may exceed the whole number it stands for by a rounding error.
    rank = math.ceil(share * ordered.size - 1e-9)
    return float(ordered[max(rank, 1) - 1])


def _at_least(rows: int, expected: float) -> float:
    """P(Poisson(expected) >= rows); pdtrc(k, .) is P(> k)."""
    return float(special.pdtrc(rows - 1, expected)) if rows > 0 else 1.0


def _check(hours: IntArray, hourly_rows: IntArray, hour: int, rows: int, minutes: float) -> None:
    if hours.shape != hourly_rows.shape or hours.ndim != 1:
        raise DetectorError(
            f"the history has hours {hours.shape} and rows {hourly_rows.shape}; one of each per hour"
        )
    if hours.dtype.kind not in "iu" or hourly_rows.dtype.kind not in "iu":
        raise DetectorError("the history counts rows in integers; an hour without rows is 0, not NaN")
    if np.any((hours < 0) | (hours >= HOURS_PER_WEEK)) or not 0 <= hour < HOURS_PER_WEEK:
        raise DetectorError(f"hours of the week run from 0 to {HOURS_PER_WEEK - 1}; see hour_of_week")
    if np.any(hourly_rows < 0) or rows < 0:
        raise DetectorError("rows cannot be fewer than 0")
    if not (math.isfinite(minutes) and minutes >= 0):
        raise DetectorError(f"minutes is {minutes}; it is a finite number, 0 or more")


def _check_parameters(quantile: float, slack: float, chance: float, min_weeks: int) -> None:
    if not 0 < quantile < 0.5:
        raise DetectorError(f"quantile is {quantile}; it lies between 0 and one half")
    if not (math.isfinite(slack) and slack >= 1):
        raise DetectorError(f"slack is {slack}; it is a factor of at least 1")
    if not 0 < chance < 1:
        raise DetectorError(f"chance is {chance}; it is a probability between 0 and 1")
    if min_weeks < 1:
        raise DetectorError(f"min_weeks is {min_weeks}; at least 1 earlier week is needed")
