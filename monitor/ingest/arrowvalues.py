"""One Arrow array as the bytes of a tensor, by whole arrays: a hundred thousand rows cost what ten calls cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.profile import CategoricalColumn, Column
from detectors.types import ColumnType
from monitor.ingest.elements import NULL_LENGTH, Buffer
from monitor.ingest.errors import TooLargeError, unprocessable

_DATATYPES: Final[Mapping[str, str]] = {
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "halffloat": "FP16", "float": "FP32", "double": "FP64",
}  # fmt: skip
_TEXT: Final = ("string", "large_string")
_NULL: Final = np.array([NULL_LENGTH], dtype="<u4").tobytes()


class Budget:
    """Bytes that the tensors of one body may take in all: its columns may share buffers, and its rows a word."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def spend(self, count: int) -> None:
        """TooLargeError once more is taken than there was."""
        self._left -= count
        if self._left < 0:
            raise TooLargeError(f"the columns take more than {self._limit} bytes; send smaller batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A tensor without its name; `bad_rows` hold text that no database keeps."""

    datatype: str
    shape: tuple[int, ...]
    data: Buffer
    bad_rows: tuple[int, ...] = ()


def convert(array: Any, column: Column | None, pointer: str, budget: Budget) -> Converted:
    """A pyarrow Array [N] as a tensor [N], or [N, F] of a fixed-size list of F numbers.

    Null is NaN in floats, integers with nulls become FP64 where that is exact or the column is one of numbers, else
    text, as in the JSON formats. UnprocessableError for every other type.
    """
    kind = str(array.type)
    if kind.startswith("dictionary<"):
        if str(array.type.value_type) in _TEXT:
            return text_elements(array, pointer, budget)
        budget.spend(16 * len(array))
        array = array.dictionary_decode()
        kind = str(array.type)
    if kind in _TEXT:
        return text_elements(array, pointer, budget)
    if kind.startswith("fixed_size_list<"):
        return _matrix(array, pointer, budget)
    if kind == "null":
        return _nothing(len(array), column, budget)
    if kind == "bool":
        return _booleans(array, column, pointer, budget)
    if kind in _DATATYPES:
        return _numbers(array, kind, column, pointer, budget)
    raise unprocessable(
        pointer,
        f"a column of type {kind[:80]} cannot be counted; send numbers, bool, string, dictionary of string, "
        "or a fixed-size list of numbers",
    )


def text_elements(array: Any, pointer: str, budget: Budget) -> Converted:
    """Text, plain or dictionary-encoded, as BYTES elements [N]: each behind its length, null as 0xFFFFFFFF."""
    kind = array.type
    if str(kind).startswith("dictionary<") and str(kind.value_type) in _TEXT:
        budget.spend(_spelled_out(array))
        array = array.dictionary_decode()
    elif str(kind) in _TEXT:
        budget.spend(array.nbytes)
    else:
        raise unprocessable(
            pointer, f"the column is {str(kind)[:80]}; send string, or a dictionary of string"
        )
    rows = len(array)
    budget.spend(4 * rows)
    missing = np.asarray(array.is_null())
    # Behind a null may stand anything; filled, its length is zero.
    filled = array.fill_null("") if missing.any() else array
    width = np.int64 if str(filled.type) == "large_string" else np.int32
    _, offset_buffer, data_buffer = filled.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=width)[filled.offset : filled.offset + rows + 1].astype(
        np.int64
    )
    octets = (
        np.frombuffer(data_buffer, dtype=np.uint8)[offsets[0] : offsets[-1]]
        if data_buffer
        else np.empty(0, np.uint8)
    )
    offsets = offsets - offsets[0]
    lengths = np.diff(offsets).astype("<u4")
    lengths[missing] = NULL_LENGTH
    places = (offsets[:-1] + 4 * np.arange(rows))[:, None] + np.arange(4)
    out = np.empty(octets.size + 4 * rows, dtype=np.uint8)
    is_text = np.ones(out.size, dtype=np.bool_)
    is_text[places] = False
    out[places] = lengths.view(np.uint8).reshape(rows, 4)
    out[is_text] = octets
    nul = np.flatnonzero(octets == 0)
    bad = np.unique(np.searchsorted(offsets, nul, side="right") - 1)
    return Converted(datatype="BYTES", shape=(rows,), data=out.tobytes(), bad_rows=tuple(bad.tolist()))


