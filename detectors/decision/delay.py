r"""How soon a bet would turn the evidence key: expected growth, expected delay, and the smallest shift seen in time.

Take blocks of length b, bands [L, U] and the shares p that a column's events had in Phase I. A reference shift of size D
turns p into p', and a block of n rows shows z with mean p' and the variance, and skewness, of a binomial share: two
points suffice, and at n = 1 they are the binomial. The best bet, fixed over all of Phase I, grows by

    g = max over events, directions and stakes f of  E ln(1 + f (z/U - 1))    (or (1-z)/(1-L))

per block. The mean R of a column starts near the budget a of one block and pages at 1, so the best of its 10 J bets has
to grow by ln(10 J / a), and the page comes after

    b (max(1, ln(10 J / a) / g) / occupancy + 1/2)

where occupancy is the share of blocks that hold rows and 1/2 block is the wait for the first one to begin.

**Reference shift.** Numeric: every value moves on the scale of normal scores of the training distribution, up or down,
by the delta with D = 2 Phi(delta/2) - 1 (D = .3 is .77 sd, 1 sd is D = .383). Between the 13 cuts a block's distribution is
interpolated on that scale. Categorical: D of all rows turn into something never seen, or leave the most frequent
category for the next one.
"""

from typing import Final

import numpy as np
from scipy import special

from detectors.decision.envelope import column_events
from detectors.decision.events import EventIndex, EventKind
from detectors.decision.evidence import STAKES
from detectors.types import FloatArray

REFERENCE_SHIFTS: Final = (0.3, 0.6, 0.9)
"""D of the shifts that block lengths are compared on: a larger one where no length can tell a smaller one."""
SOON_SECONDS: Final = 6 * 3_600
MOST_LEVELS: Final = 64
"""Phase-I blocks that an expectation is taken over, evenly spread."""
_END_SCORE: Final = 4.5
_STEPS: Final = 12
"""Bisections for the smallest shift: D to 2^-12."""


def shifted(index: EventIndex, column: int, shares: FloatArray, distance: float) -> FloatArray:
    """Shares [2, G, V] of the column's V value events after the reference shift both ways, from shares [G, J]."""
    place = column_events(index, column)
    kinds = index.kinds[place]
    if kinds[0] is EventKind.BELOW:
        trained = index.trained.hits[place][:13] / np.maximum(index.trained.totals[place][:13], 1)
        return _slid(trained, shares[:, : trained.size], distance)
    named = sum(kind in (EventKind.CATEGORY, EventKind.OTHER, EventKind.UNSEEN) for kind in kinds)
    values = shares[:, :named]
    replaced, swapped = values * (1.0 - distance), values.copy()
    replaced[:, -1] += distance
    moved = np.minimum(values[:, 0], distance)
    swapped[:, 0] -= moved
    swapped[:, 1] += moved
    return np.stack([replaced, swapped])


def growth(shares: FloatArray, rows: float, low: FloatArray, high: FloatArray) -> FloatArray:
    """The best bet's expected log growth per block [S] for shares [S, G, V] in blocks of `rows` rows; -inf without bets.

    `low`, `high` [V] are the bands of these events.
    """
    z, weight = _two_points(shares, rows)
    up = z / np.maximum(high, 2.0**-40) - 1.0
    down = (1.0 - z) / np.maximum(1.0 - low, 2.0**-40) - 1.0
    payoff = np.stack([up, down])[..., np.newaxis]
    logs = np.log1p(np.array(STAKES) * payoff)
    expected = (logs * weight[..., np.newaxis]).sum(axis=1).mean(axis=2)
    can_win = np.stack([high < 1.0, low > 0.0])[:, np.newaxis, :, np.newaxis]
    best: FloatArray = np.where(can_win, expected, -np.inf).max(axis=(0, 2, 3))
    return best


def expected_delay(
    rate: FloatArray, *, seconds: int, bets: int, budget: float, occupancy: float
) -> FloatArray:
    """Seconds from the shift to the evidence key, from growth per block [...]; infinite where it does not grow."""
    grows = rate > 0.0
    blocks = np.log(bets / budget) / np.where(grows, rate, 1.0)
    found: FloatArray = np.where(grows, seconds * (np.maximum(blocks, 1.0) / occupancy + 0.5), np.inf)
    return found


def spread_levels(shares: FloatArray) -> FloatArray:
    """At most 64 of the groups [G, J], evenly spread, and only those with values."""
    whole = shares[np.isfinite(shares[:, 0])]
    if whole.shape[0] <= MOST_LEVELS:
        return whole
    return whole[np.linspace(0, whole.shape[0] - 1, MOST_LEVELS).round().astype(np.int64)]


def _slid(trained: FloatArray, shares: FloatArray, distance: float) -> FloatArray:
    delta = 2.0 * special.ndtri((1.0 + distance) / 2.0)
    scores = np.clip(special.ndtri(trained), -_END_SCORE + 0.5, _END_SCORE - 0.5)
    at, first = np.unique(scores, return_index=True)
    grid = np.concatenate([[-_END_SCORE], at, [_END_SCORE]])
    ends = shares.shape[0], 1
    known = np.concatenate([np.zeros(ends), shares[:, first], np.ones(ends)], axis=1)
    both = []
    for move in (delta, -delta):
        target = np.clip(scores - move, -_END_SCORE, _END_SCORE)
        right = np.clip(np.searchsorted(grid, target), 1, grid.size - 1)
        part = (target - grid[right - 1]) / (grid[right] - grid[right - 1])
        both.append(known[:, right - 1] * (1.0 - part) + known[:, right] * part)
    return np.stack(both)


def _two_points(mean: FloatArray, rows: float) -> tuple[FloatArray, FloatArray]:
    """Two shares and their probabilities, [2, ...] each, with a binomial share's mean, variance and skewness."""
    variance = mean * (1.0 - mean) / rows
    deviation = np.sqrt(variance)
    skew = (1.0 - 2.0 * mean) / np.maximum(np.sqrt(mean * (1.0 - mean) * rows), 1e-150)
    root = np.sqrt(skew * skew + 4.0)
    with np.errstate(over="ignore"):
        upper = np.where(skew > 0, (skew + root) / 2.0, 2.0 / np.maximum(root - skew, 1e-150))
    lower = -1.0 / upper
    weight = 1.0 / (1.0 + upper * upper)
    points = np.clip(np.stack([mean + deviation * upper, mean + deviation * lower]), 0.0, 1.0)
    return points, np.stack([weight, 1.0 - weight])
