"""Which rules are simulated: driftd's own, and those its peers ship, as if somebody asked them every minute.

The peers' rules look at the last 24 hours and alarm when any column exceeds its threshold; most of them were made for one look at
a batch. That is how they are used where somebody schedules them, and it is what their rows in the tables say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import special
from scipy.interpolate import CubicSpline
from scipy.stats import kstwo

from detectors.decision.effect import MIN_ROWS_KS
from detectors.simulation.looking import BoolArray, Look
from detectors.simulation.streams import TRAINING_ROWS
from detectors.types import DetectorError, FloatArray, IntArray

WINDOW_MINUTES: Final = (15, 60, 360, 1_440)
"""The default windows."""
DAY_WINDOW: Final = 3
_FILL: Final = 1e-4
"""What peers put in the place of an empty bin's share."""
_ALPHA: Final = 0.05

Condition = Callable[[Look, int, int], BoolArray]
"""(look, column, columns of the model) → whether the column alarms, bool [T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: a peer's `condition`, or driftd's evidence key, with its effect key or `alone`, after learning or not."""

    about: str
    condition: Condition | None = None
    alone: bool = False
    learns: bool = False
    needs_sums: bool = False


def _ks(alpha: float, *, shared: bool) -> Condition:
    def condition(look: Look, column: int, columns: int) -> BoolArray:
        n = look.rows(DAY_WINDOW)
        level = alpha / columns if shared else alpha
        effective = np.rint(n * look.grid.m / (n + look.grid.m)).astype(np.int64)
        critical = critical_distance(level, np.maximum(effective, 20))
        return look.ks_reaches(column, DAY_WINDOW, critical)

    return condition


def _psi(threshold: float) -> Condition:
    def condition(look: Look, column: int, columns: int) -> BoolArray:  # noqa: ARG001  # as Condition has it
        p, q = _shares(look, column)
        p, q = np.where(p > 0, p, _FILL), np.where(q > 0, q, _FILL)
        index: FloatArray = ((p - q) * np.log(p / q)).sum(axis=1)
        return _enough(look) & (index >= threshold)

    return condition


def _jensen_shannon(look: Look, column: int, columns: int) -> BoolArray:  # noqa: ARG001  # as Condition has it
    """Base e, as scipy's default."""
    p, q = _shares(look, column)
    u = (p + q) / 2
    divergence: FloatArray = (special.rel_entr(p, u) + special.rel_entr(q, u)).sum(axis=1) / 2
    return _enough(look) & (divergence >= 0.1**2)


def _wasserstein(look: Look, column: int, columns: int) -> BoolArray:  # noqa: ARG001  # as Condition has it
    far: BoolArray = wasserstein(look, column, DAY_WINDOW) >= 0.1
    return _enough(look) & far


def wasserstein(look: Look, column: int, window: int) -> FloatArray:
    """W1 over the training sd at every minute, float64 [T], by the trapezoid rule between some fifty cuts.

    Of normal rows that is within .002 of the distance of the raw rows at .1, and within 3 % at .5; what lies beyond the
    training range is left out.
    """
    grid = look.grid
    now = look.below(column, window) / np.maximum(look.rows(window), 1)[:, np.newaxis]
    gap = np.abs(now - grid.trained[column][grid.coarse_cuts] / grid.m)
    area: FloatArray = ((gap[:, 1:] + gap[:, :-1]) / 2 * np.diff(grid.coarse_values[column])).sum(axis=1)
    distance: FloatArray = area / grid.spread[column]
    return distance


def _mean(look: Look, column: int, columns: int) -> BoolArray:  # noqa: ARG001  # as Condition has it
    """Welch's test."""
    mean, variance = look.moments(column, DAY_WINDOW)
    n, m = np.maximum(look.rows(DAY_WINDOW), 2), look.grid.m
    trained = look.grid.baseline.profile.moments[column]
    ours, theirs = variance / n, trained[2] / (m - 1) / m
    freedom = (ours + theirs) ** 2 / (ours**2 / (n - 1) + theirs**2 / (m - 1))
    t = np.abs(mean - trained[1]) / np.sqrt(ours + theirs)
    critical: FloatArray = special.stdtrit(np.maximum(freedom, 1.0), 1.0 - _ALPHA / 2)
    beyond: BoolArray = t > critical
    return _enough(look) & beyond


RULES: Final = {
    "two_key_a": Rule(about="driftd: both keys, preset A, blocks of a minute"),
    "two_key_c": Rule(about="driftd: both keys, learned from the first 14 days", learns=True),
    "evidence_alone": Rule(about="driftd's evidence key alone, blocks of a minute", alone=True),
    "ks_p_value": Rule(about="KS p < .05 in any column", condition=_ks(_ALPHA, shared=False)),
    "ks_bonferroni": Rule(
        about="KS p < .05 / columns (alibi-detect's default)", condition=_ks(_ALPHA, shared=True)
    ),
    "psi_010": Rule(about="PSI >= .1 on deciles, empty bins filled with 1e-4", condition=_psi(0.1)),
    "psi_025": Rule(about="PSI >= .25 on deciles, empty bins filled with 1e-4", condition=_psi(0.25)),
    "wasserstein_010": Rule(
        about="W1/sd >= .1 (Evidently's default above 1000 rows)", condition=_wasserstein
    ),
    "jensenshannon_010": Rule(
        about="Jensen-Shannon distance >= .1 on ten bins (Evidently)", condition=_jensen_shannon
    ),
    "mean_p_value": Rule(about="Welch's test of the mean, p < .05", condition=_mean, needs_sums=True),
}


def rules_of(names: Sequence[str]) -> dict[str, Rule]:
    """The rules of these names; an unknown one is refused with the table's keys."""
    unknown = [name for name in names if name not in RULES]
    if unknown or not names:
        raise DetectorError(f"no rule {', '.join(map(repr, unknown))}; there are {', '.join(RULES)}")
    return {name: RULES[name] for name in names}


def critical_distance(alpha: float, effective: IntArray) -> FloatArray:
    """The D whose p-value is `alpha`, as `ks.smirnov_p` has it, for effective sizes [T] of 20 to 10 000."""
    found: FloatArray = _scaled_critical(alpha)(np.log(effective)) / np.sqrt(effective)
    return found


@lru_cache(maxsize=16)
def _scaled_critical(alpha: float) -> CubicSpline:
    """sqrt(size)·D against log(size): so smooth that a hundred sizes give all to 1e-6, a thousand times as fast."""
    sizes = np.unique(np.geomspace(20, TRAINING_ROWS, 100).round())
    return CubicSpline(np.log(sizes), np.sqrt(sizes) * kstwo.isf(alpha, sizes))


def _enough(look: Look) -> BoolArray:
    enough: BoolArray = look.rows(DAY_WINDOW) >= MIN_ROWS_KS
    return enough


def _shares(look: Look, column: int) -> tuple[FloatArray, FloatArray]:
    w, b = look.deciles(column, DAY_WINDOW)
    return w / np.maximum(w.sum(axis=1, keepdims=True), 1), b / b.sum()
