"""How right predictions turned out to be: intervals for readers, and the tests behind a floor that somebody has set.

Source: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22; the exact
binomial test; the normal approximation of a mean of at least `MIN_LABELLED` errors.
"""

import math
from typing import Final

from scipy.special import bdtr, ndtr, ndtri

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
    """How likely a mean absolute error as large as this is where the true one is `ceiling`; normal approximation.

    `absolute_error` and `squared_error` are sums over `labelled` ≥ 2 predictions. Errors without any spread are certain.
    """
    mean = absolute_error / labelled
    variance = max(squared_error / labelled - mean * mean, 0.0) * labelled / (labelled - 1)
    if variance == 0.0:
        return 1.0 if mean <= ceiling else 0.0
    return float(ndtr(-(mean - ceiling) / math.sqrt(variance / labelled)))
