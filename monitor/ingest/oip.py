"""Open Inference Protocol v2, JSON and binary extension: named tensors of one batch.

Binary: the JSON header, then the tensors that have `parameters.binary_data_size`, in the header's order (inputs,
then outputs), little-endian, without gaps. Reserved tensors: `driftd.ts` INT64 [N] nanoseconds UTC, `driftd.id`
BYTES [N], `driftd.tag.<key>` BYTES [N]. In BYTES a length of 0xFFFFFFFF is null; in FP tensors NaN is missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from detectors.profile import Baseline
from monitor.ingest.batch import NUMPY_TYPES, Tensor
from monitor.ingest.cells import text_fault
from monitor.ingest.decoded import Decoded, Faults, Place, Times
from monitor.ingest.elements import Buffer, decode_elements
from monitor.ingest.envelope import MAX_PARAMETER_BYTES, Opened, check_name, strict_decode
from monitor.ingest.errors import MalformedError, unprocessable
from monitor.ingest.rows import MAX_TAGS
from monitor.ingest.strictjson import read_parameters
from monitor.ingest.tensorjson import lifted_values, tensor_values

TIME_TENSOR: Final = "driftd.ts"
ID_TENSOR: Final = "driftd.id"
TAG_PREFIX: Final = "driftd.tag."
RESERVED_PREFIX: Final = "driftd."
MAX_RANK: Final = 8


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


_ENTRIES: Final = msgspec.json.Decoder(list[_Entry])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A tensor and where it stands."""

    tensor: Tensor
    pointer: str


def decode_tensors(opened: Opened, baseline: Baseline | None) -> Decoded:  # noqa: ARG001 - the formats' signature
    """An OIP v2 body. Everything about shapes, sizes and datatypes refuses the batch; bad elements reject rows."""
    entries, keys = _entries(opened)
    rows = _row_count(entries, opened)
    faults = Faults(rows)
    placed, keys_in_data = _tensors(entries, opened, faults)
    opened.settle_keys(keys + keys_in_data)
    named = {item.tensor.name: item for item in placed}
    if len(named) != len(placed):
        twice = next(item for item in placed if named[item.tensor.name] is not item)
        raise unprocessable(twice.pointer, f"two tensors are named {twice.tensor.name!r}")
    reserved = [item for item in placed if item.tensor.name.startswith(RESERVED_PREFIX)]
    tags = {
        item.tensor.name.removeprefix(TAG_PREFIX): item
        for item in reserved
        if item.tensor.name.startswith(TAG_PREFIX)
    }
    if len(tags) > MAX_TAGS:
        raise unprocessable("/inputs", f"a batch has at most {MAX_TAGS} tag keys, not {len(tags)}")
    for item in (*tags.values(), *(item for item in reserved if item.tensor.name == ID_TENSOR)):
        _check_reserved_text(item, rows, faults)
    plain = [item for item in placed if not _is_reserved(item.tensor.name)]
    return Decoded(
        style="tensors",
        id=opened.id,
        model_version=opened.model_version,
        parameters=opened.parameters,
        rows=rows,
        times=_times(named.get(TIME_TENSOR), opened, rows),
        faults=faults,
        body_sha256=opened.body_sha256,
        tensors=tuple(item.tensor for item in plain),
        tensor_pointers=tuple(item.pointer for item in plain),
        row_ids=named[ID_TENSOR].tensor if ID_TENSOR in named else None,
        tags={key: item.tensor for key, item in tags.items()},
    )


def _is_reserved(name: str) -> bool:
    return name in (TIME_TENSOR, ID_TENSOR) or name.startswith(TAG_PREFIX)


def _entries(opened: Opened) -> tuple[list[tuple[str, _Entry]], int]:
    """The header's tensors with their pointers, and the keys of their objects (those in data aside)."""
    entries: list[tuple[str, _Entry]] = []
    keys = 0
    for kind, raw in (("inputs", opened.head.inputs), ("outputs", opened.head.outputs)):
        if raw is UNSET:
            continue
        found: list[_Entry] = strict_decode(_ENTRIES.decode, raw, f"/{kind}")
        entries.extend((f"/{kind}/{index}", entry) for index, entry in enumerate(found))
        keys += sum(3 + (e.parameters is not UNSET) + (e.data is not UNSET) for e in found)
    if not 0 < len(entries) <= opened.limits.columns:
        raise unprocessable(
            "/inputs", f"a batch has 1 to {opened.limits.columns} tensors, not {len(entries)}"
        )
    return entries, keys


def _row_count(entries: Sequence[tuple[str, _Entry]], opened: Opened) -> int:
    """The one N all tensors share; nothing is allocated before it is bounded."""
    rows = -1
    for pointer, entry in entries:
        check_name(entry.name, f"{pointer}/name", opened.limits)
        if entry.datatype != "BYTES" and entry.datatype not in NUMPY_TYPES:
            raise unprocessable(
                f"{pointer}/datatype",
                f"{entry.datatype[:40]!r} is no datatype; they are BYTES, {', '.join(NUMPY_TYPES)}",
            )
        if not 0 < len(entry.shape) <= MAX_RANK or any(size < 1 for size in entry.shape):
            raise unprocessable(
                f"{pointer}/shape", f"tensor {entry.name!r}: a shape is [rows, ...] with sizes of at least 1"
            )
        if entry.shape[0] > opened.limits.rows:
            raise unprocessable(
                f"{pointer}/shape", f"a batch has at most {opened.limits.rows} rows, not {entry.shape[0]}"
            )
        if rows not in (-1, entry.shape[0]):
            raise unprocessable(
                f"{pointer}/shape",
                f"tensor {entry.name!r} has {entry.shape[0]} rows where {entries[0][1].name!r} has {rows}",
            )
        rows = entry.shape[0]
    return rows


