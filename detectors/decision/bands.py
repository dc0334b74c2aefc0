r"""Bands: the interval in which each event's expected share may lie while nothing is wrong.

A band is the baseline's uncertainty, widened by a tolerance. Bands are an input of `evidence.advance`: a learned
envelope is just another `Bands`.

**Uncertainty.** All S columns' bands hold together with probability 1 - delta over the training sample: each
column has delta/S, each of its J events delta/(S J), each side half of that.

- A cut is an order statistic X_(r) of the very sample that is counted, hence not a fixed event. Where no other
  training value ties with it, its true share is F(X_(r)): for continuous F a Beta(r, m-r+1) variable, of which the
  Clopper-Pearson ends for r hits in m are the lower quantile and (one rank higher) a safe upper quantile. It is
  exact and narrow in the tails (at m = 10 000 the 1 % cut gets ±.4 points, DKW would give ±2). The same ends
  hold for any F as long as the cut's cell holds one row, because U_(r) <= F(X_(r)) < U_(r+1) for the uniforms behind.
- Where values tie at the cut (discrete columns, rounded ones), or infinities shift the ranks, the number of hits is
  picked by the data among the jumps of F and no single Beta covers it. Those cuts pool their shares of delta for
  one Dvoretzky-Kiefer-Wolfowitz band (Massart 1990), which holds at every point at once:
  epsilon = sqrt(ln(2 S J / (t delta)) / (2 m)) for t tied cuts.
- Missing and non-finite are fixed events: Clopper-Pearson.
- Categories were picked because they were frequent, out of any number, so sharing delta among the K picked would not
  do: of 3000 rare names some come up three times in 400 rows, and all of those are picked. Give every category of
  the population, seen or not, delta' p of its own share p instead. That sums to delta' however many there are, and the
  low end for c rows in m is the p with P(Bin(m, p) >= c) = delta' p (0 for a name seen once).
- Outside [min, max] is 0 by construction in training, not by nature: the mass beyond the extremes is
  Beta(2, m-1), whose quantile is the Clopper-Pearson end for one more hit than was counted.
- Unseen is 0 by construction too. Split the training rows in half at random: the share of the second half that is
  new to the first is a binomial draw of a mass at least as large as the one we want. A category seen c times
  is new with probability <= 2^-c, so all but rare ones (and `other`) can be ruled out, and the rows of the rare ones
  bound that draw. Few categories give ~2 ln(1/alpha)/m, an id column gives 1, that is: no bet.
- The mean confidence: the smaller of Hoeffding and empirical Bernstein (Maurer & Pontil 2009, theorem 4).

**Tolerance.** L and U are where PSI of the two cells {event, not event} against the end of the interval reaches
`tolerance`. As PSI is an f-divergence, PSI(production, training) <= tolerance on any binning forces every event
share into [L, U] (data processing inequality). For the mean confidence it is `mean_tolerance_sd` deviations.

Where training rows come in clumps, `design_effect` (variance over that of independent rows) divides m.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from detectors.decision.events import EventIndex, EventKind
from detectors.types import DetectorError, FloatArray

_BISECTIONS: Final = 64
_FIXED_POINT_STEPS: Final = 40
"""Each halves the error's logarithm or better: the worst case is a category seen twice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bands:
    """`low` and `high` float64 [E], 0 <= low <= high <= 1; low 0 and high 1 leave no bet that could win."""

    low: FloatArray
    high: FloatArray

    def __post_init__(self) -> None:
        sound = (self.low >= 0.0) & (self.low <= self.high) & (self.high <= 1.0)
        if self.low.shape != self.high.shape or not np.all(sound):
            raise DetectorError("bands need 0 <= low <= high <= 1 for every event, and no NaN")


