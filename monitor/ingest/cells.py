"""Single JSON values: what a cell may hold, and how its column becomes a tensor."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.profile import CategoricalColumn, Column
from detectors.types import ColumnRole, ColumnType, FloatArray
from monitor.ingest.batch import Tensor, text_tensor
from monitor.ingest.decoded import MISSING, Cells, Faults
from monitor.ingest.strictjson import OutOfRange

Scalar = float | int | str | bool | None

_SAFE_INTEGER: Final = 2**53
_INT64_END: Final = 2**63
_NONE: Final = type(None)
_MISSING_TYPE: Final = type(MISSING)


def cell_fault(value: object) -> str | None:
    """What is wrong with one value of a row or column, whatever the baseline says; None if nothing."""
    if isinstance(value, OutOfRange):
        return f"the number {value.literal} is out of range; send null where a value is missing"
    if isinstance(value, list | dict):
        return "a value is a number, text, true, false or null; flatten what is nested"
    if isinstance(value, str):
        return text_fault(value)
    return None


def text_fault(value: str) -> str | None:
    """Why a decoded string is no text; escapes of lone surrogates were turned into NUL before decoding."""
    return (
        "the text holds a NUL or a lone surrogate; send valid Unicode without NUL"
        if "\x00" in value
        else None
    )


def is_float_column(column: Column | None) -> bool:
    """Whether the fastest decoder, which takes floats and nulls only, loses nothing for this column."""
    return (
        column is not None
        and not isinstance(column, CategoricalColumn)
        and column.type is ColumnType.NUMERIC
        and column.dtype.startswith("float")
    )


def cells_tensor(cells: Cells, column: Column | None, faults: Faults) -> Tensor:
    """The column as a tensor [N]; cells of a wrong type, or missing where the baseline wants them, reject their row.

    `column` is the baseline's column, None where there is none. Numbers become INT64 where all are integers,
    FP64 (null = NaN) else, FP32 in a float32 column; booleans BOOL; text and everything mixed BYTES.
    """
    if cells.floats_only:
        return _floats(cells.name, cells.values, column)
    allowed = _allowed(column)
    kinds = set(map(type, cells.values))
    values: Sequence[Any] = list(cells.values)
    wide = int in kinds and not is_float_column(column)
    if wide or not kinds <= allowed or float in kinds or _MISSING_TYPE in kinds:
        values = _checked(cells, column, allowed, faults)
        kinds = set(map(type, values))
    return _pack(cells.name, values, kinds, column)


def _allowed(column: Column | None) -> frozenset[type]:
    if column is None:
        return frozenset({float, int, str, bool, _NONE})
    if not isinstance(column, CategoricalColumn):
        if column.type is ColumnType.TEXT:
            return frozenset({str, _NONE})
        return frozenset({float, int, _NONE} | ({bool} if column.type is ColumnType.BOOLEAN else set()))
    if column.dtype in ("string", "str", "object", "bytes"):
        return frozenset({str, _NONE})
    if column.dtype == "bool":
        return frozenset({bool, _NONE})
    if column.dtype.startswith(("int", "uint", "float")):
        return frozenset({int, float, _NONE})
    return frozenset({float, int, str, bool, _NONE})


def _checked(cells: Cells, column: Column | None, allowed: frozenset[type], faults: Faults) -> list[Any]:
    """The values [N] with None in the place of everything refused."""
    # Predictions and confidences may come for some rows only; a feature the model was fed is always known.
    required = column is not None and column.role is ColumnRole.FEATURE
    checked: list[Any] = []
    for row, value in enumerate(cells.values):
        if value is MISSING:
            if required and not faults.is_bad(row):
                faults.reject(
                    row,
                    cells.place.at(row),
                    f"the column {cells.name!r} is missing; send null if it is unknown",
                )
            checked.append(None)
            continue
        fault = _value_fault(value, column, allowed)
        if fault is not None:
            faults.reject(row, cells.place.at(row), fault)
        checked.append(None if fault is not None else value)
    return checked


def _value_fault(value: Any, column: Column | None, allowed: frozenset[type]) -> str | None:
    if type(value) not in allowed:
        return cell_fault(value) or f"expected {_expected(allowed)}, got {_json_name(value)}"
    if type(value) is int and abs(value) >= _INT64_END and not is_float_column(column):
        return "the integer does not fit 64 bits; send text if it is an identifier"
    if type(value) is int and is_float_column(column) and abs(value) > 10**308:
        return "the integer is beyond any float; send null where a value is missing"
    if column is not None and column.type is ColumnType.BOOLEAN and value not in (0, 1, None):
        return "expected true, false, 0, 1 or null"
    if type(value) is float and not value.is_integer() and _counts_integers(column):
        return "expected a whole number or null: the category was trained on integers"
    return None


def _counts_integers(column: Column | None) -> bool:
    return isinstance(column, CategoricalColumn) and column.dtype.startswith(("int", "uint"))


def _expected(allowed: frozenset[type]) -> str:
    names = {float: "a number", int: "a number", str: "text", bool: "true or false"}
    words = dict.fromkeys(names[kind] for kind in (float, int, str, bool) if kind in allowed)
    return ", ".join(words) + " or null"


def _json_name(value: object) -> str:
    return {str: "text", bool: "a boolean", _NONE: "null"}.get(type(value), "a number")


def _pack(name: str, values: Sequence[Any], kinds: set[type], column: Column | None) -> Tensor:
    present = kinds - {_NONE}
    if present == {bool} and _NONE not in kinds:
        data = np.array(values, dtype=np.bool_)
        return Tensor(name=name, datatype="BOOL", shape=(len(values),), data=data.tobytes())
    if present == {int} and _NONE not in kinds and not is_float_column(column):
        integers = np.array(values, dtype=np.int64)
        return Tensor(
            name=name, datatype="INT64", shape=(len(values),), data=integers.astype("<i8").tobytes()
        )
    numeric_column = column is not None and column.type in (ColumnType.NUMERIC, ColumnType.BOOLEAN)
    if numeric_column or (present <= {int, float} and not _has_wide_integer(values)):
        if not (present or numeric_column):
            # Nothing but nulls: text says so without claiming a type.
            return text_tensor(name, [None] * len(values))
        return _floats(name, values, column)
    return text_tensor(name, [_text(value) for value in values])


def _has_wide_integer(values: Sequence[Any]) -> bool:
    return any(type(value) is int and abs(value) > _SAFE_INTEGER for value in values)


def _floats(name: str, values: Sequence[Any] | FloatArray, column: Column | None) -> Tensor:
    """Rounded once, here, where the column is float32: it would be so wherever it is counted, and takes half the bytes."""
    numbers: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    single = is_float_column(column) and column is not None and column.dtype == "float32"
    with np.errstate(over="ignore"):
        data = numbers.astype("<f4" if single else "<f8", copy=False).tobytes()
    return Tensor(name=name, datatype="FP32" if single else "FP64", shape=(len(values),), data=data)


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return str(int(value)) if math.isfinite(value) and value.is_integer() else repr(value)
    return str(value)