def _tensors(
    entries: Sequence[tuple[str, _Entry]], opened: Opened, faults: Faults
) -> tuple[list[_Placed], int]:
    placed: list[_Placed] = []
    data: Buffer
    keys = at = 0
    tail = opened.tail if opened.tail is not None else memoryview(b"")
    for pointer, entry in entries:
        size, parameter_keys = _binary_size(entry, pointer)
        keys += parameter_keys
        if size is None:
            if entry.data is UNSET:
                raise unprocessable(pointer, f"tensor {entry.name!r} has neither data nor binary_data_size")
            piece, lifted = opened.piece(entry.data)
            plain = lifted_values(entry.datatype, entry.shape, piece) if lifted else None
            if plain is None:
                plain, data_keys = tensor_values(
                    entry.datatype, entry.shape, piece, f"{pointer}/data", opened.traps, faults
                )
                keys += data_keys
            data = plain
        else:
            if entry.data is not UNSET:
                raise unprocessable(
                    pointer, f"tensor {entry.name!r} has both data and binary_data_size; send one"
                )
            if opened.tail is None:
                raise MalformedError(
                    "binary_data_size in a JSON body; send the header Inference-Header-Content-Length"
                )
            if size > tail.nbytes - at:
                raise MalformedError(
                    f"tensor {entry.name!r} claims {size} bytes, {tail.nbytes - at} are left behind the header"
                )
            data = tail[at : at + size]
            at += size
            _check_size(entry, data, pointer)
        tensor = Tensor(name=entry.name, datatype=entry.datatype, shape=tuple(entry.shape), data=data)
        placed.append(_Placed(tensor=tensor, pointer=pointer))
    if at != tail.nbytes:
        raise MalformedError(
            f"{tail.nbytes - at} bytes are left behind the last tensor; check binary_data_size"
        )
    return placed, keys


def _binary_size(entry: _Entry, pointer: str) -> tuple[int | None, int]:
    if entry.parameters is UNSET:
        return None, 0
    view = memoryview(entry.parameters)
    if view.nbytes > MAX_PARAMETER_BYTES:
        raise unprocessable(f"{pointer}/parameters", f"parameters take at most {MAX_PARAMETER_BYTES} bytes")
    parameters, keys = read_parameters(view)
    if parameters is None:
        return None, 0
    if not isinstance(parameters, dict):
        raise unprocessable(f"{pointer}/parameters", "parameters are an object")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise unprocessable(f"{pointer}/parameters/binary_data_size", "binary_data_size is a number of bytes")
    return size, keys


def _check_size(entry: _Entry, data: Buffer, pointer: str) -> None:
    count = math.prod(entry.shape)
    if entry.datatype == "BYTES":
        try:
            decode_elements(data, count)
        except ValueError as error:
            raise unprocessable(pointer, f"tensor {entry.name!r}: {error}") from error
        return
    expected = count * NUMPY_TYPES[entry.datatype].itemsize
    if len(data) != expected:
        raise unprocessable(
            f"{pointer}/parameters/binary_data_size",
            f"tensor {entry.name!r}: shape {entry.shape} of {entry.datatype} takes {expected} bytes, not {len(data)}",
        )
    if entry.datatype == "BOOL" and np.frombuffer(data, dtype=np.uint8).max(initial=0) > 1:
        raise unprocessable(pointer, f"tensor {entry.name!r}: BOOL bytes are 0 or 1")


def _check_reserved_text(item: _Placed, rows: int, faults: Faults) -> None:
    tensor = item.tensor
    if tensor.datatype != "BYTES" or math.prod(tensor.shape) != rows:
        raise unprocessable(item.pointer, f"tensor {tensor.name!r} is BYTES of shape [{rows}]")
    check_text_elements(tensor, item.pointer, faults)


def check_text_elements(tensor: Tensor, pointer: str, faults: Faults) -> None:
    """Reject the rows whose elements are not UTF-8, or hold NUL; `/data/i` counts elements, binary or not."""
    for index, raw in enumerate(tensor.elements()):
        if raw is None or (raw.isascii() and b"\x00" not in raw):
            continue
        try:
            detail = text_fault(raw.decode())
        except UnicodeDecodeError:
            detail = "the bytes are not UTF-8 text"
        if detail:
            faults.reject(index // tensor.width, f"{pointer}/data/{index}", detail)


def _times(item: _Placed | None, opened: Opened, rows: int) -> Times:
    if item is None:
        return Times(place=Place(prefix=""), value=opened.parameters.get("ts"))
    tensor = item.tensor
    if tensor.datatype != "INT64" or math.prod(tensor.shape) != rows:
        raise unprocessable(
            item.pointer, f"tensor {TIME_TENSOR!r} is INT64 of shape [{rows}], nanoseconds UTC"
        )
    values = tensor.array().reshape(rows).astype(np.int64)
    return Times(place=Place(prefix=f"{item.pointer}/data/"), values=values)
