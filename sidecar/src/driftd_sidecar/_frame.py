"""From the tensors of a table to one countable array per column, by the daemon's own rules.

What the daemon would refuse is refused here too, since nobody could tell it otherwise: a table without a feature of
the baseline, of another width or datatype, or in a type that cannot hold the cut points; rows whose text is none.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from driftd_sidecar._cells import CategoryCells, Cells, ColumnCells, NumericCells
from driftd_sidecar._tensors import DATATYPES
from driftd_sidecar._wire import IDS, TAG, TIMES, Table, Tensor

AnyArray = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
_DTYPES = {name: np.dtype(f"<{code}") for code, name in DATATYPES.items()}
_ALIASES = {"prediction": "prediction", "confidence": "confidence"}
_LENGTH = struct.Struct("<I")
_FEW = 64  # columns
_LABELS = 4096  # integers so close together are told apart without sorting them
_LONGEST_VALUE = 200  # of a tag that makes segments, as the daemon cuts it


class RefusedError(Exception):
    """The daemon would take none of these rows, and why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One array [N] per column of the cells, in their order, and the event times int64 [N] in nanoseconds.

    Of a numeric column float32 or float64 with NaN where missing, of a categorical one the int64 offsets of its slots.
    `good` marks the rows that can be counted, `segments` those of each value of the tags that make segments.
    """

    times_ns: npt.NDArray[np.int64]
    columns: tuple[AnyArray, ...]
    segments: Mapping[str, Mask]
    good: Mask


class _Source:
    """A tensor read once: its elements row by row, and which rows of a text tensor are no text."""

    __slots__ = ("_columns", "_rows", "_texts", "datatype", "tensor", "width")

    def __init__(self, tensor: Tensor, rows: int) -> None:
        self.tensor = tensor
        self.datatype = tensor.datatype
        self.width = math.prod(tensor.tail)
        self._rows = rows
        self._texts: list[bytes] | None = None
        self._columns: AnyArray | None = None

    def array(self) -> AnyArray:
        """[rows, width] of a tensor of numbers."""
        return np.frombuffer(self.tensor.data, _DTYPES[self.datatype]).reshape(self._rows, self.width)

    def position(self, position: int) -> AnyArray:
        """[rows] of one column; all are copied at once, so that each lies in one piece."""
        if self._columns is None:
            self._columns = np.ascontiguousarray(self.array().T)
        return np.asarray(self._columns[position])

    def texts(self, position: int) -> list[bytes]:
        return self._elements()[position :: self.width]

    def good(self) -> Mask:
        """Which rows of a text tensor are text: UTF-8 without NUL."""
        bad = {raw for raw in set(self._elements()) if not _is_text(raw)}
        if not bad:
            return np.ones(self._rows, np.bool_)
        marks = np.array([raw in bad for raw in self._elements()]).reshape(self._rows, self.width)
        return np.asarray(~marks.any(axis=1))

    def _elements(self) -> list[bytes]:
        if self._texts is None:
            data, at, found = self.tensor.data, 0, []
            while at < len(data):
                (length,) = _LENGTH.unpack_from(data, at)
                at += 4 + length
                found.append(data[at - length : at])
            self._texts = found
        return self._texts


def frame(table: Table, cells: Cells) -> Frame:
    """The table as the daemon would see it. RefusedError where it would take no row."""
    tensors: dict[str, _Source] = {}
    for tensor in (*table.inputs, *table.outputs):
        if tensor.name in tensors:
            raise RefusedError(f"two tensors are named {tensor.name!r}")
        tensors[tensor.name] = _Source(tensor, table.rows)
    located = _locate(cells, tensors)
    columns: list[AnyArray] = []
    texts = {name for name in tensors if name == IDS or name.startswith(TAG)}
    for column in cells.columns:
        rule = _rule_tensor(column, cells, tensors)
        if rule is not None:
            columns.append(_numbers(column, _derived(*rule)))
            continue
        source, position = located.get(column.name, (None, 0))
        if source is None:
            if column.role == "feature":
                raise RefusedError(f"the column {column.name!r} is missing")
            columns.append(_absent(column, table.rows))
            continue
        if source.datatype == "BYTES":
            texts.add(source.tensor.name)
        columns.append(_read(column, source, position))
    good = np.ones(table.rows, np.bool_)
    for name in texts:
        good &= tensors[name].good()
    return Frame(
        times_ns=tensors[TIMES].array()[:, 0].astype(np.int64),
        columns=tuple(columns),
        segments=_segments(cells, tensors),
        good=good,
    )


def _locate(cells: Cells, tensors: Mapping[str, _Source]) -> dict[str, tuple[_Source, int]]:
    """Where each column comes from: its mapped tensor, else a tensor of its own name, else its role's name."""
    found: dict[str, tuple[_Source, int]] = {}
    for name, columns in cells.feeds.items():
        source = tensors.get(name)
        if source is None:
            continue
        if columns and source.width != len(columns):
            raise RefusedError(
                f"tensor {name!r} has {source.width} values per row, the baseline has {len(columns)}"
            )
        for position, column in enumerate(columns):
            if column:
                found[column] = (source, position)
    for each in cells.columns:
        for alias in (each.name, _ALIASES.get(each.role, each.name)):
            source = tensors.get(alias)
            if each.name not in found and source is not None and source.width == 1:
                found[each.name] = (source, 0)
    return found


