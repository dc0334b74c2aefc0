r"""Kolmogorov-Smirnov distance between a window and the baseline.

Detects any change of a numeric column's distribution, most readily of its location: D is the largest difference
between the two empirical distribution functions, so it is the share of rows that must move. It is unchanged
by any increasing transformation of the values (their unit). It sees little of changes in the far tails (a
share of 1 % moves D by at most .01), nothing of missing values (that is `quality`), and nothing of an order in
time or of a dependence between columns.

    D = max_x |F_w(x) − F_b(x)| = max |m·cumW − n·cumB| / (n·m)

over the cell borders, in integers, with n and m the rows that have a value. Where the cuts are all distinct
training values (`NumericColumn.exact`) this is the D of the raw rows, ties and infinities included. Elsewhere F_w is
unknown inside a cell, but monotone, so that with A the value at a cell's start and E that at its end

    D_high = max(D_low, max_cells E_w − A_b, max_cells E_b − A_w),    D_low <= D <= D_high < D_low + 1/k

for k quantile cuts (plus the share of infinities among the training values, if any). Decisions read `low`.

Shapes: counts int64 [..., L], rows int64 [...], results float64 [..., C]. NaN rule: missing values are in no cell, ±inf
are in the end cells. INSUFFICIENT_DATA below 30 window rows with a value, NOT_APPLICABLE for categorical columns and
for a baseline of fewer than 30 values.

False alarms: with no drift D exceeds 1.358/sqrt(n_e), n_e = n·m/(n+m), in 5 % of independent windows of a
continuous column (fewer with ties), and one look a minute is no independent window. Hence D is an effect to
act on beyond a size, max(θ, 2.2/sqrt(n)), and the p-value is only for readers.

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> rng = np.random.default_rng(7)
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=rng.normal(size=10_000))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"x": rng.normal(0.5, 1, size=2_000)})
>>> drifted = score(baseline, window, "x")
>>> round(drifted.low, 4), round(drifted.high, 4), p_value(baseline, window, "x") < 1e-15
(0.2035, 0.2044, True)

N(0,1) → N(d,1) has D = .0399, .0995, .1974, .3829 at d = .1, .25, .5, 1.

References: Smirnov (1948); Hodges (1958); Schröer & Trenkler (1995) for ties.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.counts import Baseline, CellChunk, Profile
from detectors.scoring import as_score, check_window, masked
from detectors.types import FloatArray, IntArray, Score, Scores

AnyArray = npt.NDArray[Any]

NAME: Final = "ks"
MIN_ROWS: Final = 30
"""Values needed on either side."""
_EXACT_BELOW: Final = 2**62


class Bracket(NamedTuple):
    """Certified bounds of D: float64 [..., C] each, NaN where the score is not VALID."""

    low: FloatArray
    high: FloatArray


def kernel(baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Scores:
    """The lower bound of D (D itself where the column is exact) for a stack of windows."""
    present = baseline.layout.present(counts, rows)
    low, _ = _bounds(baseline, counts, present, with_high=False)
    return _judged(baseline, low, present)


def bracket(baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Bracket:
    """Both bounds of D, for displays; the lower one is that of `kernel`, which costs two thirds of both."""
    present = baseline.layout.present(counts, rows)
    low, high = _bounds(baseline, counts, present, with_high=True)
    return Bracket(_judged(baseline, low, present).statistic, _judged(baseline, high, present).statistic)


def score(baseline: Baseline, window: Profile, column: str) -> Score:
    """The score of one column, with its bracket."""
    position = check_window(baseline, window, column)
    scores = kernel(baseline, window.counts, window.rows)
    low, high = bracket(baseline, window.counts, window.rows)
    return as_score(
        NAME,
        baseline,
        column,
        scores,
        rows=int(baseline.layout.present(window.counts, window.rows)[position]),
        baseline_rows=int(baseline.present[position]),
        bracket=(float(low[position]), float(high[position])),
    )


def p_value(baseline: Baseline, window: Profile, column: str) -> float | None:
    """P(D at least as large) for independent rows of one distribution; None where the score is not VALID.

    `kstwo.sf(D_low, round(n_e))`. Against the exact law it errs by at most 20 % for a baseline of 1000 rows (n = 50,
    p ~ 1e-6), by less from n = 200 on; for n = m = 100 it is up to a third too small, since D then has few values. Ties
    make it conservative. scipy's exact mode floors near 1e-15 instead.
    """
    found = score(baseline, window, column)
    return None if found.statistic is None else smirnov_p(found.statistic, found.rows, found.baseline_rows)


def smirnov_p(distance: float, n: int, m: int) -> float:
    """The two-sided p-value of D between samples of n and m.

    >>> round(smirnov_p(1.358099 / 5000**0.5, 10_000, 10_000), 3)
    0.049
    """
    # Imported when a reader asks: scipy.stats is half of a daemon's start-up time.
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, max(1, round(n * m / (n + m)))))


def _judged(baseline: Baseline, distance: FloatArray, present: IntArray) -> Scores:
    inapplicable = baseline.present < MIN_ROWS
    inapplicable[baseline.layout.categorical] = True
    return masked(distance, present < MIN_ROWS, inapplicable)


def _bounds(
    baseline: Baseline, counts: IntArray, present: IntArray, *, with_high: bool
) -> tuple[FloatArray, FloatArray]:
    """Lower and (if asked for) upper bounds of D, 0 where they make no sense: [..., C]."""
    layout = baseline.layout
    stack = counts.reshape(-1, layout.length)
    n = present.reshape(-1, len(layout.columns))[:, layout.numeric]
    m = baseline.present[layout.numeric]
    exact = n.size == 0 or int(n.max()) * int(m.max()) < _EXACT_BELOW
    peaks = np.zeros((2, *n.shape), dtype=np.int64 if exact else object)
    scratch = np.empty((3, layout.widest_chunk), dtype=peaks.dtype)
    for window, sizes in enumerate(n):
        for chunk in layout.chunks:
            own = sizes[chunk.columns].tolist()
            running = _running(baseline, stack[window], own, chunk, scratch)
            # The largest of both signs: an absolute value would be one more pass over all cells.
            highest = np.maximum.reduceat(running, chunk.starts)
            lowest = np.minimum.reduceat(running, chunk.starts)
            np.maximum(highest, -lowest, out=peaks[0, window, chunk.columns])
            if with_high and not chunk.exact:
                peaks[1, window, chunk.columns] = _hidden(baseline, own, chunk, scratch)
    if with_high:
        np.maximum(peaks[0], peaks[1], out=peaks[1])
    scale = np.maximum(n.astype(np.float64) * m, 1.0)
    bounds = np.zeros((2, stack.shape[0], len(layout.columns)))
    bounds[..., layout.numeric] = peaks / scale
    low, high = bounds.reshape(2, *present.shape)
    return low, high


def _running(
    baseline: Baseline, window: IntArray, n: list[int], chunk: CellChunk, scratch: AnyArray
) -> AnyArray:
    """m·cumW − n·cumB at every border of a chunk, in the first row of `scratch`.

    One running sum serves all columns: each column's own ends at m·n − n·m = 0, and slots that are no cells add 0.
    """
    here = slice(chunk.begin, chunk.end)
    running: AnyArray = scratch[0, : chunk.end - chunk.begin]
    scaled = scratch[1, : running.size]
    counted, trained = window[here], baseline.cell_rows[here]
    if scratch.dtype == object:
        # numpy would multiply in int64 and only then make Python integers of the products.
        counted, trained = (part.astype(scratch.dtype) for part in (counted, trained))
    np.multiply(counted, trained, out=running)
    _scale(baseline.cell_counts[here], n, chunk, scaled)
    np.subtract(running, scaled, out=running)
    np.cumsum(running, out=running)
    return running


def _hidden(baseline: Baseline, n: list[int], chunk: CellChunk, scratch: AnyArray) -> AnyArray:
    """The most that n·m·D can reach inside a cell, per column of a chunk, after `_running`; nothing hides at exact points."""
    running, scaled, sums = scratch[:, : chunk.end - chunk.begin]
    _scale(baseline.interval_counts[chunk.begin : chunk.end], n, chunk, scaled)
    np.add(running, scaled, out=sums)
    rise = np.maximum.reduceat(sums, chunk.starts)
    np.subtract(scaled[1:], running[:-1], out=scaled[1:])
    return np.maximum(rise, np.maximum.reduceat(scaled, chunk.starts))


def _scale(cells: AnyArray, n: list[int], chunk: CellChunk, out: AnyArray) -> None:
    """Training counts times the window's rows, n of each column."""
    if out.dtype == object:
        cells = cells.astype(object)
    if min(n) == max(n):
        np.multiply(cells, n[0], out=out)
        return
    # Column by column is three times as fast as an array of repeated n.
    for size, (start, end) in zip(n, chunk.spans, strict=True):
        np.multiply(cells[start:end], size, out=out[start:end])
