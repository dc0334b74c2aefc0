"""How right predictions turned out to be: intervals for readers, and the tests behind a floor that somebody has set.

Source: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22; the exact
binomial test; Student's t and the binomial tail for a mean of at least `MIN_LABELLED` errors.
"""

import math
from typing import Final

from scipy.special import bdtr, betainc, ndtri, stdtr

MIN_LABELLED: Final = 30
"""Fewer labelled predictions decide nothing."""


def wilson_interval(correct: int, labelled: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share; `labelled` ≥ 1, 0 < level < 1.

    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 4), round(high, 4)
    (0.8256, 0.9448)
    """
    z = float(ndtri(0.5 + level / 2))
    share, z2 = correct / labelled, z * z
    centre = (share + z2 / (2 * labelled)) / (1 + z2 / labelled)
    half = z * math.sqrt(share * (1 - share) / labelled + z2 / (4 * labelled**2)) / (1 + z2 / labelled)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_p_value(correct: int, labelled: int, floor: float) -> float:
    """How likely at most `correct` of `labelled` are right where each is with probability `floor`: P(X ≤ correct).

    The largest such probability over all accuracies of at least `floor` (0 to 1).
    """
    return 1.0 if floor <= 0.0 else float(bdtr(correct, labelled, floor))


def error_p_value(absolute_error: float, squared_error: float, labelled: int, ceiling: float) -> float:
    """How likely a mean absolute error as large as this is where the true one is `ceiling` > 0; 1.0 where it is no larger.

    `absolute_error` and `squared_error` are sums over `labelled` ≥ 2 predictions. The larger of two probabilities: that of
    Student's t, and that of as many successes where each error is either 0 or the one size b that gives these two sums. Of
    errors that are nearly always the same the sample shows no spread, and t alone would be sure of anything: n errors of
    size m where the mean should be c come with probability (c / m)^n, by Markov's inequality, and not with 0.

    >>> round(error_p_value(30 * 1.0, 30 * 1.0, 30, 0.95), 3), round(0.95**30, 3)
    (0.215, 0.215)
    """
    mean = absolute_error / labelled
    if mean <= ceiling:
        return 1.0
    variance = max(squared_error / labelled - mean * mean, 0.0) * labelled / (labelled - 1)
    by_spread = 0.0
    if variance > 0.0:
        by_spread = float(stdtr(labelled - 1, -(mean - ceiling) / math.sqrt(variance / labelled)))
    size = max(squared_error / absolute_error, mean)
    successes = absolute_error / size
    return max(by_spread, float(betainc(successes, labelled - successes + 1, ceiling / size)))
