"""What a baseline knows of each monitored column, and how a raw value becomes a countable one."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from detectors.types import ColumnRole, ColumnType, DetectorError, FloatArray, IntArray

CATEGORY_CAP: Final = 50
"""Categories counted one by one; the rest of the training categories share the slot `other`."""
OTHERS_CAP: Final = 10_000
"""Rarer training categories remembered by name, so that `unseen` means never seen in training."""
MIN_ROWS: Final = 100
"""Fewer training rows than this make no baseline."""
SAFE_INTEGER: Final = 2**53
"""Integers at or beyond this collide in float64."""

_FLOATS = frozenset({"float16", "float32", "float64"})
_INTEGERS = frozenset({f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})
NUMERIC_DTYPES: Final = _FLOATS | _INTEGERS | {"bool"}
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NumericColumn:
    """A column counted in cells: NUMERIC, BOOLEAN (0 or 1), or TEXT (the length in code points).

    `cuts` are float64 [k], k >= 1, strictly increasing, finite and exactly representable in `dtype`; they
    make 2k+1 cells, intervals and exact points in turn. The smallest and largest finite training value are
    always cuts. `exact` says that every training value is a cut (then KS is exact), so infinities in the
    training data make it false. `decile_cuts` are indexes into `cuts`, strictly increasing, at most 9: the
    right-closed edges of the PSI bins. `evidence_cuts` are 13 indexes into `cuts` (1, 5, 10, 20, ... 90, 95, 99 %
    of the finite training values) and may repeat.

    A column without one finite training value has the single cut 0.0, no decile and evidence indexes of 0:
    the shapes hold, and as no baseline row is present the cut bears no statistic.
    """

    name: str
    role: ColumnRole
    type: ColumnType
    dtype: str
    cuts: FloatArray
    exact: bool
    decile_cuts: IntArray
    evidence_cuts: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalColumn:
    """A column counted per category.

    `categories` are the (at most 50) most frequent training categories, most frequent first, ties in order of
    text; `others` the rest. Where the rest was too long to remember (`others_truncated`) an unknown value
    cannot be told from a forgotten one and counts as `other`, never as `unseen`.
    """

    name: str
    role: ColumnRole
    type: ColumnType
    dtype: str
    categories: tuple[str, ...]
    others: frozenset[str]
    others_truncated: bool


Column = NumericColumn | CategoricalColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMap:
    """Which columns a tensor of the model feeds: (N, F) names F columns, (N,) one; "" skips a position.

    `datatype` is the Open Inference Protocol's name (FP32, FP64, INT64, BOOL, BYTES, ...).
    """

    name: str
    datatype: str
    kind: Literal["input", "output"]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceRule:
    """How confidence is derived, and from which output tensor (None: it comes under its own name)."""

    kind: Literal["given", "probabilities", "positive_probability", "softmax"]
    tensor: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnData:
    """The training values of one column: float, int or bool [m], or object/str [m] for text and categories.

    NaN and None are missing; for CATEGORICAL so is the empty string.
    """

    name: str
    role: ColumnRole
    type: ColumnType
    dtype: str
    values: AnyArray


def check_column(name: str, role: ColumnRole, kind: ColumnType, dtype: str) -> None:
    """Refuse a declaration that cannot be counted, naming the column and the fix."""
    if not name:
        raise DetectorError("a column needs a name")
    if role is ColumnRole.CONFIDENCE and kind is not ColumnType.NUMERIC:
        raise DetectorError(f"column {name!r}: a confidence is numeric, not {kind.value}; declare it numeric")
    if kind is ColumnType.NUMERIC and dtype not in NUMERIC_DTYPES:
        allowed = ", ".join(sorted(NUMERIC_DTYPES))
        raise DetectorError(f"column {name!r}: dtype {dtype!r} is not numeric; use one of {allowed}")


def can_represent(cuts: FloatArray, dtype: str) -> bool:
    """Whether every cut point [k] is a value of numpy dtype `dtype`.

    Where it is not, values of that dtype fall beside the points they stand for (0.1 as float32 is not 0.1 as
    float64: D = 1 between two equal columns), so ingest must refuse the dtype.

    >>> import numpy as np
    >>> can_represent(np.array([0.5, 1.0]), "float32"), can_represent(np.array([0.1]), "float32")
    (True, False)
    >>> can_represent(np.array([0.0, 300.0]), "int8"), can_represent(np.array([0.0, 1.0]), "bool")
    (False, True)
    """
    if dtype not in NUMERIC_DTYPES:
        return False
    if dtype == "bool":
        return bool(np.all((cuts == 0.0) | (cuts == 1.0)))
    if dtype in _INTEGERS:
        bounds = np.iinfo(dtype)
        # The upper bounds of 64-bit integers round up to a power of two they do not reach.
        below = (
            cuts < 2.0**63
            if dtype == "int64"
            else cuts < 2.0**64
            if dtype == "uint64"
            else cuts <= bounds.max
        )
        return bool(np.all((cuts == np.rint(cuts)) & (cuts >= bounds.min) & below))
    with np.errstate(over="ignore"):
        return bool(np.all(cuts.astype(dtype).astype(np.float64) == cuts))


def canonical_numbers(name: str, kind: ColumnType, dtype: str, values: AnyArray) -> AnyArray:
    """The values [n] as float32 or float64, rounded to the column's dtype; NaN where missing.

    What float32 holds exactly is float32 for the speed of its sort. Integer columns accept floats (nulls make them so) and
    leave fractions alone, so that a fraction shows as drift instead of vanishing. A new array is returned
    only where a cast demands it.
    """
    if values.ndim != 1:
        raise DetectorError(f"column {name!r}: values have shape {values.shape}; pass one dimension")
    if kind is ColumnType.TEXT and values.dtype.kind in "OUT":
        return _lengths(name, values)
    if values.dtype.char == "f" and dtype == "float32":
        return values
    if values.dtype.kind == "O":
        values = _from_objects(name, values)
    if values.dtype.kind not in "fiub":
        raise DetectorError(
            f"column {name!r} is {kind.value} but holds {values.dtype} values; send numbers or declare it categorical"
        )
    if dtype in ("float16", "float32"):
        with np.errstate(over="ignore"):
            rounded = values if values.dtype == dtype else values.astype(dtype)
        return rounded.astype(np.float32, copy=False)
    fits = values.dtype.itemsize <= (4 if values.dtype.kind == "f" else 2)
    return values.astype(np.float32 if fits else np.float64, copy=False)


def check_integers(name: str, dtype: str, values: AnyArray) -> None:
    """Refuse training integers [m] that collide in float64: two ids apart by one would be one cut."""
    if dtype not in _INTEGERS or values.size == 0:
        return
    if values.dtype.kind == "O":
        beyond = any(isinstance(v, int | np.integer) and abs(int(v)) >= SAFE_INTEGER for v in values)
    elif values.dtype.kind in "fiu":
        beyond = bool(np.any(values >= SAFE_INTEGER) or np.any(values <= -SAFE_INTEGER))
    else:
        beyond = False
    if beyond:
        raise DetectorError(
            f"column {name!r}: integers of 2^53 and more collide as numbers; declare the column categorical"
        )


def category_counts(name: str, values: AnyArray) -> tuple[dict[str, int], int]:
    """Rows per canonical category text, and how many are missing (null, NaN, or the empty string).

    `values` [n] may be object, str, bool, int or float.
    """
    if values.ndim != 1:
        raise DetectorError(f"column {name!r}: values have shape {values.shape}; pass one dimension")
    if values.dtype.kind == "O":
        raw: Mapping[object, int] = Counter(values.tolist())
        if not all(type(key) is str or key is None or key != key for key in raw):
            # True, 1 and 1.0 are one dictionary key but not one category. (NaN, unlike itself, may pass.)
            raw = Counter(canonical_text(name, value) for value in values.tolist())
    else:
        found, times = np.unique(values, return_counts=True)
        raw = {key: int(n) for key, n in zip(found.tolist(), times.tolist(), strict=True)}
    counts: dict[str, int] = {}
    missing = 0
    for key, times_seen in raw.items():
        text = canonical_text(name, key)
        if text:
            counts[text] = counts.get(text, 0) + times_seen
        else:
            missing += times_seen
    return counts, missing


def canonical_text(name: str, value: object) -> str:
    """The text of a category: str as it is, 123 and 123.0 as "123", True as "true"; missing as "".

    >>> [canonical_text("c", v) for v in ("a", 7, 7.0, True, None, float("nan"), 0.5)]
    ['a', '7', '7', 'true', '', '', '0.5']
    """
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() else repr(number)
    raise DetectorError(
        f"column {name!r}: a category is text, an integer, a boolean or a number, not {type(value).__name__}"
    )


def _lengths(name: str, values: AnyArray) -> FloatArray:
    lengths = np.full(values.shape, np.nan)
    for row, value in enumerate(values.tolist()):
        if isinstance(value, str):
            lengths[row] = len(value)
        elif canonical_text(name, value):
            raise DetectorError(f"column {name!r} is text but holds a {type(value).__name__}; send strings")
    return lengths


def _from_objects(name: str, values: AnyArray) -> FloatArray:
    if any(isinstance(value, str | bytes) for value in values):
        raise DetectorError(
            f"column {name!r} is numeric but holds text; send numbers or declare it categorical"
        )
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DetectorError(f"column {name!r}: {error}; send numbers or nulls") from error
