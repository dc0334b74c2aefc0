r"""Inheritance: what a version's calibration is worth to the next version, column by column.

A retrained model sees the same traffic. Where the two baselines' distributions of a column differ by no more than .05,
what was learned of the column's natural movement is kept, around the new training shares:

    low = q_new - (q_old - low_old) - D,    high = q_new + (high_old - q_old) + D,

never narrower than the new baseline's own band. D is the upper end of a certified bracket: between cut points a
distribution function is only known to rise, so at every cell of the union of both baselines' cuts the largest difference
that is possible counts. Categorical columns are compared by total variation over their named categories and `other`
and need the same names. Everything else about the column is taken as it is; evidence is the caller's to restart at 0.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from detectors.counts import Baseline
from detectors.decision.bands import Bands
from detectors.decision.calibration import Calibration, ColumnLearning, unlearned
from detectors.decision.effect import PRESET_A, Thresholds
from detectors.decision.envelope import column_events, trained_shares
from detectors.decision.events import EventIndex
from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import DetectorError, FloatArray, IntArray

MOST_DISTANCE: Final = 0.05
_KEPT: Final = frozenset({ColumnLearning.LEARNED, ColumnLearning.TOO_VARIABLE})


def baseline_distance(first: Baseline, second: Baseline, name: str) -> float:
    """The largest that D between two baselines' columns of this name can be; infinite where they cannot be compared.

    Missing values are compared as a share of their own, and the larger of the two differences counts.
    """
    if name not in first.layout.positions or name not in second.layout.positions:
        return float("inf")
    at, other = first.layout.positions[name], second.layout.positions[name]
    one, two = first.columns[at], second.columns[other]
    if one.type is not two.type or one.role is not two.role:
        return float("inf")
    counts, counts_two = _slots(first, at), _slots(second, other)
    if first.present[at] == 0 or second.present[other] == 0:
        return 0.0 if first.present[at] == second.present[other] == 0 else float("inf")
    missing = abs(first.present[at] / first.profile.rows - second.present[other] / second.profile.rows)
    if isinstance(one, NumericColumn) and isinstance(two, NumericColumn):
        return max(float(missing), _largest_gap(one.cuts, counts, two.cuts, counts_two))
    if isinstance(one, CategoricalColumn) and isinstance(two, CategoricalColumn):
        if set(one.categories) != set(two.categories):
            return float("inf")
        order = [two.categories.index(category) for category in one.categories]
        known = len(order)
        shares = counts[: known + 1] / counts[: known + 2].sum()
        others = counts_two[[*order, known]] / counts_two[: known + 2].sum()
        return max(float(missing), float(np.abs(shares - others).sum() / 2.0))
    return float("inf")


def inherit(
    old: Calibration, old_baseline: Baseline, new_index: EventIndex, *, block_seconds: int
) -> Calibration:
    """The calibration of a new baseline: learned columns of the old one where they still fit, LEARNING elsewhere.

    `block_seconds` is the length for columns that inherit nothing.
    """
    old_index = EventIndex.of(old_baseline)
    if not np.array_equal(old.starts, old_index.starts) or old.bands.low.shape != old_index.column.shape:
        raise DetectorError("the calibration belongs to another baseline than the one passed with it")
    fresh = unlearned(new_index, old.windows, block_seconds)
    assert fresh.thresholds.rates is not None
    assert old.thresholds.rates is not None
    tables = [t.copy() for t in (fresh.thresholds.theta, fresh.thresholds.psi, fresh.thresholds.rates)]
    sources = (old.thresholds.theta, old.thresholds.psi, old.thresholds.rates)
    low, high = fresh.bands.low.copy(), fresh.bands.high.copy()
    seconds = fresh.block_seconds.copy()
    tau, delay, detectable = (fresh.tau_seconds.copy() for _ in range(3))
    states = []
    theta, psi = PRESET_A.cautious(old.windows)
    for column, spec in enumerate(new_index.baseline.columns):
        before = old_baseline.layout.positions.get(spec.name, -1)
        distance = baseline_distance(old_baseline, new_index.baseline, spec.name)
        if distance > MOST_DISTANCE or old.states[before] not in _KEPT:
            states.append(ColumnLearning.LEARNING)
            for table, cautious in zip(tables, (theta, psi, psi), strict=True):
                table[..., column] = cautious
            continue
        states.append(old.states[before])
        place = column_events(new_index, column)
        low[place], high[place] = _carried(old, old_index, before, new_index, column, distance, fresh.bands)
        for table, source in zip(tables, sources, strict=True):
            table[..., column] = source[..., before]
        seconds[column], tau[column] = old.block_seconds[before], old.tau_seconds[before]
        delay[column], detectable[column] = old.delay_seconds[before], old.detectable[before]
    return replace(
        fresh,
        bands=Bands(low=low, high=high),
        thresholds=Thresholds(theta=tables[0], psi=tables[1], rates=tables[2]),
        block_seconds=seconds,
        states=tuple(states),
        source=old.source,
        span=old.span,
        tau_seconds=tau,
        delay_seconds=delay,
        detectable=detectable,
    )


def _carried(
    old: Calibration,
    old_index: EventIndex,
    before: int,
    new_index: EventIndex,
    column: int,
    distance: float,
    floor: Bands,
) -> tuple[FloatArray, FloatArray]:
    """The old band around the new shares, [J]; an edge at 0 or 1 stays there."""
    place, was = column_events(new_index, column), column_events(old_index, before)
    order = _matching(old_index, before, new_index, column) + was.start
    trained, then = trained_shares(new_index)[place], trained_shares(old_index)[order]
    down, up = old.bands.low[order], old.bands.high[order]
    low = np.where(down > 0.0, np.maximum(trained - (then - down) - distance, 0.0), 0.0)
    high = np.where(up < 1.0, np.minimum(trained + (up - then) + distance, 1.0), 1.0)
    return np.minimum(low, floor.low[place]), np.maximum(high, floor.high[place])


def _matching(old_index: EventIndex, before: int, new_index: EventIndex, column: int) -> IntArray:
    """For each of the new column's events, which of the old column's is the same one: quantile by quantile, name by name."""
    place, was = column_events(new_index, column), column_events(old_index, before)
    matches = np.arange(place.stop - place.start)
    spec, old = new_index.baseline.columns[column], old_index.baseline.columns[before]
    if isinstance(spec, CategoricalColumn) and isinstance(old, CategoricalColumn):
        named = [old.categories.index(category) for category in spec.categories]
        matches[: len(named)] = named
    assert old_index.kinds[was] == new_index.kinds[place]
    return matches


def _slots(baseline: Baseline, column: int) -> IntArray:
    slots: IntArray = baseline.profile.counts[baseline.layout.slices[column]]
    return slots


def _largest_gap(cuts: FloatArray, counts: IntArray, cuts_two: FloatArray, counts_two: IntArray) -> float:
    """The upper end of D between two distributions that are each counted on their own cut points."""
    points = np.union1d(cuts, cuts_two)
    one, two = _known(points, cuts, counts), _known(points, cuts_two, counts_two)
    return float(max((one[1] - two[0]).max(), (two[1] - one[0]).max()))


def _known(points: FloatArray, cuts: FloatArray, counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Bounds of the distribution function at and between points [P]: its least and most on 2P+1 cells, [2P+1] each."""
    cells = 2 * cuts.size + 1
    share = np.cumsum(counts[:cells]) / counts[:cells].sum()
    at_cut, before_cut = share[1::2], share[0::2][:-1]
    place = np.searchsorted(cuts, points)
    on = (place < cuts.size) & (cuts[np.minimum(place, cuts.size - 1)] == points)
    # Between cuts F lies between its value at the cut on the left and that just before the cut on the right.
    left = np.concatenate([[0.0], at_cut])[place]
    right = np.concatenate([before_cut, [1.0]])[place]
    least_at = np.where(on, at_cut[np.minimum(place, cuts.size - 1)], left)
    most_at = np.where(on, least_at, right)
    gap = np.searchsorted(cuts, points, side="right")
    least, most = np.empty(2 * points.size + 1), np.empty(2 * points.size + 1)
    least[1::2], most[1::2] = least_at, most_at
    least[2::2] = np.concatenate([[0.0], at_cut])[gap]
    most[2::2] = np.concatenate([before_cut, [1.0]])[gap]
    least[0], most[0] = 0.0, right[0]
    return least, most
