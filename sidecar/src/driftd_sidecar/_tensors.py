"""Values of the application as tensors: numpy arrays, lists, ZipMap outputs, OrtValues."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from driftd_sidecar._wire import Tensor, encode_text

AnyArray = npt.NDArray[np.generic]
DATATYPES = {
    "b1": "BOOL",
    "i1": "INT8", "i2": "INT16", "i4": "INT32", "i8": "INT64",
    "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64",
    "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip


class CaptureError(Exception):
    """A value that cannot be shipped."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in for a value that cannot be a tensor, and says why."""

    reason: str


Rows = AnyArray | list[Mapping[object, float]] | Refused


def rows_of(value: object, dtype: np.dtype[np.generic] | None = None) -> Rows:
    """The value as an array, or as the list of dicts of a ZipMap. It may still share the caller's memory.

    `dtype` is what the model declares; it only matters for Python lists, which have none of their own.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return value
    read = getattr(value, "numpy", None)
    try:
        # An OrtValue, or a tensor of another library, in host memory; else a list, or a scalar.
        return np.asarray(read() if callable(read) else value, None if callable(read) else dtype)
    except Exception as error:  # whatever the application handed in: rows of unequal length, device memory
        return Refused(str(error))


def copied(value: Rows, chosen: Sequence[int] | None = None) -> Rows:
    """A copy of all rows, or of the chosen ones, that later changes by the caller cannot reach."""
    if isinstance(value, Refused):
        return value
    if isinstance(value, list):
        return [dict(row) for row in (value if chosen is None else [value[index] for index in chosen])]
    return np.ndarray.copy(value) if chosen is None else np.ndarray.take(value, chosen, axis=0)


def count_rows(values: Iterable[Rows]) -> int:
    """N: the first dimension of the first value that has one; 1 when all are scalars."""
    for value in values:
        if isinstance(value, list):
            return len(value)
        if isinstance(value, np.ndarray) and value.ndim:
            return int(value.shape[0])
    return 1


def has_rows(value: Rows, rows: int) -> bool:
    """Whether it has one entry per row."""
    if isinstance(value, np.ndarray):
        return bool(value.ndim) and value.shape[0] == rows
    return isinstance(value, list) and len(value) == rows


def bytes_of(value: Rows) -> int:
    """Bytes that a value ships, nearly."""
    if isinstance(value, list):
        return sum(map(len, value)) * 4
    if isinstance(value, Refused):
        return 0
    return _text_bytes(value) if value.dtype.kind == "O" else value.nbytes


def cost_of(value: Rows) -> int:
    """Bytes a value holds in memory, roughly: those of dicts, texts and other objects by an estimate."""
    if isinstance(value, list):
        return sum(64 + 48 * len(row) for row in value)
    overhead = value.size * 64 if isinstance(value, np.ndarray) and value.dtype.kind == "O" else 64
    return overhead + bytes_of(value)


def _text_bytes(values: AnyArray) -> int:
    flat = values.ravel().tolist()
    try:
        return sum(map(len, flat))
    except TypeError:  # numbers or None among them
        return sum(len(each) for each in flat if isinstance(each, str | bytes))


def as_tensor(name: str, value: Rows, rows: int) -> Tensor:
    """A snapshot as a tensor of `rows` rows. CaptureError says why it cannot be one."""
    if isinstance(value, list):
        keys, data = probabilities(value)
        if len(value) != rows:
            raise CaptureError(f"it has {len(value)} rows where the call has {rows}")
        return Tensor(name=name, datatype="FP32", tail=(len(keys),), data=data)
    if isinstance(value, Refused):
        raise CaptureError(value.reason)
    if value.ndim == 0 and rows == 1:
        value = value.reshape(1)
    if value.ndim == 0 or value.shape[0] != rows:
        raise CaptureError(f"its shape {value.shape} does not begin with the {rows} rows of the call")
    tail = tuple(int(size) for size in value.shape[1:])
    if value.dtype.kind in "OUS":
        try:
            return Tensor(name=name, datatype="BYTES", tail=tail, data=encode_text(value.ravel().tolist()))
        except TypeError as reason:
            raise CaptureError(str(reason)) from None
    datatype = DATATYPES.get(f"{value.dtype.kind}{value.dtype.itemsize}")
    if datatype is None:
        raise CaptureError(f"the wire format has no datatype for {value.dtype}")
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return Tensor(name=name, datatype=datatype, tail=tail, data=np.ndarray.tobytes(little))


def probabilities(rows: Sequence[Mapping[object, float]]) -> tuple[tuple[object, ...], bytes]:
    """ZipMap rows as float32 (N, K), and the K keys: sorted where they can be, else as in the first row.

    A key that a later row lacks is NaN there.
    """
    if not rows:
        return (), b""
    keys = tuple(rows[0])
    with contextlib.suppress(TypeError):  # keys without an order stay as they came
        keys = tuple(sorted(keys))  # type: ignore[type-var]  # whether they have one is what this tries
    nan = float("nan")
    table = np.array([[row.get(key, nan) for key in keys] for row in rows], dtype="<f4")
    return keys, table.tobytes()