def _segments(cells: Cells, tensors: Mapping[str, _Source]) -> dict[str, Mask]:
    """The rows [N] of each value of the tags that make segments; the empty text makes none."""
    found: dict[str, Mask] = {}
    for key in cells.segment_keys:
        if (source := tensors.get(TAG + key)) is not None:
            raws = source.texts(0)
            values = {raw: raw.decode("utf-8", "replace")[:_LONGEST_VALUE] for raw in set(raws)}
            texts = np.array([values[raw] for raw in raws], object)
            for value in sorted(set(values.values()) - {""}):
                found[f"{key}={value}"] = texts == value
    return found


def _rule_tensor(
    column: ColumnCells, cells: Cells, tensors: Mapping[str, _Source]
) -> tuple[str, AnyArray] | None:
    """The rule and the model output that a confidence is derived from, if the table carries it in a usable form."""
    if column.role != "confidence" or cells.confidence is None or cells.confidence[1] is None:
        return None
    kind, name = cells.confidence[0], cells.confidence[1]
    source = tensors.get(name)
    if source is None or source.datatype == "BYTES":
        return None
    if kind in ("given", "positive_probability") and source.width != 1:
        return None
    return kind, source.array()


def _derived(kind: str, outputs: AnyArray) -> AnyArray:
    """Confidence [N] from a model output [N, C], to the bit as the daemon derives it."""
    if outputs.dtype.kind != "f":
        outputs = outputs.astype(np.float64)
    if kind == "probabilities":
        if outputs.shape[1] < _FEW:  # numpy takes the maximum of a short row at the price of a long one
            return np.asarray(np.ascontiguousarray(outputs.T).max(axis=0))
        return np.asarray(outputs.max(axis=1))
    if kind == "softmax":
        logits = outputs.astype(np.float64)
        if logits.shape[1] == 1:
            logits = np.hstack([logits, np.zeros_like(logits)])
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    if kind == "positive_probability":
        share = outputs[:, 0].astype(np.float64)
        return np.maximum(share, 1.0 - share)
    return outputs[:, 0]


def _absent(column: ColumnCells, rows: int) -> AnyArray:
    if isinstance(column, CategoryCells):
        return np.full(rows, column.missing, np.int64)
    return np.full(rows, np.nan)