def bands(
    index: EventIndex,
    *,
    delta_baseline: float = 0.01,
    tolerance: float = 0.01,
    mean_tolerance_sd: float = 0.1,
    design_effect: float = 1.0,
) -> Bands:
    """The bands of a baseline as it was trained; see the module's text for the method."""
    if not 0.0 < delta_baseline < 1.0:
        raise DetectorError(f"delta_baseline is {delta_baseline}; it is a probability between 0 and 1")
    if not (tolerance >= 0.0 and mean_tolerance_sd >= 0.0 and design_effect >= 1.0):
        raise DetectorError("tolerance and mean_tolerance_sd are at least 0, design_effect at least 1")
    sizes = np.diff(index.starts, append=index.column.size)
    shares = delta_baseline / (index.starts.size * sizes)
    hits = index.trained.hits / design_effect
    totals = index.trained.totals / design_effect
    kinds = np.array(index.kinds)
    seen = hits + (kinds == EventKind.OUT_OF_RANGE) / design_effect
    alpha = shares[index.column] / 2
    low, _ = clopper_pearson(hits, totals, alpha)
    _, high = clopper_pearson(np.minimum(seen, totals), totals, alpha)
    _allow_for_choice(index, low, high, hits, totals, alpha)
    _widen_tied_cuts(index, low, high, totals, shares)
    _bound_unseen(index, low, high, alpha, design_effect)
    low, high = psi_roots(low, high, tolerance)
    for event in index.mean.tolist():
        alpha_side = float(alpha[event])
        low[event], high[event] = _mean_band(index, event, alpha_side, mean_tolerance_sd, design_effect)
    return Bands(low=low, high=high)


