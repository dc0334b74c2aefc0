r"""How long a column's level remembers: the correlation time that decides how long Phase I must be.

The level is the hourly share of one event, that whose share in training is nearest one half (the median cut of a
continuous column, the commonest category but one near .5 of a categorical one). With r its autocorrelation at lag 6 h,

    tau = -6 h / ln r

the time after which a first-order wander has forgotten all but 1/e. Sampling noise of thin hours lowers r and so hides a
wander. It is independent from hour to hour, hence in the variance only: the ratio of the autocovariances at 6 h and 1 h is
free of it, gives tau = -5 h / ln(ratio), and the longer of the two counts, where the level is correlated at 1 h
beyond chance; the same is asked of levels of six hours, which thin traffic shows better. Short spans flatter: the standard error of tau is about tau sqrt(2 tau / span), and a path of two tau
can look settled by luck. So what is reported and used is the upper end, tau (1 + 2 sqrt(2 tau / span)). A level that has forgotten within 6 h (r no more than chance, also a pure daily cycle: 6 h is a quarter of it) has
the shortest tau that hours can show, 1 h, and so has one that never moves. With less than a day of hours tau is unknown (NaN).
"""

from typing import Final

import numpy as np

from detectors.decision.envelope import BlockStack, column_events, trained_shares
from detectors.decision.events import EventIndex, EventKind
from detectors.types import FloatArray, IntArray

LEVEL_SECONDS: Final = 3_600
LAG_SECONDS: Final = 6 * 3_600
LEAST_PAIRS: Final = 18
"""Pairs of hours 6 h apart: those of one full day."""
_VALUE_KINDS: Final = frozenset({EventKind.BELOW, EventKind.CATEGORY, EventKind.OTHER, EventKind.UNSEEN})
_BEYOND_CHANCE: Final = 3.0
"""Standard errors, 1/sqrt(pairs), that an autocorrelation must exceed to mean anything."""


def level_event(index: EventIndex, column: int) -> int:
    """The value event of a column whose share in training is nearest one half."""
    place = column_events(index, column)
    share = trained_shares(index)[place]
    values = np.array([kind in _VALUE_KINDS for kind in index.kinds[place]])
    return int(place.start) + int(np.where(values, np.abs(share - 0.5), np.inf).argmin())


def correlation_seconds(index: EventIndex, stack: BlockStack) -> FloatArray:
    """tau per column, its upper end, in seconds, float64 [C], from Phase-I blocks; NaN where too little was seen.

    Blocks longer than an hour take the place of hours.
    """
    found = np.full(index.starts.size, np.nan)
    for levels in _levels(stack):
        lag = max(LAG_SECONDS // levels.seconds, 2)
        span = max((levels.span[1] - levels.span[0]) / levels.seconds, 1.0)
        for column in range(index.starts.size):
            tau = correlation_time(*_series(index, levels, column), lag=lag)
            upper = tau * (1.0 + 2.0 * np.sqrt(2.0 * tau / span)) if tau > 1.0 else 1.0 if tau == 1.0 else tau
            if upper == 1.0 and not np.isnan(found[column]):
                continue  # the finer look has said more
            found[column] = np.fmax(found[column], upper * levels.seconds)
    return found


def wanders(index: EventIndex, stack: BlockStack, column: int) -> bool:
    """Whether a column's level is correlated beyond chance from hour to hour, or from six hours to the next six."""
    for levels in _levels(stack):
        at, level = _series(index, levels, column)
        centred = _centred(level)
        found, pairs = _autocovariance(at, centred, 1)
        if pairs > 0 and found > _BEYOND_CHANCE / np.sqrt(pairs) * float((centred * centred).mean()):
            return True
    return False


def _levels(stack: BlockStack) -> list[BlockStack]:
    """Phase I by the hour, and by six hours, where thin traffic shows more; as it is, where its blocks are longer."""
    lengths = [s for s in (LEVEL_SECONDS, LAG_SECONDS) if s % stack.seconds == 0]
    return [stack.longer(seconds) for seconds in lengths] or [stack]


def _series(index: EventIndex, levels: BlockStack, column: int) -> tuple[IntArray, FloatArray]:
    event = level_event(index, column)
    held = levels.events.totals[:, event] > 0
    share = levels.events.hits[held, event] / levels.events.totals[held, event]
    return levels.starts[held] // levels.seconds, share


def correlation_time(at: IntArray, level: FloatArray, *, lag: int = 6) -> float:
    """tau of a series in its own steps, from its values [N] at integer times [N] with gaps; at least 1, infinite, or NaN.

    `lag` is 6 h in steps (2 at least).

    >>> at = np.arange(2_400)
    >>> correlation_time(at, np.sin(at * np.pi / 12))
    1.0
    """
    if at.size == 0:
        return float("nan")
    centred = _centred(level)
    variance = float((centred * centred).mean())
    late, late_pairs = _autocovariance(at, centred, lag)
    early, early_pairs = _autocovariance(at, centred, 1)
    if late_pairs < LEAST_PAIRS or early_pairs < LEAST_PAIRS:
        return float("nan")
    if variance <= 0.0:
        return 1.0
    answers = [1.0]
    if late / variance > _BEYOND_CHANCE / np.sqrt(late_pairs):
        answers.append(_decay(late / variance, lag))
    if early / variance > _BEYOND_CHANCE / np.sqrt(early_pairs):
        answers.append(_decay(late / early, lag - 1))
    return max(answers)


def _centred(level: FloatArray) -> FloatArray:
    # The mean of equal numbers may round, and what is left would be perfectly correlated.
    if level.size == 0 or bool((level == level[0]).all()):
        return np.zeros_like(level)
    centred: FloatArray = level - level.mean()
    return centred


def _decay(ratio: float, steps: int) -> float:
    """Steps in which a first-order wander falls to 1/e, where it falls to `ratio` in `steps` of them."""
    if ratio <= 0.0:
        return 1.0
    return float("inf") if ratio >= 1.0 else -steps / float(np.log(ratio))


def _autocovariance(at: IntArray, centred: FloatArray, lag: int) -> tuple[float, int]:
    place = np.searchsorted(at, at + lag)
    found = np.flatnonzero(place < at.size)
    found = found[at[place[found]] == at[found] + lag]
    if found.size == 0:
        return 0.0, 0
    return float((centred[found] * centred[place[found]]).mean()), int(found.size)
