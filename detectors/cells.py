"""Cut points, and counting values in the cells between and at them.

k cut points c0 < ... < c(k-1) make 2k+1 cells: `(-inf,c0) {c0} (c0,c1) {c1} ... {c(k-1)} (c(k-1),inf)`. Counting
sorts the values and searches the edges in them, which is some twenty times cheaper than searching the cell of
every value, and the sort runs in float32 where the values are float32.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.types import DetectorError, FloatArray, IntArray

AnyArray = npt.NDArray[Any]

CUT_CAP: Final = 1024
"""Cut points of a column."""
SEGMENT_CUT_CAP: Final = 64
"""Cut points of a column in a segment."""
EVIDENCE_PERCENTS: Final = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
"""The quantiles whose CDF values are bet on."""
_STEP = 20  # quantiles in steps of 1/20 hold the deciles, 5 % and 95 %; only 1 % and 99 % come beside them


def choose_cuts(values: AnyArray, cap: int = CUT_CAP) -> tuple[FloatArray, bool, IntArray, IntArray]:
    """Cut points for training values [m] of any numeric dtype: `(cuts, exact, decile_idx, evidence_idx)`.

    All distinct finite values, where there are at most `cap`; else the order statistics ceil(i*m/k) with
    i = 1..k and k the largest multiple of 20 that leaves room for the minimum, 1 % and 99 %. No open interval
    between two such cuts then holds 1/k of the training values, which is the width of the certified bracket
    of `ks`. `cuts` are float64 [<= cap], the indexes are int64 into `cuts`: deciles without repeats and
    without the maximum [<= 9], evidence [13]. NaN is ignored; an infinity makes no cut and clears `exact`.

    >>> import numpy as np
    >>> cuts, exact, deciles, evidence = choose_cuts(np.repeat([3.0, 1.0, 2.0], 50))
    >>> cuts, exact, deciles
    (array([1., 2., 3.]), True, array([0, 1]))
    >>> evidence
    array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    """
    if cap < _STEP + 3:
        raise DetectorError(f"cap is {cap}; at least {_STEP + 3} cut points are needed")
    finite = np.sort(values[np.isfinite(values)])
    infinite = bool(np.isinf(values).any())
    m = finite.size
    if m == 0:
        return np.zeros(1), not infinite, np.zeros(0, dtype=np.int64), np.zeros(13, dtype=np.int64)
    cuts = _distinct(finite)
    complete = cuts.size <= cap
    if not complete:
        k = (cap - 3) // _STEP * _STEP
        ranks = {1, _rank(1, 100, m), _rank(99, 100, m), *(_rank(i, k, m) for i in range(1, k + 1))}
        cuts = _distinct(finite[np.array(sorted(ranks)) - 1])
    deciles = np.searchsorted(cuts, [finite[_rank(i, 10, m) - 1] for i in range(1, 10)])
    evidence = np.searchsorted(cuts, [finite[_rank(i, 100, m) - 1] for i in EVIDENCE_PERCENTS])
    deciles = np.unique(deciles[deciles < cuts.size - 1])
    exact = complete and not infinite
    return cuts.astype(np.float64) + 0.0, exact, deciles.astype(np.int64), evidence.astype(np.int64)


def count_cells(values: AnyArray, cuts: FloatArray) -> tuple[IntArray, int, int]:
    """Count values [n] of any order and numeric dtype: `(cells int64 [2k+1], missing, non_finite)`.

    NaN is missing and in no cell; ±inf is non-finite and in an end cell; -0.0 is 0.0.

    >>> import numpy as np
    >>> count_cells(np.array([0.0, -0.0, 0.5, 2.0, np.inf, np.nan]), np.array([0.0, 1.0]))
    (array([0, 2, 1, 0, 2]), 1, 1)
    """
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    cells = np.zeros(2 * cuts.size + 1, dtype=np.int64)
    present, non_finite = count_sorted(np.sort(values), cuts, narrow_cuts(cuts), cells)
    return cells, values.size - present, non_finite


def narrow_cuts(cuts: FloatArray) -> npt.NDArray[np.float32] | None:
    """The cut points [k] as float32, or None where float32 cannot hold each of them exactly."""
    with np.errstate(over="ignore"):
        narrow = cuts.astype(np.float32)
    return narrow if np.array_equal(narrow, cuts) else None


def count_sorted(
    ordered: AnyArray, cuts: FloatArray, narrow: npt.NDArray[np.float32] | None, cells: IntArray
) -> tuple[int, int]:
    """Count sorted float values [n], NaN last, into `cells` [2k+1] of zeros: `(present, non_finite)`.

    `narrow` is `narrow_cuts(cuts)`; float32 values are compared with it where it exists, and as float64 with
    `cuts` else.
    """
    if ordered.size == 0:
        return 0, 0
    keys: AnyArray = cuts
    if ordered.dtype == np.float32 and narrow is not None:
        keys = narrow
    elif ordered.dtype != np.float64:
        ordered = ordered.astype(np.float64)
    present = ordered.size
    if math.isnan(ordered[-1]):
        present = int(ordered.searchsorted(ordered.dtype.type(np.nan)))
    below = ordered.searchsorted(keys)
    cells[0] = below[0]
    np.subtract(below[1:], below[:-1], out=cells[2:-1:2])
    cells[-1] = present - below[-1]
    # Most exact points of a continuous column hold no row: search the far edge only of those that do.
    held = (ordered.take(below, mode="clip") == keys).nonzero()[0]
    if held.size:
        at = ordered.searchsorted(keys[held], side="right") - below[held]
        cells[2 * held + 1] = at
        cells[2 * held + 2] -= at
    return present, _infinite(ordered, present)


def _rank(numerator: int, denominator: int, m: int) -> int:
    """The order statistic ceil(m * numerator / denominator), from 1."""
    return -(-m * numerator // denominator)


def _distinct(ordered: AnyArray) -> AnyArray:
    """Distinct values of a sorted array; -0.0 and 0.0 are one."""
    kept = np.ones(ordered.size, dtype=np.bool_)
    kept[1:] = ordered[1:] != ordered[:-1]
    return ordered[kept]


def _infinite(ordered: AnyArray, present: int) -> int:
    if present == 0 or not (math.isinf(ordered[0]) or math.isinf(ordered[present - 1])):
        return 0
    return int(np.isinf(ordered[:present]).sum())
