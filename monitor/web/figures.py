"""From counts to charts: which bars a column's cells make, and how a timeline is thinned."""

import math
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.counts import Baseline
from detectors.profile import CategoricalColumn, Column, NumericColumn
from detectors.types import ColumnType, FloatArray, IntArray
from monitor.explain import cell_quantile, number
from monitor.scores import decode_series
from monitor.web.svg import Bar, Point, histogram, shares

BINS: Final = 24
BARS: Final = 20
POINTS: Final = 300
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


def chart(column: Column, bars: Sequence[Bar], *, title: str, description: str) -> str:
    """The picture of one column: what has names lies in lines, what has an order stands side by side."""
    named = column.type in (ColumnType.CATEGORICAL, ColumnType.BOOLEAN)
    draw = shares if named else histogram
    return draw(bars, title=title, description=description)


def bars(baseline: Baseline, column: int, then: IntArray, now: IntArray) -> list[Bar]:
    """Shares of the present values per bin, baseline and window (count vectors [layout.length])."""
    described = baseline.columns[column]
    place = baseline.layout.slices[column]
    if isinstance(described, CategoricalColumn):
        return _categories(described, then[place], now[place])
    cells = 2 * described.cuts.size + 1
    old, new = then[place][:cells], now[place][:cells]
    if described.type is ColumnType.BOOLEAN:
        return _flags(described, old, new)
    return _numbers(described, old, new)


def points(rows: Sequence[tuple[int, bytes]], column: int | None = None) -> list[Point]:
    """The strongest evidence at each stored boundary, of one column or over all; at most POINTS, the largest of each stretch."""
    drift, evidence = decode_series([states for _, states in rows], column)
    width = -(-len(rows) // POINTS) or 1
    found = []
    for start in range(0, len(rows), width):
        largest = start + int(evidence[start : start + width].argmax())
        found.append(
            Point(
                at=rows[largest][0],
                value=float(evidence[largest]),
                drift=bool(drift[start : start + width].any()),
            )
        )
    return found


def _categories(column: CategoricalColumn, then: IntArray, now: IntArray) -> list[Bar]:
    names = [*column.categories, "(rare)", "(new)"]
    old, new = _shares(then[: len(names)]), _shares(now[: len(names)])
    order = sorted(range(len(names)), key=lambda i: -max(old[i], new[i]))[:BARS]
    return [
        Bar(label=names[i], baseline=float(old[i]), window=float(new[i]))
        for i in order
        if max(old[i], new[i]) > 0
    ]


def _flags(column: NumericColumn, then: IntArray, now: IntArray) -> list[Bar]:
    """False and true. A value that training never had lies beside the only cut there is."""
    true = np.ones(2 * column.cuts.size + 1, dtype=np.bool_)
    true[1::2] = column.cuts >= 0.5
    true[0] = False
    sides = [_shares(np.array([cells[~true].sum(), cells[true].sum()])) for cells in (then, now)]
    return [
        Bar(label=label, baseline=float(sides[0][i]), window=float(sides[1][i]))
        for i, label in enumerate(("false", "true"))
    ]


def _numbers(column: NumericColumn, then: IntArray, now: IntArray) -> list[Bar]:
    if column.exact and column.cuts.size <= BARS:
        return _values(column, then, now)
    # Both sides' bulk must be on the chart; beyond the training range only a number of rows is known.
    sides = [cells for cells in (then, now) if cells.any()]
    low = min((cell_quantile(column.cuts, cells, 0.005) for cells in sides), default=0.0)
    high = max((cell_quantile(column.cuts, cells, 0.995) for cells in sides), default=0.0)
    whole = bool(np.all(column.cuts == np.round(column.cuts)))
    edges = _round_edges(low, high, whole=whole)
    # A little to the right of the edge: 0.3 as float32 is more than 0.3, and belongs to "≤ 0.3" all the same.
    nudge = (edges[1] - edges[0]) * 1e-6 if edges.size > 1 else 0.0
    bins = np.searchsorted(edges + nudge, _middles(column.cuts)[1:-1], side="left")
    old, new = (
        _shares(
            np.concatenate(
                ([cells[0]], np.bincount(bins, weights=cells[1:-1], minlength=edges.size + 1), [cells[-1]])
            )
        )
        for cells in (then, now)
    )
    inner = [(f"≤ {number(edge)}", number(edge)) for edge in edges.tolist()]
    last = number(float(edges[-1]))
    labels = [_below(column), *inner, (f"> {last}", ""), _above(column)]
    ends = {0, len(labels) - 1}
    return [
        Bar(label=label, edge=edge, baseline=float(old[i]), window=float(new[i]), beyond=i in ends)
        for i, (label, edge) in enumerate(labels)
        # The two ends beyond training, and what lies above the bulk, are shown when there is something.
        if (i not in ends and edge) or max(old[i], new[i]) > 0
    ]


def _values(column: NumericColumn, then: IntArray, now: IntArray) -> list[Bar]:
    """Every value of training is a bar of its own; what lies between or beyond is shown when it comes."""
    old, new = _shares(then), _shares(now)
    shown = []
    for cell in range(then.size):
        beyond = cell in (0, then.size - 1)
        if cell % 2 or max(old[cell], new[cell]) > 0:
            label = _cell_label(column, cell)
            shown.append(Bar(label=label, baseline=float(old[cell]), window=float(new[cell]), beyond=beyond))
    return shown


def _cell_label(column: NumericColumn, cell: int) -> str:
    if cell == 0:
        return _below(column)[0]
    if cell == 2 * column.cuts.size:
        return _above(column)[0]
    if cell % 2:
        return number(float(column.cuts[cell // 2]))
    return f"{number(float(column.cuts[cell // 2 - 1]))} … {number(float(column.cuts[cell // 2]))}"


def _below(column: NumericColumn) -> tuple[str, str]:
    return f"< {number(float(column.cuts[0]))}", ""


def _above(column: NumericColumn) -> tuple[str, str]:
    return f"> {number(float(column.cuts[-1]))}", ""


def _round_edges(low: float, high: float, *, whole: bool) -> FloatArray:
    """Round numbers from about `low` to about `high`, at most BINS of them, one apart or more where all values are whole.

    Steps are 1, 2 or 5 times a power of ten; a single edge where low and high are one.
    """
    size = high / BINS - low / BINS
    if not sys.float_info.min < size < math.inf:
        return np.array([high])
    power = 10.0 ** math.floor(math.log10(size))
    for factor in _STEPS:
        step = max(power * factor, 1.0) if whole else power * factor
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first < BINS or factor == _STEPS[-1]:
            break
    edges: FloatArray = np.unique(np.arange(first, last + 1, dtype=np.float64) * step)
    return edges


def _middles(cuts: FloatArray) -> FloatArray:
    """A value that stands for each cell: the cut, the middle of an interval, or just beyond the ends."""
    middles = np.empty(2 * cuts.size + 1)
    middles[1::2] = cuts
    middles[2:-1:2] = cuts[:-1] / 2 + cuts[1:] / 2
    middles[0] = np.nextafter(cuts[0], -np.inf)
    middles[-1] = np.nextafter(cuts[-1], np.inf)
    return middles


def _shares(counts: IntArray | FloatArray) -> FloatArray:
    total = float(counts.sum())
    shares: FloatArray = counts / total if total else np.zeros(counts.size)
    return shares
