"""One column of a posted pane: its filled slots, and whether counts and moments agree with each other."""

import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from detectors.counts import CONFIDENCE_SCALE, Layout, Profile
from detectors.profile import MOMENT_CLIP, CategoricalColumn, NumericColumn
from detectors.types import ColumnRole, IntArray
from monitor.ingest.errors import unprocessable

_SLACK: Final = 1e-6
"""How far rounding may carry a mean or a spread from what the cells allow, relative to their size."""


class PostedColumn(msgspec.Struct, forbid_unknown_fields=True):
    """`gaps` are the distances between the filled slots, the first from slot 0; numeric columns have mean and m2."""

    name: str
    gaps: list[int]
    counts: list[int]
    mean: float | UnsetType = UNSET
    m2: float | UnsetType = UNSET


def fill(
    posted: PostedColumn, layout: Layout, position: int, rows: int, profile: Profile, pointer: str
) -> None:
    """Put a column's counts and moments into `profile`, zeros before; UnprocessableError where they cannot be true."""
    column = layout.columns[position]
    if posted.name != column.name:
        raise unprocessable(
            f"{pointer}/name",
            f"columns come in the order of the cells: here {column.name!r}, not {posted.name[:100]!r}",
        )
    part = layout.slices[position]
    slots = profile.counts[part]
    at, counts = _slots(posted, slots.size, pointer)
    is_confidence = isinstance(column, NumericColumn) and column.role is ColumnRole.CONFIDENCE
    summed = slots.size - 1 if is_confidence else slots.size
    wrong = (counts < 0) | ((counts > rows) & (at < summed))
    if wrong.any():
        raise unprocessable(
            f"{pointer}/counts/{int(wrong.argmax())}", f"a slot of a pane of {rows} rows counts 0 to {rows}"
        )
    slots[at] = counts
    if isinstance(column, CategoricalColumn):
        if posted.mean is not UNSET or posted.m2 is not UNSET:
            raise unprocessable(f"{pointer}/mean", "a categorical column has no mean and no m2")
        _check_sum(int(slots.sum()), rows, pointer)
        return
    cells = slots[: 2 * column.cuts.size + 1]
    missing, non_finite = int(slots[cells.size]), int(slots[cells.size + 1])
    present = int(cells.sum())
    _check_sum(present + missing, rows, pointer)
    if non_finite > int(cells[0] + cells[-1]):
        raise unprocessable(f"{pointer}/counts", "infinite values are in the first or the last cell as well")
    if is_confidence and int(slots[-1]) > present * CONFIDENCE_SCALE:
        raise unprocessable(f"{pointer}/counts", "fixed_sum is more than a confidence of 1 in every row")
    profile.moments[position] = _moments(posted, column, cells, present - non_finite, pointer)


def _slots(posted: PostedColumn, size: int, pointer: str) -> tuple[IntArray, IntArray]:
    """The filled slots [S], rising, and their counts [S]."""
    gaps, counts = _integers(posted.gaps, f"{pointer}/gaps"), _integers(posted.counts, f"{pointer}/counts")
    if gaps.size != counts.size:
        raise unprocessable(f"{pointer}/counts", f"{counts.size} counts for {gaps.size} gaps")
    wrong = gaps < np.arange(gaps.size).clip(max=1)
    if wrong.any():
        raise unprocessable(
            f"{pointer}/gaps/{int(wrong.argmax())}", "slots rise: the first gap is at least 0, the others 1"
        )
    wrong = gaps.clip(max=size).cumsum() >= size
    if wrong.any():
        raise unprocessable(
            f"{pointer}/gaps/{int(wrong.argmax())}", f"the column {posted.name!r} has {size} slots"
        )
    return gaps.cumsum(), counts


def _integers(values: list[int], pointer: str) -> IntArray:
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise unprocessable(pointer, "an integer does not fit 64 bits") from None


def _check_sum(found: int, rows: int, pointer: str) -> None:
    if found != rows:
        raise unprocessable(
            f"{pointer}/counts", f"the slots add up to {found} rows where the pane has {rows}"
        )


def _moments(
    posted: PostedColumn, column: NumericColumn, cells: IntArray, finite: int, pointer: str
) -> tuple[float, float, float]:
    """n, mean and the sum of squared deviations of `finite` values, possible for the cells they are in."""
    if posted.mean is UNSET or posted.m2 is UNSET:
        name = "mean" if posted.mean is UNSET else "m2"
        raise unprocessable(f"{pointer}/{name}", f"a numeric column tells the {name} of its finite values")
    low, high = _bounds(column, cells) if finite else (0.0, 0.0)
    slack = _SLACK * max(abs(low), abs(high))
    if not low - slack <= posted.mean <= high + slack:
        raise unprocessable(f"{pointer}/mean", f"{posted.mean!r} is no mean of values in these cells")
    # A sum of squares around the mean is at most n/4 of the squared range.
    most = finite * (high - low + 2 * slack) ** 2 if high - low < MOMENT_CLIP else math.inf
    if not 0.0 <= posted.m2 <= most:
        raise unprocessable(
            f"{pointer}/m2",
            f"{posted.m2!r} is no sum of squared deviations of {finite} values in these cells",
        )
    return float(finite), posted.mean, posted.m2


def _bounds(column: NumericColumn, cells: IntArray) -> tuple[float, float]:
    """Between which numbers the values in filled cells lie; the end cells are open, up to where moments are clipped."""
    filled: npt.NDArray[Any] = cells.nonzero()[0]
    edges = np.concatenate([[-MOMENT_CLIP], column.cuts.clip(-MOMENT_CLIP, MOMENT_CLIP), [MOMENT_CLIP]])
    # Cell 2i is the interval above edge i, cell 2i + 1 the point at edge i + 1.
    first, last = int(filled[0]), int(filled[-1])
    return float(edges[(first + 1) // 2]), float(edges[last // 2 + 1])
