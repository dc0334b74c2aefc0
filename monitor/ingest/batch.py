"""A batch of predictions as it is stored: tensors, one event time per row, and the payload bytes."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.types import IntArray
from monitor.ingest.elements import Buffer, decode_elements, encode_elements
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.sealed import seal, unseal

NUMPY_TYPES: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
"""The fixed-width datatypes of the Open Inference Protocol v2; BYTES is the one beside them."""

NUMPY_NAMES: Final[Mapping[str, str]] = {name: dtype.name for name, dtype in NUMPY_TYPES.items()}
"""numpy's names of the same, kept because `dtype.name` is computed anew each time."""

RAW_CODEC: Final = 1

_NANOSECONDS: Final = struct.Struct("=q")

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One named tensor: `shape[0]` rows, elements row by row in `data`, little-endian.

    BYTES elements carry a uint32 length each; 0xFFFFFFFF is null (see `elements`).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer

    @property
    def width(self) -> int:
        """Elements per row."""
        return math.prod(self.shape[1:])

    def array(self) -> AnyArray:
        """A read-only view [rows, width] of a fixed-width tensor."""
        flat = np.frombuffer(self.data, dtype=NUMPY_TYPES[self.datatype])
        return flat.reshape(self.shape[0], self.width)

    def elements(self) -> list[bytes | None]:
        """The elements of a BYTES tensor, row by row."""
        return decode_elements(self.data, math.prod(self.shape))

    def texts(self) -> list[str | None]:
        """The elements of a BYTES tensor as text; bytes that are not UTF-8 become U+FFFD."""
        return [None if raw is None else raw.decode(errors="replace") for raw in self.elements()]

    def select(self, keep: npt.NDArray[np.bool_]) -> "Tensor":
        """The rows [N] marked in `keep`."""
        rows = int(keep.sum())
        if self.datatype == "BYTES":
            kept = np.repeat(keep, self.width).tolist()
            data = encode_elements(value for value, yes in zip(self.elements(), kept, strict=True) if yes)
        else:
            data = self.array()[keep].tobytes()
        return Tensor(name=self.name, datatype=self.datatype, shape=(rows, *self.shape[1:]), data=data)


def text_tensor(name: str, values: list[str | None]) -> Tensor:
    """A BYTES tensor [N] of texts and nulls."""
    return Tensor(name=name, datatype="BYTES", shape=(len(values),), data=encode_elements(values))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Predictions of one model version that arrived in one body.

    `id` is the client's batch id or None. `times_ns` int64 [rows] are event times in nanoseconds UTC.
    `row_ids` and each tag are BYTES tensors [rows]. `body_sha256` stands for the (inflated) body, see `digest`.
    """

    id: str | None
    model_version: str
    parameters: Mapping[str, Any]
    rows: int
    times_ns: IntArray
    tensors: tuple[Tensor, ...]
    tags: Mapping[str, Tensor]
    row_ids: Tensor | None
    body_sha256: str

    @property
    def span_ns(self) -> tuple[int, int]:
        """The earliest and the latest event time; zeros where there is no row."""
        if self.rows == 0:
            return 0, 0
        first = int(self.times_ns[0])
        # Most batches have one time for all: then their bytes repeat.
        if self.times_ns.tobytes() == _NANOSECONDS.pack(first) * self.rows:
            return first, first
        return int(self.times_ns.min()), int(self.times_ns.max())

    def tag_values(self, key: str) -> list[str | None]:
        """The values [rows] of one tag; all None where the batch does not carry it."""
        return self.tags[key].texts() if key in self.tags else [None] * self.rows


def held_bytes(batch: Batch) -> int:
    """What its rows take in memory."""
    tensors = [*batch.tensors, *batch.tags.values(), *([batch.row_ids] if batch.row_ids else [])]
    return batch.times_ns.nbytes + sum(memoryview(tensor.data).nbytes for tensor in tensors)


def layout(batch: Batch) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, datatype and the shape of one row, per tensor: batches that agree in it can be joined."""
    return tuple([(tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in batch.tensors])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of tensors that agree in all but their number, in order."""
    if len(parts) == 1:
        return parts[0]
    return Tensor(
        name=parts[0].name,
        datatype=parts[0].datatype,
        shape=(sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
        data=b"".join([part.data for part in parts]),
    )


def encode_payload(batch: Batch) -> bytes:
    """The batch as self-describing bytes: a fixed head, a JSON header, then the raw buffers in its order."""
    stored = [*batch.tensors, *batch.tags.values(), *([batch.row_ids] if batch.row_ids else [])]
    first, last = batch.span_ns
    one_time = first == last
    header = {
        "id": batch.id,
        "model_version": batch.model_version,
        "parameters": dict(batch.parameters),
        "rows": batch.rows,
        "body_sha256": batch.body_sha256,
        "time_ns": first if one_time else None,
        "tags": list(batch.tags),
        "row_ids": batch.row_ids is not None,
        "tensors": [[t.name, t.datatype, list(t.shape), memoryview(t.data).nbytes] for t in stored],
    }
    times: list[Buffer] = [] if one_time else [batch.times_ns.astype("<i8", copy=False).tobytes()]
    return seal(RAW_CODEC, header, [*times, *(t.data for t in stored)])


def decode_payload(payload: Buffer, *, written_here: bool = False) -> Batch:
    """The batch that `encode_payload` wrote; PayloadDamagedError for anything else.

    The checksum is for bytes that have been on a disk: those `written_here`, a moment ago, are taken without.
    """
    header, buffers = unseal(payload, RAW_CODEC, checked=not written_here)
    try:
        return _read(header, buffers)
    except (KeyError, TypeError, ValueError) as error:
        raise PayloadDamagedError(f"the payload's header and buffers disagree: {error}") from error


def _read(header: Mapping[str, Any], buffers: memoryview) -> Batch:
    rows = int(header["rows"])
    at = 0
    if header["time_ns"] is None:
        at = 8 * rows
        times = np.frombuffer(buffers[:at], dtype="<i8").astype(np.int64)
    else:
        times = np.full(rows, header["time_ns"], dtype=np.int64)
    stored: list[Tensor] = []
    for name, datatype, shape, size in header["tensors"]:
        tensor = Tensor(name=name, datatype=datatype, shape=tuple(shape), data=buffers[at : at + size])
        if len(tensor.data) != size or tensor.shape[0] != rows:
            raise ValueError(f"tensor {name!r} is cut short")
        stored.append(tensor)
        at += size
    if at != buffers.nbytes or times.shape != (rows,):
        raise ValueError("buffers and header differ in length")
    row_ids = stored.pop() if header["row_ids"] else None
    first_tag = len(stored) - len(header["tags"])
    return Batch(
        id=header["id"],
        model_version=header["model_version"],
        parameters=header["parameters"],
        rows=rows,
        times_ns=times,
        tensors=tuple(stored[:first_tag]),
        tags=dict(zip(header["tags"], stored[first_tag:], strict=True)),
        row_ids=row_ids,
        body_sha256=header["body_sha256"],
    )