def clopper_pearson(hits: FloatArray, totals: FloatArray, alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Exact binomial bounds (Clopper & Pearson 1934), each side missing with probability <= alpha; [0, 1] at 0 rows."""
    misses = totals - hits
    # The incomplete beta needs positive arguments: the ends that are 0 or 1 by definition get harmless ones.
    low = special.betaincinv(np.where(hits > 0, hits, 1.0), misses + 1.0, alpha)
    high = special.betainccinv(hits + 1.0, np.where(misses > 0, misses, 1.0), alpha)
    return np.where(hits > 0, low, 0.0), np.where(misses > 0, high, 1.0)


def psi_two_cells(p: FloatArray, q: FloatArray) -> FloatArray:
    """PSI of the cells {event, not event}: (p - q) ln(p (1-q) / (q (1-p))), for shares inside (0, 1)."""
    value: FloatArray = (p - q) * (special.logit(p) - special.logit(q))
    return value


def psi_roots(low: FloatArray, high: FloatArray, tolerance: float) -> tuple[FloatArray, FloatArray]:
    """Where PSI of two cells reaches `tolerance` below `low` and above `high`, rounded outwards.

    >>> low, high = psi_roots(np.array([0.5, 0.1]), np.array([0.5, 0.1]), 0.01)
    >>> low.round(6), high.round(6)
    (array([0.450083, 0.072072]), array([0.549917, 0.131928]))
    """
    return _root_below(low, tolerance), 1.0 - _root_below(1.0 - high, tolerance)


def _root_below(q: FloatArray, tolerance: float) -> FloatArray:
    """The p <= q at which PSI falls to `tolerance`: bisection, which keeps p on the outer side of the root."""
    if tolerance == 0.0:
        return q.copy()
    outer, inner = np.zeros_like(q), q.copy()
    live = (q > 0.0) & (q < 1.0)
    for _ in range(_BISECTIONS):
        middle = (outer + inner) / 2
        p, base = np.where(live & (middle > 0.0), middle, 0.5), np.where(live, q, 0.5)
        beyond = psi_two_cells(p, base) > tolerance
        outer = np.where(beyond, middle, outer)
        inner = np.where(beyond, inner, middle)
    return np.where(live, outer, q)


def _allow_for_choice(
    index: EventIndex,
    low: FloatArray,
    high: FloatArray,
    hits: FloatArray,
    totals: FloatArray,
    alpha: FloatArray,
) -> None:
    """Replace the bounds of categories by ones that hold for every category of the population at once."""
    named = np.array([kind is EventKind.CATEGORY for kind in index.kinds])
    if not np.any(named):
        return
    known = np.bincount(index.column[named], minlength=index.starts.size)
    pooled, c, m = (known[index.column] * alpha)[named], hits[named], totals[named]
    # For p above c/m the exact bound has alpha = pooled p > pooled c/m: this end is on the safe side.
    _, high[named] = clopper_pearson(c, m, pooled * c / m)
    bound = c / m
    for _ in range(_FIXED_POINT_STEPS):
        bound, _ = clopper_pearson(c, m, pooled * bound)
    # P(Bin(m, p) >= c) falls no faster than p does where c <= 1: nothing above 0 is ever refuted.
    low[named] = np.where(c > 1.0, bound, 0.0)


def _widen_tied_cuts(
    index: EventIndex, low: FloatArray, high: FloatArray, totals: FloatArray, shares: FloatArray
) -> None:
    counts, layout = index.baseline.profile.counts, index.baseline.layout
    below = np.array([kind is EventKind.BELOW for kind in index.kinds])
    # One past an "x <= cut" event's last slot comes after the cut's own cell.
    at_cut = counts[np.where(below, index.stop - 1, 0)]
    infinite = np.zeros(index.starts.size, dtype=np.int64)
    infinite[layout.numeric] = counts[layout.non_finite]
    tied = below & (totals > 0) & ((at_cut > 1) | (infinite[index.column] > 0))
    pooled = np.bincount(index.column[tied], minlength=index.starts.size)[index.column[tied]]
    rows = totals[tied]
    error = np.sqrt(np.log(2.0 / (pooled * shares[index.column[tied]])) / (2.0 * rows))
    share = (index.trained.hits[tied] / index.trained.totals[tied]).astype(np.float64)
    # Every value is at or below the maximum or above it: at F = 1 only the lower side can err, and DKW says so too.
    low[tied] = np.maximum(share - error, 0.0)
    high[tied] = np.minimum(share + error, 1.0)


def _bound_unseen(
    index: EventIndex, low: FloatArray, high: FloatArray, alpha: FloatArray, design_effect: float
) -> None:
    for event, kind in enumerate(index.kinds):
        if kind is not EventKind.UNSEEN or index.trained.totals[event] == 0:
            continue
        first = int(index.starts[index.column[event]])
        named = np.sort(index.trained.hits[first : event - 1])[::-1].astype(np.float64)
        safe = np.cumsum(np.exp2(-named / design_effect)) <= alpha[event] / 2
        rare_rows = float(named[~safe].sum() + index.trained.hits[event - 1])
        half = float(index.trained.totals[event] // 2)
        drawn = np.array([min(rare_rows, half) / design_effect])
        _, bound = clopper_pearson(drawn, np.array([half / design_effect]), alpha[event : event + 1] / 2)
        high[event] = bound[0]
        # What training calls "other" loses to "unseen" whatever mass was never drawn.
        low[event - 1] = max(low[event - 1] - bound[0], 0.0)


def _mean_band(
    index: EventIndex, event: int, alpha: float, tolerance_sd: float, design_effect: float
) -> tuple[float, float]:
    n, _, squares = index.baseline.profile.moments[int(index.column[event])]
    if n < 2:
        return 0.0, 1.0
    mean = float(index.trained.hits[event] / index.trained.totals[event])
    # A variable in [0, 1] with this mean cannot vary more; stray values outside must not widen the band.
    variance = min(float(squares) / (n - 1), mean * (1.0 - mean) * n / (n - 1))
    m = max(n / design_effect, 2.0)
    hoeffding = np.sqrt(np.log(2.0 / alpha) / (2.0 * m))
    bernstein = np.sqrt(2.0 * variance * np.log(4.0 / alpha) / m) + 7.0 * np.log(4.0 / alpha) / (
        3.0 * (m - 1.0)
    )
    error = tolerance_sd * np.sqrt(variance) + min(hoeffding, bernstein)
    return max(mean - float(error), 0.0), min(mean + float(error), 1.0)
