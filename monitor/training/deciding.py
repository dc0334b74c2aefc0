"""What a collected column is: its type, its dtype, and its values as the detectors take them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.columns import CATEGORY_CAP, NUMERIC_DTYPES, canonical_text, category_counts
from detectors.profile import ColumnData
from detectors.types import ColumnRole, ColumnType
from monitor.training.options import TrainingError
from monitor.training.spool import Spool
from monitor.training.values import BOOLEANS, MISSING_NUMBERS

AnyArray = npt.NDArray[Any]

FEW_WORDS = 50
"""Strings with at most as many distinct values are always categories; 50 are counted one by one."""
LONG_WORD = 100
"""Strings whose distinct values are longer than this in the mean are text: nobody names a category so."""


_ROUNDING = 1e-6
"""float32 shares may add up to a bit more than 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A column as it goes into the baseline, and what a person should know of it."""

    data: ColumnData
    warnings: tuple[str, ...]


def decide(spool: Spool, name: str, role: ColumnRole, dtype: str | None, at: Callable[[int], str]) -> Decided:
    """The column that `spool` collected, called `name` from here on; `dtype` is the one declared, if any.

    `at` names the place of a row counted from 0 over all files. Raises TrainingError for values that the
    declared dtype, or a confidence, cannot have.
    """
    if spool.declared is ColumnType.TEXT:
        return _text(spool, name, role)
    if spool.declared is ColumnType.CATEGORICAL or not spool.numbers:
        words = spool.words
        if words is None:
            return _text(spool, name, role)
        if spool.declared is None and spool.dtypes <= {"bool"} and words and set(words) <= set(BOOLEANS):
            return _booleans(spool, name, role, words)
        if spool.declared is None and _is_text(spool, words):
            return _text_of(spool, name, role, words)
        return _categories(spool, name, role, words)
    if spool.declared is None and role is ColumnRole.PREDICTION and spool.whole:
        words = spool.words
        if words is not None and 0 < len(words) <= FEW_WORDS:
            return _categories(spool, name, role, words)
    return _numbers(spool, name, role, dtype, at)


def _is_text(spool: Spool, words: tuple[str, ...]) -> bool:
    present = int(np.count_nonzero(spool.values("codes") >= 0))
    mean_length = sum(map(len, words)) / max(len(words), 1)
    return mean_length > LONG_WORD or (len(words) > FEW_WORDS and 2 * len(words) > present)


def _numbers(
    spool: Spool, name: str, role: ColumnRole, dtype: str | None, at: Callable[[int], str]
) -> Decided:
    values = spool.values("numbers")
    boolean = spool.declared is ColumnType.BOOLEAN or (spool.declared is None and spool.dtypes == {"bool"})
    kind = ColumnType.BOOLEAN if boolean and role is not ColumnRole.CONFIDENCE else ColumnType.NUMERIC
    chosen = "bool" if kind is ColumnType.BOOLEAN else dtype or _natural(spool)
    if chosen not in NUMERIC_DTYPES:
        raise TrainingError(
            f"column {spool.name!r}: {chosen!r} is no dtype; use one of {', '.join(sorted(NUMERIC_DTYPES))}"
        )
    _fits(spool.name, values, chosen, at)
    if role is ColumnRole.CONFIDENCE:
        outside = np.flatnonzero((values < 0) | (values > 1 + _ROUNDING))
        if outside.size:
            row = int(outside[0])
            raise TrainingError(
                f"{at(row)}: column {spool.name!r}: a confidence lies between 0 and 1, not at {values[row]:g}"
            )
    data = ColumnData(name=name, role=role, type=kind, dtype=chosen, values=values)
    return Decided(data=data, warnings=tuple(_remarks(spool, values)))


def _natural(spool: Spool) -> str:
    typed = {dtype for dtype in spool.dtypes if dtype != "bool"}
    if typed:
        return np.result_type(*(np.dtype(dtype) for dtype in typed)).name
    return "int64" if spool.whole and np.isfinite(spool.values("numbers")).any() else "float64"


def _fits(name: str, values: AnyArray, dtype: str, at: Callable[[int], str]) -> None:
    """Refuse values that the dtype would change beyond rounding: fractions to integers, 1e39 to infinity."""
    finite = np.isfinite(values)
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            wrong = finite & ~np.isfinite(values.astype(dtype))
    else:
        low, high = (
            (0.0, 1.0) if dtype == "bool" else (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        )
        with np.errstate(invalid="ignore"):
            wrong = ~np.isnan(values) & ((values != np.rint(values)) | (values < low) | (values > high))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TrainingError(
            f"{at(row)}: column {name!r}: {values[row]:g} is no {dtype}; correct --dtype, or the value"
        )


def _remarks(spool: Spool, values: AnyArray) -> list[str]:
    present = values[~np.isnan(values)]
    if not present.size:
        return [f"column {spool.name!r} has no value at all; only its missing rate can be watched"]
    if present.size > 1 and present[0] == present[-1] and np.all(present == present[0]):
        return [
            f"column {spool.name!r} has the one value {present[0]:g}; any other value will count as out of range"
        ]
    if present.size >= FEW_WORDS and spool.whole and np.all(np.diff(present) > 0):
        remark = (
            f"column {spool.name!r} only ever increases, as a row number or an id does; such a column always "
            f"drifts: leave it out with --ignore {spool.name}"
        )
        return [remark]
    return []


def _booleans(spool: Spool, name: str, role: ColumnRole, words: tuple[str, ...]) -> Decided:
    table = np.array([*(BOOLEANS[word] for word in words), np.nan])
    data = ColumnData(
        name=name, role=role, type=ColumnType.BOOLEAN, dtype="bool", values=table[spool.values("codes")]
    )
    return Decided(data=data, warnings=())


def _categories(spool: Spool, name: str, role: ColumnRole, words: tuple[str, ...]) -> Decided:
    dtype, texts = "string", list(words)
    if spool.dtypes and spool.countable:
        dtype = "bool" if spool.dtypes == {"bool"} else _natural(spool) if spool.whole else "float64"
    elif spool.countable and words:
        # A column of numbers in a text file: 1, 1.0 and +1 are one category, as they are one number to a client.
        dtype = "int64" if spool.whole else "float64"
        texts = ["" if word in MISSING_NUMBERS else canonical_text(name, float(word)) for word in words]
    table = np.array([*(text or None for text in texts), None], dtype=object)
    values = table[spool.values("codes")]
    remarks: tuple[str, ...] = ()
    if len(set(texts)) > CATEGORY_CAP:
        _, absent = category_counts(name, values)
        remark = (
            f"column {spool.name!r} has {len(set(texts) - {''})} categories in {len(values) - absent} rows; the "
            f"{CATEGORY_CAP} most frequent are watched one by one, the rest together"
        )
        remarks = (remark,)
    data = ColumnData(name=name, role=role, type=ColumnType.CATEGORICAL, dtype=dtype, values=values)
    return Decided(data=data, warnings=remarks)


def _text(spool: Spool, name: str, role: ColumnRole) -> Decided:
    remark = f"column {spool.name!r} is text: only the length of its values is watched"
    data = ColumnData(
        name=name, role=role, type=ColumnType.TEXT, dtype="int64", values=spool.values("lengths")
    )
    return Decided(data=data, warnings=(remark,) if spool.declared is None else ())


def _text_of(spool: Spool, name: str, role: ColumnRole, words: tuple[str, ...]) -> Decided:
    table = np.array([*map(len, words), np.nan], dtype=np.float64)
    remark = f"column {spool.name!r} is text: only the length of its values is watched"
    data = ColumnData(
        name=name, role=role, type=ColumnType.TEXT, dtype="int64", values=table[spool.values("codes")]
    )
    return Decided(data=data, warnings=(remark,))
