"""What traffic is simulated: the table of scenarios.

A stream's value is level + N(0, 1), so that 1 sd is the spread of rows that have one level. The level is a daily cycle with
a phase of each column's own, a step at weekends, and a first-order wander from minute to minute. Training rows are drawn
from the same process at random times, so where there is no shift nothing is wrong however the level moves. Rows arrive by
a Poisson process that all columns share.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from detectors.types import DetectorError

MINUTES_PER_DAY: Final = 1_440
_MILD_WANDER: Final = -1.0 / math.log(0.99)
"""Minutes in which a wander with a correlation of .99 from minute to minute falls to 1/e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What happens to `share_of_rows` (0 to 1) of one column's rows: x → scale·x + mean_sd, in sd of a row."""

    mean_sd: float = 0.0
    scale: float = 1.0
    share_of_rows: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share_of_rows <= 1.0 or self.scale <= 0.0:
            raise DetectorError("a shift moves a share of rows in (0, 1] and scales them by more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of traffic.

    rows_per_minute: the mean. batch: equal rows that arrive together (10: one value, ten times). daily_sd: amplitude
    of the daily cycle of the level; weekend_sd: its step on two days of seven; wander_sd, wander_minutes: standard
    deviation and correlation time of its first-order wander; volume_swing: amplitude of the daily cycle of the
    volume, as a share of it. shift: what is planted (None: nothing is wrong).
    """

    about: str
    rows_per_minute: float
    batch: int = 1
    daily_sd: float = 0.0
    weekend_sd: float = 0.0
    wander_sd: float = 0.0
    wander_minutes: float = 0.0
    volume_swing: float = 0.0
    shift: Shift | None = None

    def __post_init__(self) -> None:
        if not (self.rows_per_minute > 0.0 and math.isfinite(self.rows_per_minute) and self.batch >= 1):
            raise DetectorError(f"rows_per_minute is {self.rows_per_minute}; it must be more than 0")
        if self.wander_sd > 0.0 and not self.wander_minutes > 0.0:
            raise DetectorError("a wander needs a correlation time of more than 0 minutes")
        if not 0.0 <= self.volume_swing < 1.0:
            raise DetectorError("volume_swing is a share of the volume below 1")

    @property
    def still(self) -> bool:
        """Whether the level never moves."""
        return self.daily_sd == 0.0 and self.weekend_sd == 0.0 and self.wander_sd == 0.0


_IID = Scenario(about="independent rows", rows_per_minute=60.0)
_BATCHES = Scenario(about="batches of 10 equal rows", rows_per_minute=60.0, batch=10)
_MILD = Scenario(
    about="mild season: daily .15 sd, wander .1 sd over 100 min, volume ±50 %",
    rows_per_minute=60.0,
    daily_sd=0.15,
    wander_sd=0.1,
    wander_minutes=_MILD_WANDER,
    volume_swing=0.5,
)
_STRONG = Scenario(
    about="strong season: daily .4 sd, weekends +.2 sd, wander .2 sd over 100 min, volume ±50 %",
    rows_per_minute=60.0,
    daily_sd=0.4,
    weekend_sd=0.2,
    wander_sd=0.2,
    wander_minutes=_MILD_WANDER,
    volume_swing=0.5,
)


def _at(scenario: Scenario, rows_per_minute: float) -> Scenario:
    return replace(scenario, rows_per_minute=rows_per_minute)


def _slow(days: int) -> Scenario:
    about = f"slow wander: .2 sd with a correlation time of {days} d"
    return replace(_IID, about=about, wander_sd=0.2, wander_minutes=float(days * MINUTES_PER_DAY))


def _shifted(
    scenario: Scenario, mean_sd: float = 0.0, *, scale: float = 1.0, share_of_rows: float = 1.0
) -> Scenario:
    what = f"{mean_sd:g} sd" if scale == 1.0 else f"scale x{scale:g}"
    part = "" if share_of_rows == 1.0 else f" in {share_of_rows:.0%} of the rows"
    shift = Shift(mean_sd=mean_sd, scale=scale, share_of_rows=share_of_rows)
    return replace(scenario, about=f"{scenario.about}; then a shift of {what}{part}", shift=shift)


SCENARIOS: Final = {
    "iid_60": _IID,
    "iid_2": _at(_IID, 2.0),
    "iid_01": _at(_IID, 0.1),
    "batches_60": _BATCHES,
    "batches_2": _at(_BATCHES, 2.0),
    "mild_60": _MILD,
    "mild_2": _at(_MILD, 2.0),
    "strong_60": _STRONG,
    "wander_1d": _slow(1),
    "wander_3d": _slow(3),
    "wander_7d": _slow(7),
    "shift_025": _shifted(_IID, 0.25),
    "shift_05": _shifted(_IID, 0.5),
    "shift_1": _shifted(_IID, 1.0),
    "shift_2": _shifted(_IID, 2.0),
    "shift_3": _shifted(_IID, 3.0),
    "scale_2": _shifted(_IID, scale=2.0),
    # Failing Loudly (Rabanser et al. 2019) shifts 10, 50 and 100 % of the rows; 100 % are the six above.
    "shift_1_rows_10": _shifted(_IID, 1.0, share_of_rows=0.1),
    "shift_1_rows_50": _shifted(_IID, 1.0, share_of_rows=0.5),
    "shift_3_rows_10": _shifted(_IID, 3.0, share_of_rows=0.1),
    "shift_3_rows_50": _shifted(_IID, 3.0, share_of_rows=0.5),
    "scale_2_rows_10": _shifted(_IID, scale=2.0, share_of_rows=0.1),
    "scale_2_rows_50": _shifted(_IID, scale=2.0, share_of_rows=0.5),
    "mild_shift_05": _shifted(_MILD, 0.5),
    "mild_shift_1": _shifted(_MILD, 1.0),
    "mild_shift_2": _shifted(_MILD, 2.0),
    "strong_shift_1": _shifted(_STRONG, 1.0),
    "strong_shift_2": _shifted(_STRONG, 2.0),
}


def scenario_of(name: str, rows_per_minute: float | None = None) -> Scenario:
    """The scenario of that name, at another rate if one is given; an unknown name is refused with the table's keys."""
    if name not in SCENARIOS:
        raise DetectorError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    found = SCENARIOS[name]
    return found if rows_per_minute is None else _at(found, rows_per_minute)
