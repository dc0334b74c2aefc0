"""What a model's signature fixes, so that its calls can be kept as bare bytes.

onnxruntime refuses an input whose dtype, rank or fixed dimensions differ from the model's, so for a model with
fixed trailing dimensions the bytes of its inputs say everything. Outputs may differ from their declared shape: their
lengths are checked against the rows of the inputs when calls are joined.
"""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from driftd_sidecar._calls import text_tensor, times_array
from driftd_sidecar._kind import Kind
from driftd_sidecar._lane import Entry, IntArray
from driftd_sidecar._notices import Notices
from driftd_sidecar._tensors import CaptureError, probabilities
from driftd_sidecar._wire import RESERVED, TAG, Table, Tensor, times_tensor

# type text of onnxruntime → (datatype on the wire, bytes per element, numpy name)
ELEMENTS: Mapping[str, tuple[str, int, str]] = {
    "tensor(bool)": ("BOOL", 1, "bool"),
    "tensor(int8)": ("INT8", 1, "int8"),
    "tensor(int16)": ("INT16", 2, "int16"),
    "tensor(int32)": ("INT32", 4, "int32"),
    "tensor(int64)": ("INT64", 8, "int64"),
    "tensor(uint8)": ("UINT8", 1, "uint8"),
    "tensor(uint16)": ("UINT16", 2, "uint16"),
    "tensor(uint32)": ("UINT32", 4, "uint32"),
    "tensor(uint64)": ("UINT64", 8, "uint64"),
    "tensor(float16)": ("FP16", 2, "float16"),
    "tensor(float)": ("FP32", 4, "float32"),
    "tensor(double)": ("FP64", 8, "float64"),
}
_CALL_BYTES = 120  # the entry's tuple, its place in the list and the int of its time
_VALUE_BYTES = 40  # the header of a bytes object and its place in the tuple
_MAP_ROW_BYTES = 96  # a copied dict of a ZipMap row, and per class of it:
_MAP_CLASS_BYTES = 80
_first_input = itemgetter(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One tensor of the plan. `tail` may hold one None, a dimension that only the data knows."""

    name: str
    datatype: str
    element_bytes: int
    tail: tuple[int | None, ...]
    is_map: bool = False

    @property
    def row_bytes(self) -> int | None:
        """Bytes of one row; None when the tail does not say."""
        known = [size for size in self.tail if size is not None]
        if self.is_map or len(known) < len(self.tail):
            return None
        return self.element_bytes * math.prod(known)


def array_field(name: str, kind: str, shape: Sequence[object]) -> Field | None:
    """A plain tensor, or None when its type or rank is not fixed, or when it has more than one open dimension."""
    element = ELEMENTS.get(kind)
    if element is None or not shape or name.startswith(RESERVED):
        return None
    tail = tuple(size if isinstance(size, int) and size > 0 else None for size in shape[1:])
    if tail.count(None) > 1:
        return None
    return Field(name=name, datatype=element[0], element_bytes=element[1], tail=tail)


def output_field(name: str, kind: str, shape: Sequence[object]) -> Field | None:
    """As `array_field`, and ZipMap outputs."""
    if kind.startswith("seq(map(") and kind.endswith("tensor(float)))") and not name.startswith(RESERVED):
        return Field(name=name, datatype="FP32", element_bytes=4, tail=(None,), is_map=True)
    return array_field(name, kind, shape)


class PlanRecipe:
    """Calls as `(time_ns, bytes of each input…, bytes of each output…)`; a ZipMap output is a list of copied dicts.

    The first input must have a known row size: it says how many rows a call has.
    """

    kind = Kind.PREDICTIONS

    def __init__(
        self, *, inputs: Sequence[Field], outputs: Sequence[Field], notices: Notices, tags: Mapping[str, str]
    ) -> None:
        first = inputs[0].row_bytes if inputs else None
        if first is None:
            raise CaptureError("the first input has no fixed row size")
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._first_bytes = first
        self._notices = notices
        self._tags = tuple(sorted(tags.items()))
        fields = (*self.inputs, *self.outputs)
        row_sizes = [field.row_bytes for field in fields]
        overhead = _CALL_BYTES + _VALUE_BYTES * len(fields)
        self._row_bytes = sum(size or 0 for size in row_sizes)
        # One row costs the most per byte of the first input, so this bounds every call.
        self.unit_cost = 0 if None in row_sizes else -(-(self._row_bytes + overhead) // first)
        self._overhead = overhead

    def measure(self, entries: Sequence[Entry]) -> tuple[IntArray, IntArray]:
        count = len(entries)
        if self.unit_cost:  # every row is as long as the next
            rows = _lengths(map(_first_input, entries)) // self._first_bytes
            return rows, rows * self._row_bytes + self._overhead
        pairs = [self.measure_one(entry) for entry in entries]
        measured = np.array(pairs, np.int64).reshape(count, 2)
        return measured[:, 0], measured[:, 1]

    def measure_one(self, entry: Entry) -> tuple[int, int]:
        cost = self._overhead
        for field, value in zip((*self.inputs, *self.outputs), entry[1:], strict=True):
            cost += _map_cost(value) if field.is_map else len(value)
        return len(entry[1]) // self._first_bytes, cost

    def is_wide(self, entry: Entry, row_bytes: int) -> bool:
        """Whether a tensor of an open width came with more than `row_bytes` a row."""
        most = row_bytes * max(1, len(entry[1]) // self._first_bytes)
        return any(isinstance(value, bytes) and len(value) > most for value in entry[1:])

    def tables(self, entries: Sequence[Entry]) -> Iterable[Table]:
        # zip(*entries) would make an iterator per call, and thousands of those set off the garbage collector.
        flat, width = list(chain.from_iterable(entries)), 1 + len(self.inputs) + len(self.outputs)
        columns = [flat[position::width] for position in range(width)]
        rows = _lengths(columns[1]) // self._first_bytes
        total = int(rows.sum())
        times = np.repeat(_times(columns[0]), rows)
        reserved = [text_tensor(TAG + key, value, total) for key, value in self._tags]
        split = 1 + len(self.inputs)
        inputs = self._tensors(self.inputs, columns[1:split], rows)
        outputs = self._tensors(self.outputs, columns[split:], rows)
        return [Table(rows=total, inputs=(times_tensor(times), *reserved, *inputs), outputs=tuple(outputs))]

    def _tensors(
        self, fields: Sequence[Field], columns: Sequence[Sequence[Any]], rows: IntArray
    ) -> list[Tensor]:
        tensors: list[Tensor] = []
        for field, column in zip(fields, columns, strict=True):
            try:
                tensors.append(
                    _join_map(field, column, rows) if field.is_map else _join_bytes(field, column, rows)
                )
            except _NotRows as reason:
                self._notices.once(f"tensor {field.name}", "tensor %r is not shipped: %s", field.name, reason)
        return tensors


def _times(stamps: Sequence[Any]) -> IntArray:
    """[calls] nanoseconds: what the clock returned, which need not be what it should."""
    try:
        return np.frombuffer(array("q", stamps), np.int64)  # refuses what is no integer
    except TypeError:
        return times_array(stamps, len(stamps))


def _lengths(column: Iterable[Sized]) -> IntArray:
    """[calls], of which there is one at least; that they are mostly alike saves a third of the time."""
    found = list(map(len, column))
    if found.count(found[0]) == len(found):
        return np.full(len(found), found[0], np.int64)
    return np.array(found, np.int64)


def _map_cost(rows: list[dict[Any, Any]]) -> int:
    return len(rows) * (_MAP_ROW_BYTES + _MAP_CLASS_BYTES * len(rows[0])) if rows else 0


class _NotRows(CaptureError):
    """The tensor does not have one entry per row."""


def _join_bytes(field: Field, column: Sequence[bytes], rows: IntArray) -> Tensor:
    sizes = _lengths(column)
    width = field.row_bytes
    if width is None:
        widths = np.unique(sizes // rows)
        if len(widths) > 1:
            raise CaptureError("calls of different widths are joined one by one")
        width = int(widths[0])
    if not np.array_equal(sizes, rows * width):
        raise _NotRows("its first dimension is not the number of rows of the first input")
    known = field.element_bytes * math.prod(size for size in field.tail if size is not None)
    if width % known:
        raise _NotRows(f"{width} bytes a row are no multiple of {known}")
    tail = tuple(width // known if size is None else size for size in field.tail)
    return Tensor(name=field.name, datatype=field.datatype, tail=tail, data=b"".join(column))


def _join_map(field: Field, column: Sequence[list[Any]], rows: IntArray) -> Tensor:
    if not np.array_equal(_lengths(column), rows):
        raise _NotRows("it has not one map per row")
    first = column[0][0].keys()
    flat = [row for call in column for row in call]
    if any(call[0].keys() != first for call in column):
        raise CaptureError("calls of different classes are joined one by one")
    keys, data = probabilities(flat)
    return Tensor(name=field.name, datatype="FP32", tail=(len(keys),), data=data)