def _read(column: ColumnCells, source: _Source, position: int) -> AnyArray:
    if isinstance(column, CategoryCells):
        return _offsets(column, source, position)
    if column.type == "text":
        if source.datatype != "BYTES":
            raise RefusedError(f"column {column.name!r} is text; send BYTES, not {source.datatype}")
        lengths = {raw: len(raw.decode("utf-8", "replace")) for raw in set(source.texts(position))}
        return np.array([lengths[raw] for raw in source.texts(position)], np.float64)
    if source.datatype == "BYTES":
        raise RefusedError(f"column {column.name!r} is {column.type}; it came as text")
    values = source.position(position)
    if values.dtype != np.dtype(column.dtype) and not _can_represent(column, values.dtype):
        raise RefusedError(
            f"{source.datatype} cannot represent every cut point of column {column.name!r}, "
            f"which was trained on {column.dtype}"
        )
    return _numbers(column, values)


def _offsets(column: CategoryCells, source: _Source, position: int) -> AnyArray:
    """The slot of each value, counted from the column's first."""
    if source.datatype == "BYTES":
        raws = source.texts(position)
        slots = {raw: _slot(column, raw.decode("utf-8", "replace")) for raw in set(raws)}
        return np.array([slots[raw] for raw in raws], np.int64)
    values, inverse = distinct_numbers(source.position(position))
    return np.array([_slot(column, _text(value)) for value in values], np.int64).take(inverse)


def distinct_numbers(values: AnyArray) -> tuple[list[Any], npt.NDArray[np.intp]]:
    """The distinct numbers among values [N], rising, and which of them each value is [N]."""
    if values.dtype.kind in "iu" and values.size:
        least, most = int(values.min()), int(values.max())
        if most - least < _LABELS:
            wide = values if values.dtype.kind == "u" else values.astype(np.int64, copy=False)
            above = (wide - wide.dtype.type(least)).astype(np.intp)
            taken = np.bincount(above).nonzero()[0]
            ranks = np.empty(most - least + 1, np.intp)
            ranks[taken] = np.arange(taken.size)
            return [least + each for each in taken.tolist()], ranks.take(above)
    found, inverse = np.unique(values, return_inverse=True)
    return found.tolist(), inverse


def _slot(column: CategoryCells, text: str) -> int:
    return column.offsets.get(text, column.unknown) if text else column.missing


def _text(value: float | bool) -> str:
    """The category of a number: 123 for 123.0, true for True, nothing for NaN."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


def _numbers(column: ColumnCells, values: AnyArray) -> AnyArray:
    """The values [N] rounded to the column's dtype, in float32 where that holds all of its values, else float64.

    Columns of integers and truth values leave fractions alone: they show as drift instead of vanishing.
    """
    assert isinstance(column, NumericCells)
    dtype = np.dtype(column.dtype)
    if dtype.kind == "f" and values.dtype != dtype:
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(dtype)
    fits = values.dtype.itemsize <= (4 if values.dtype.kind == "f" else 2)
    return values.astype(np.float32 if fits else np.float64, copy=False)


def _can_represent(column: NumericCells, dtype: np.dtype[Any]) -> bool:
    """Whether every cut point is a value of this dtype: else equal values would fall beside their own points."""
    cuts = column.cuts
    if dtype.kind == "b":
        return bool(np.all((cuts == 0.0) | (cuts == 1.0)))
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        # 2^63 - 1 and 2^64 - 1 are no floats; the next one, which they become, is out of bounds.
        below = cuts < float(bounds.max) if dtype.itemsize == 8 else cuts <= bounds.max
        return bool(np.all((cuts == np.rint(cuts)) & (cuts >= bounds.min) & below))
    with np.errstate(over="ignore"):
        return bool(np.all(cuts.astype(dtype).astype(np.float64) == cuts))


def _is_text(raw: bytes) -> bool:
    if raw.isascii():
        return b"\x00" not in raw
    try:
        return "\x00" not in raw.decode()
    except UnicodeDecodeError:
        return False