def _spelled_out(array: Any) -> int:
    """The bytes of a dictionary-encoded column once every row has its own text: a few bytes may stand for gigabytes."""
    import pyarrow.compute as pc

    words = pc.binary_length(array.dictionary).fill_null(0).to_numpy(zero_copy_only=False)
    indices = array.indices.drop_null().to_numpy(zero_copy_only=False)
    return int(words.astype(np.int64)[indices].sum()) if words.size else 0


def _matrix(array: Any, pointer: str, budget: Budget) -> Converted:
    inner, width = str(array.type.value_type), array.type.list_size
    if inner not in _DATATYPES or width < 1:
        raise unprocessable(pointer, f"a list of {inner[:80]} cannot be counted; send a list of numbers")
    if array.null_count:
        raise unprocessable(pointer, "a list is null; send nulls inside of it where its values are missing")
    rows = len(array)
    budget.spend(rows * width * 8)
    made = _numbers(array.flatten(), inner, None, pointer, budget)
    if made.datatype == "BYTES":
        raise unprocessable(pointer, "integers this large with nulls among them; send double")
    return Converted(datatype=made.datatype, shape=(rows, width), data=made.data)


def _numbers(array: Any, kind: str, column: Column | None, pointer: str, budget: Budget) -> Converted:
    rows = len(array)
    datatype = _DATATYPES[kind]
    if datatype.startswith("FP"):
        budget.spend(rows * array.type.bit_width // 8)
        # For floats pyarrow writes NaN where null stood.
        values = array.to_numpy(zero_copy_only=False)
        return Converted(datatype=datatype, shape=(rows,), data=_little(values))
    if not array.null_count:
        budget.spend(rows * array.type.bit_width // 8)
        return Converted(datatype=datatype, shape=(rows,), data=_little(array.to_numpy(zero_copy_only=False)))
    budget.spend(rows * 8)
    wide = array.cast("double", safe=False)
    if _is_numeric(column) or _exact(array):
        return Converted(datatype="FP64", shape=(rows,), data=_little(wide.to_numpy(zero_copy_only=False)))
    return text_elements(array.cast("string"), pointer, budget)


def _exact(array: Any) -> bool:
    import pyarrow as pa

    try:
        array.cast("double")
    except pa.ArrowInvalid:
        return False
    return True


def _booleans(array: Any, column: Column | None, pointer: str, budget: Budget) -> Converted:
    rows = len(array)
    if not array.null_count:
        budget.spend(rows)
        return Converted(datatype="BOOL", shape=(rows,), data=_little(array.to_numpy(zero_copy_only=False)))
    if _is_numeric(column):
        budget.spend(rows * 8)
        wide = array.cast("uint8").cast("double")
        return Converted(datatype="FP64", shape=(rows,), data=_little(wide.to_numpy(zero_copy_only=False)))
    return text_elements(array.cast("string"), pointer, budget)


def _nothing(rows: int, column: Column | None, budget: Budget) -> Converted:
    """Nothing but nulls: NaN where numbers belong, else text, which claims no type."""
    budget.spend(8 * rows)
    if _is_numeric(column):
        return Converted(datatype="FP64", shape=(rows,), data=_little(np.full(rows, np.nan)))
    return Converted(datatype="BYTES", shape=(rows,), data=_NULL * rows)


def _is_numeric(column: Column | None) -> bool:
    return (
        column is not None
        and not isinstance(column, CategoricalColumn)
        and column.type in (ColumnType.NUMERIC, ColumnType.BOOLEAN)
    )


def _little(values: Any) -> bytes:
    return bytes(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
