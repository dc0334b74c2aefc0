"""What the text of a training file says: numbers, booleans, codes, words."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.columns import SAFE_INTEGER
from detectors.types import FloatArray

AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

MISSING_NUMBERS = frozenset(
    {
        "",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "NaN",
        "nan",
        "-nan",
        "-NaN",
        "NULL",
        "Null",
        "null",
        "None",
        "<NA>",
        "NaT",
    }
)
"""Words that mean a missing value in a column of numbers; in a column of words only "" does ("NA" is Namibia)."""
BOOLEANS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_ZERO_LED = re.compile(r"[+-]?0[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Text read as numbers: `values` float64 [n], NaN where missing; `bad` is the first row that is no number.

    `whole`: every number is written without a point or exponent. `code`: the first row that looks like a number
    but is a name: a whole number led by a 0, as postal codes are, or one of 2^53 and more (`huge`), as ids are.
    """

    values: FloatArray
    bad: int | None = None
    whole: bool = True
    code: int | None = None
    huge: bool = False


def read_numbers(texts: AnyArray, missing: Collection[str], *, maybe_whole: bool = True) -> Numbers:
    """Numbers from text [n] (object, None is missing); `maybe_whole` False skips looking for whole numbers.

    Decimal text becomes the nearest float64, as in every language; pandas' fast parser may be one bit off,
    which is a different value to an exact cut.
    """
    absent = np.fromiter((text is None or text in missing for text in texts), np.bool_, len(texts))
    filled = np.where(absent, "nan", texts) if absent.any() else texts
    # float() also reads "1_000", which no other reader of the file would.
    joined = "".join(filled.tolist())
    odd = "_" in joined or not joined.isascii()
    try:
        values = filled.astype(np.float64) if not odd else None
    except ValueError:
        values = None
    if values is None:
        return Numbers(values=np.full(len(texts), np.nan), bad=_first_bad(filled), whole=False)
    if not maybe_whole:
        return Numbers(values=values, whole=False)
    if all(map(_WHOLE.fullmatch, filled[~absent].tolist())):
        beyond = np.flatnonzero(np.abs(values) >= SAFE_INTEGER)
        return Numbers(values=values, code=int(beyond[0]) if beyond.size else None, huge=bool(beyond.size))
    zero_led = (row for row, text in enumerate(filled.tolist()) if _ZERO_LED.fullmatch(text))
    return Numbers(values=values, whole=False, code=next(zero_led, None))


def _first_bad(texts: AnyArray) -> int | None:
    for row, text in enumerate(texts.tolist()):
        try:
            if "_" in text or not text.isascii():
                return row
            float(text)
        except ValueError:
            return row
    return None


def read_booleans(texts: AnyArray, missing: Collection[str]) -> tuple[FloatArray, int | None]:
    """1.0, 0.0 or NaN [n] from true, false, 1 and 0, and the first row that is none of them."""
    words = {**BOOLEANS, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts.tolist()):
        if text is None or text in missing:
            continue
        found = words.get(text)
        if found is None:
            return values, row
        values[row] = found
    return values, None


def lengths(texts: AnyArray, missing: Collection[str]) -> FloatArray:
    """Code points of each text [n], NaN where missing."""
    return np.fromiter(
        (np.nan if text is None or text in missing else len(text) for text in texts), np.float64, len(texts)
    )
