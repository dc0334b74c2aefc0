"""The envelope: an Open Inference Protocol v2 JSON header with the binary tensors behind it.

Layout of a body: `header_length` bytes of JSON, then the raw bytes of every tensor that the header lists, inputs
first, in that order, little-endian, without padding. BYTES elements are a 4-byte length and the bytes.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

TIMES = "driftd.ts"
IDS = "driftd.id"
TAG = "driftd.tag."
RESERVED = "driftd."
_FORMAT = 1
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a batch of N rows; its shape is (N, *tail) and `data` its C-ordered little-endian bytes."""

    name: str
    datatype: str  # of the Open Inference Protocol: FP32, INT64, BOOL, BYTES …
    tail: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows that can travel in one batch: every tensor has `rows` as its first dimension."""

    rows: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def signature(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Tables of equal signature can be joined."""
        return (
            *((tensor.name, tensor.datatype, tensor.tail) for tensor in self.inputs),
            ("", "", ()),
            *((tensor.name, tensor.datatype, tensor.tail) for tensor in self.outputs),
        )

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(len(tensor.data) for tensor in (*self.inputs, *self.outputs))

    def split(self, size_bytes: int) -> "Iterator[Table]":
        """The same rows in tables of about `size_bytes`. A table with BYTES tensors stays whole: its rows differ in size."""
        tensors = (*self.inputs, *self.outputs)
        if self.size <= size_bytes or self.rows < 2 or any(tensor.datatype == "BYTES" for tensor in tensors):
            yield self
            return
        step = max(1, size_bytes * self.rows // self.size)
        for first in range(0, self.rows, step):
            rows = min(step, self.rows - first)
            yield Table(
                rows=rows,
                inputs=tuple(self._slice(tensor, first, rows) for tensor in self.inputs),
                outputs=tuple(self._slice(tensor, first, rows) for tensor in self.outputs),
            )

    def _slice(self, tensor: Tensor, first: int, rows: int) -> Tensor:
        width = len(tensor.data) // self.rows
        return replace(tensor, data=tensor.data[first * width : (first + rows) * width])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a batch tells of the books of predictions: `seen = kept + dropped`, in rows, since the last batch shipped.

    `failed_inferences`, calls that raised since then, is left out when there were none.
    """

    kept: int
    dropped: int
    sample_rate: float
    failed_inferences: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the header says beside the tensors. `books`: None for labels, which are in none."""

    id: str
    model_version: str
    sent_at_ns: int
    books: Told | None


def join(tables: Sequence[Table]) -> Table:
    """One table of all rows, in order. All must have the signature of the first."""
    if len(tables) == 1:
        return tables[0]
    return Table(
        rows=sum(table.rows for table in tables),
        inputs=_join_tensors([table.inputs for table in tables]),
        outputs=_join_tensors([table.outputs for table in tables]),
    )


def _join_tensors(rows: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(
        replace(column[0], data=b"".join([tensor.data for tensor in column]))
        for column in zip(*rows, strict=True)
    )


def encode_text(values: Iterable[object]) -> bytes:
    """BYTES elements, each as `as_bytes` writes it."""
    pieces: list[bytes] = []
    for value in values:
        raw = as_bytes(value)
        pieces.append(_LENGTH.pack(len(raw)))
        pieces.append(raw)
    return b"".join(pieces)


def as_bytes(value: object) -> bytes:
    """The text of a value, UTF-8.

    None and NaN become the empty string, which the daemon counts as missing; numbers and truth values are written as
    the daemon writes the categories of training data: 123 for 123.0, true for True. TypeError for anything else.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, bytes):
        return value
    if value is None or value != value:
        return b""
    if isinstance(value, bool | np.bool_):
        return b"true" if value else b"false"
    if isinstance(value, float | np.floating) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float | np.number):
        return str(value).encode()
    raise TypeError(f"a {type(value).__name__} has no text of its own")


def times_tensor(times_ns: npt.NDArray[np.int64]) -> Tensor:
    """The reserved event time tensor of times [N], nanoseconds UTC."""
    return Tensor(name=TIMES, datatype="INT64", tail=(), data=times_ns.astype("<i8").tobytes())


def rfc3339(time_ns: int) -> str:
    """UTC, to the microsecond, in integers: a float of nanoseconds would be off by some hundred."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def encode(table: Table, envelope: Envelope) -> tuple[bytes, int]:
    """The body and the length of its JSON header."""
    header = json.dumps(
        {
            "id": envelope.id,
            "model_version": envelope.model_version,
            "parameters": parameters(envelope) | _sample(envelope),
            "inputs": [_describe(tensor, table.rows) for tensor in table.inputs],
            "outputs": [_describe(tensor, table.rows) for tensor in table.outputs],
        },
        separators=(",", ":"),
    ).encode("ascii")
    body = b"".join([header, *(tensor.data for tensor in (*table.inputs, *table.outputs))])
    return body, len(header)


def parameters(envelope: Envelope) -> dict[str, object]:
    """What bodies of rows and of counts tell alike."""
    told: dict[str, object] = {"driftd": _FORMAT, "sent_at": rfc3339(envelope.sent_at_ns)}
    books = envelope.books
    if books is None:
        return told
    told |= {"seen": books.kept + books.dropped, "kept": books.kept, "dropped": books.dropped}
    return told | ({"failed_inferences": books.failed_inferences} if books.failed_inferences else {})


def _sample(envelope: Envelope) -> dict[str, object]:
    return {} if envelope.books is None else {"sample_rate": envelope.books.sample_rate}


def _describe(tensor: Tensor, rows: int) -> dict[str, object]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": [rows, *tensor.tail],
        "parameters": {"binary_data_size": len(tensor.data)},
    }
