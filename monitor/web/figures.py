"""From counts to charts: which bars a column's cells make, and how a timeline is thinned."""

from collections.abc import Sequence

import numpy as np

from detectors.counts import Baseline
from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import ColumnState, FloatArray, IntArray
from monitor.explain import cell_quantile, number
from monitor.scores import decode_states
from monitor.web.svg import Bar, Point

BINS = 24
BARS = 20
POINTS = 300


def bars(baseline: Baseline, column: int, then: IntArray, now: IntArray) -> list[Bar]:
    """Shares of the present values per bin, baseline and window (count vectors [layout.length])."""
    described = baseline.columns[column]
    place = baseline.layout.slices[column]
    if isinstance(described, CategoricalColumn):
        return _categories(described, then[place], now[place])
    cells = 2 * described.cuts.size + 1
    return _numbers(described, then[place][:cells], now[place][:cells])


def points(rows: Sequence[tuple[int, bytes]]) -> list[Point]:
    """The strongest evidence over columns at each stored boundary, at most POINTS of them, the largest of each stretch."""
    found = []
    for boundary, states in rows:
        column_states, _, evidence = decode_states(states)
        if evidence.size:
            drift = any(state == ColumnState.DRIFT for state in column_states)
            found.append(Point(at=boundary, value=float(evidence.max()), drift=drift))
    width = -(-len(found) // POINTS) or 1
    stretches = [found[i : i + width] for i in range(0, len(found), width)]
    return [max(stretch, key=lambda point: point.value) for stretch in stretches]


def _categories(column: CategoricalColumn, then: IntArray, now: IntArray) -> list[Bar]:
    names = [*column.categories, "(rare)", "(new)"]
    old, new = _shares(then[: len(names)]), _shares(now[: len(names)])
    order = sorted(range(len(names)), key=lambda i: -max(old[i], new[i]))[:BARS]
    return [
        Bar(label=names[i], baseline=float(old[i]), window=float(new[i]))
        for i in order
        if max(old[i], new[i]) > 0
    ]


def _numbers(column: NumericColumn, then: IntArray, now: IntArray) -> list[Bar]:
    if column.exact and column.cuts.size <= BARS:
        return _values(column, then, now)
    # Both sides' bulk must be on the chart; beyond the training range only a number of rows is known.
    sides = [cells for cells in (then, now) if cells.any()]
    low = min((cell_quantile(column.cuts, cells, 0.005) for cells in sides), default=0.0)
    high = max((cell_quantile(column.cuts, cells, 0.995) for cells in sides), default=0.0)
    edges = np.linspace(low, high, BINS - 1) if high > low else np.array([low])
    middles = _middles(column.cuts)
    bins = np.searchsorted(edges, middles, side="left")
    old, new = (_shares(np.bincount(bins, weights=cells, minlength=edges.size + 1)) for cells in (then, now))
    labels = [f"≤ {number(edge)}" for edge in edges.tolist()] + [f"> {number(float(edges[-1]))}"]
    return [
        Bar(label=label, baseline=float(a), window=float(b))
        for label, a, b in zip(labels, old, new, strict=True)
    ]


def _values(column: NumericColumn, then: IntArray, now: IntArray) -> list[Bar]:
    old, new = _shares(then), _shares(now)
    shown = []
    for cell in range(then.size):
        label = number(float(column.cuts[cell // 2])) if cell % 2 else "other"
        if cell % 2 or max(old[cell], new[cell]) > 0:
            shown.append(Bar(label=label, baseline=float(old[cell]), window=float(new[cell])))
    return shown


def _middles(cuts: FloatArray) -> FloatArray:
    """A value that stands for each cell: the cut, the middle of an interval, or just beyond the ends."""
    middles = np.empty(2 * cuts.size + 1)
    middles[1::2] = cuts
    middles[2:-1:2] = (cuts[:-1] + cuts[1:]) / 2
    middles[0] = np.nextafter(cuts[0], -np.inf)
    middles[-1] = np.nextafter(cuts[-1], np.inf)
    return middles


def _shares(counts: IntArray | FloatArray) -> FloatArray:
    total = float(counts.sum())
    shares: FloatArray = counts / total if total else np.zeros(counts.size)
    return shares
