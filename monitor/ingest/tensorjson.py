"""The `data` array of an OIP v2 JSON tensor, flat or nested, as little-endian bytes."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Raw

from monitor.ingest.batch import NUMPY_TYPES
from monitor.ingest.cells import cell_fault
from monitor.ingest.decoded import Faults
from monitor.ingest.elements import encode_elements
from monitor.ingest.errors import unprocessable
from monitor.ingest.lifting import numbers
from monitor.ingest.strictjson import MAX_STRICT_BYTES, StrictReader

_NONE: Final = type(None)
_FLAT: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "f": msgspec.json.Decoder(list[float | None]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "b": msgspec.json.Decoder(list[bool]),
    "O": msgspec.json.Decoder(list[str | None]),
}
_NESTED: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "f": msgspec.json.Decoder(list[list[float | None]]),
    "i": msgspec.json.Decoder(list[list[int]]),
    "u": msgspec.json.Decoder(list[list[int]]),
    "b": msgspec.json.Decoder(list[list[bool]]),
    "O": msgspec.json.Decoder(list[list[str | None]]),
}
_EXPECTED: Final[Mapping[str, str]] = {
    "f": "expected a number or null",
    "i": "expected an integer; integers have no missing value, so send FP64 where some are missing",
    "u": "expected an integer; integers have no missing value, so send FP64 where some are missing",
    "b": "expected true or false",
    "O": "expected text or null",
}
_FLOAT_END: Final = 10**308
_ALLOWED: Final[Mapping[str, frozenset[type]]] = {
    "f": frozenset({float, int, _NONE}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "b": frozenset({bool}),
    "O": frozenset({str, _NONE}),
}


def lifted_values(datatype: str, shape: Sequence[int], array: bytes | Raw) -> bytes | None:
    """The bytes of an FP tensor whose array was lifted and is nothing but numbers, as many as its shape asks for."""
    if datatype == "BYTES" or NUMPY_TYPES[datatype].kind != "f":
        return None
    found = numbers(bytes(array), shape[0] if len(shape) == 2 else None)
    if found is None or found.size != math.prod(shape):
        return None
    with np.errstate(over="ignore"):
        return found.astype(NUMPY_TYPES[datatype], copy=False).tobytes()


def tensor_values(
    datatype: str, shape: Sequence[int], raw: bytes | Raw, pointer: str, traps: bool, faults: Faults
) -> tuple[bytes, int]:
    """The tensor's bytes, and the keys of objects that stood among its elements (they reject their rows).

    A wrong number of elements refuses the batch. null is NaN in FP tensors and null in BYTES; integers and
    booleans have no missing value, so there it is a bad element.
    """
    kind = "O" if datatype == "BYTES" else NUMPY_TYPES[datatype].kind
    count = math.prod(shape)
    values: list[Any] | None = None if traps else _typed(kind, raw, shape, pointer)
    bad: dict[int, str] = {}
    keys = 0
    if values is None:
        values, bad, keys = _strict(kind, raw, shape, pointer)
    if len(values) != count:
        raise unprocessable(
            pointer, f"shape {list(shape)} takes {count} elements, the data has {len(values)}"
        )
    if kind in "iu":
        bounds = np.iinfo(NUMPY_TYPES[datatype])
        low, high = int(bounds.min), int(bounds.max)
        if not low <= min(values) <= max(values) <= high:
            bad.update(
                {
                    i: f"the integer does not fit {datatype}"
                    for i, v in enumerate(values)
                    if not low <= v <= high
                }
            )
    for index, detail in sorted(bad.items()):
        faults.reject(index // (count // shape[0]), f"{pointer}/{index}", detail)
        values[index] = None if kind in "fO" else 0
    if kind == "O":
        return encode_elements(values), keys
    with np.errstate(over="ignore"):
        wide = np.array(values, dtype=np.float64 if kind == "f" else NUMPY_TYPES[datatype])
        return wide.astype(NUMPY_TYPES[datatype]).tobytes(), keys


def _typed(kind: str, raw: bytes | Raw, shape: Sequence[int], pointer: str) -> list[Any] | None:
    """The elements by one typed pass over a flat or a twice nested array; None if it is neither, or has a fault."""
    try:
        flat: list[Any] = _FLAT[kind].decode(raw)
    except (ValueError, RecursionError):
        pass
    else:
        return flat
    if len(shape) != 2:
        return None
    try:
        nested: list[list[Any]] = _NESTED[kind].decode(raw)
    except (ValueError, RecursionError):
        return None
    return _flattened(nested, shape, pointer)


def _flattened(values: list[Any], shape: Sequence[int], pointer: str) -> list[Any]:
    """The elements of a nested array that has exactly this shape: a ragged one would slip values into other rows."""
    level: list[Any] = [values]
    for size in shape:
        if not all(isinstance(inner, list) and len(inner) == size for inner in level):
            raise unprocessable(pointer, f"nested data does not have the shape {list(shape)}")
        level = list(chain.from_iterable(level))
    return level


def _strict(
    kind: str, raw: bytes | Raw, shape: Sequence[int], pointer: str
) -> tuple[list[Any], dict[int, str], int]:
    """The elements one by one, with a stand-in for each bad one, what is wrong by index, and the keys seen."""
    view = memoryview(raw)
    if view.nbytes > MAX_STRICT_BYTES:
        raise unprocessable(
            pointer, f"an element is wrong, and {view.nbytes} bytes are too many to name it; send fewer rows"
        )
    reader = StrictReader()
    values = reader.read(view)
    if not isinstance(values, list):
        raise unprocessable(pointer, "data is an array")
    if len(shape) > 1 and any(isinstance(value, list) for value in values):
        values = _flattened(values, shape, pointer)
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        fault = cell_fault(value)
        if fault is None and type(value) not in _ALLOWED[kind]:
            fault = _EXPECTED[kind]
        if fault is None and kind == "f" and type(value) is int and abs(value) > _FLOAT_END:
            fault = "the integer is beyond any float; send null where a value is missing"
        if fault is not None:
            bad[index] = fault
            values[index] = None if kind in "fO" else 0
    return values, bad, reader.keys
