"""Arrow IPC, stream or file: one column of a record batch per column of the baseline, no Python object per row.

The names are those of the OIP tensors (`driftd.ts`, `driftd.id`, `driftd.tag.<key>` are reserved), null is missing,
dictionary-encoded text is text. The model version and the batch id stand in the schema's metadata
(`driftd.model_version`, `driftd.id`) or in headers. Numbers of a width keep it; there is no guessing of types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final

import numpy as np

from detectors.profile import Baseline
from detectors.types import IntArray
from monitor.ingest.arrowframes import check_frames, stream_of
from monitor.ingest.arrowvalues import Budget, Converted, convert, text_elements
from monitor.ingest.batch import Tensor
from monitor.ingest.decoded import Decoded, DecodeLimits, Faults, Place, Times
from monitor.ingest.digest import body_digest
from monitor.ingest.envelope import check_batch_id, check_name
from monitor.ingest.errors import MalformedError, UnsupportedError, pointer_token, unprocessable
from monitor.ingest.oip import ID_TENSOR, TAG_PREFIX, TIME_TENSOR
from monitor.ingest.rows import MAX_TAGS

VERSION_KEY: Final = "driftd.model_version"
ID_KEY: Final = "driftd.id"
VERSION_HEADER: Final = "Driftd-Model-Version"

_NANOSECONDS: Final[Mapping[str, int]] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_INT64: Final = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedArrow:
    """An Arrow body that has been read and validated, but not decoded; `table` is a pyarrow Table."""

    id: str | None
    model_version: str
    table: Any
    body_sha256: str
    limits: DecodeLimits
    bytes_limit: int
    parameters: Mapping[str, Any] = field(default_factory=dict)


def open_arrow(
    body: bytes, *, is_file: bool, version: str | None, limits: DecodeLimits, bytes_limit: int
) -> OpenedArrow:
    """Read a body; `version` is what the header says, `bytes_limit` bounds what its buffers inflate to.

    UnsupportedError (415) without pyarrow, MalformedError (400) for what is no Arrow, TooLargeError (413).
    """
    pa = _pyarrow()
    stream = stream_of(body, is_file=is_file)
    check_frames(stream, bytes_limit, is_file=is_file)
    try:
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(stream), options=options) as reader:
            table = reader.read_all()
        # Offsets, dictionary indexes and UTF-8 are taken on trust by every kernel that follows.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise MalformedError(f"the body is no valid Arrow IPC: {str(error)[:200]}") from error
    said = _metadata(table)
    named = said.get(VERSION_KEY)
    if version is not None and named not in (None, version):
        raise MalformedError(f"{VERSION_HEADER} and the schema's {VERSION_KEY} differ; send one")
    model_version = version or named
    if model_version is None:
        raise unprocessable(
            f"/metadata/{VERSION_KEY}",
            f"no model version: send the header {VERSION_HEADER}, or the schema metadata {VERSION_KEY}",
        )
    check_name(model_version, f"/metadata/{VERSION_KEY}", limits)
    if said.get(ID_KEY) is not None:
        check_batch_id(said[ID_KEY], limits)
    return OpenedArrow(
        id=said.get(ID_KEY),
        model_version=model_version,
        table=table,
        body_sha256=body_digest(body, version or ""),
        limits=limits,
        bytes_limit=bytes_limit,
    )


def decode_arrow(opened: OpenedArrow, baseline: Baseline | None) -> Decoded:
    """The batch of an Arrow body. Types refuse the batch; a NUL in text, or a time that is none, its row."""
    table, limits = opened.table, opened.limits
    rows = table.num_rows
    if not 0 < rows <= limits.rows:
        raise unprocessable("/columns", f"a batch has 1 to {limits.rows} rows, not {rows}")
    _check_columns(table, limits)
    faults = Faults(rows)
    budget = Budget(opened.bytes_limit)
    known = {} if baseline is None else {column.name: column for column in baseline.columns}
    tensors: list[Tensor] = []
    texts: dict[str, Tensor] = {}
    times = Times(place=_place(TIME_TENSOR))
    for name, chunked in zip(table.column_names, table.columns, strict=True):
        column = chunked.combine_chunks()
        pointer = f"/columns/{pointer_token(name)}"
        if name == TIME_TENSOR:
            times = replace(times, values=_times(column, pointer, faults))
        elif name == ID_TENSOR or name.startswith(TAG_PREFIX):
            texts[name] = _as_tensor(name, text_elements(column, pointer, budget), pointer, faults)
        else:
            tensors.append(
                _as_tensor(name, convert(column, known.get(name), pointer, budget), pointer, faults)
            )
    return Decoded(
        style="arrow",
        id=opened.id,
        model_version=opened.model_version,
        parameters=opened.parameters,
        rows=rows,
        times=times,
        faults=faults,
        body_sha256=opened.body_sha256,
        tensors=tuple(tensors),
        tensor_pointers=tuple(f"/columns/{pointer_token(tensor.name)}" for tensor in tensors),
        row_ids=texts.pop(ID_TENSOR, None),
        tags={name.removeprefix(TAG_PREFIX): tensor for name, tensor in texts.items()},
    )


def _pyarrow() -> ModuleType:
    try:
        import pyarrow.ipc
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "this daemon reads no Arrow: install driftd with the extra 'arrow' (pip install 'driftd[arrow]'), "
            "or send application/octet-stream or application/json"
        ) from error
    # The import binds the package, whose `ipc` it has loaded.
    module: ModuleType = pyarrow
    return module


def _metadata(table: Any) -> Mapping[str, str]:
    """The two keys of the schema's metadata that are ours; others are the writer's own."""
    found = table.schema.metadata or {}
    said: dict[str, str] = {}
    for key in (VERSION_KEY, ID_KEY):
        value = found.get(key.encode())
        if value is not None:
            try:
                said[key] = value.decode()
            except UnicodeDecodeError as error:
                raise unprocessable(f"/metadata/{key}", "the metadata is not UTF-8 text") from error
    return said


def _check_columns(table: Any, limits: DecodeLimits) -> None:
    names = table.column_names
    if not 0 < len(names) <= limits.columns:
        raise unprocessable("/columns", f"a batch has 1 to {limits.columns} columns, not {len(names)}")
    seen: set[str] = set()
    for name in names:
        pointer = f"/columns/{pointer_token(name)}"
        check_name(name, pointer, limits)
        if name in seen:
            raise unprocessable(pointer, f"two columns are named {name!r}")
        seen.add(name)
    tags = sum(name.startswith(TAG_PREFIX) for name in names)
    if tags > MAX_TAGS:
        raise unprocessable("/columns", f"a batch has at most {MAX_TAGS} tag keys, not {tags}")


def _as_tensor(name: str, made: Converted, pointer: str, faults: Faults) -> Tensor:
    for row in made.bad_rows:
        faults.reject(row, f"{pointer}/{row}", "the text holds a NUL; send text without")
    return Tensor(name=name, datatype=made.datatype, shape=made.shape, data=made.data)


def _times(column: Any, pointer: str, faults: Faults) -> IntArray:
    """Nanoseconds UTC [N]; a null, or a time beyond what nanoseconds can count, rejects its row."""
    kind = str(column.type)
    unit = "ns"
    if kind.startswith("timestamp["):
        if column.type.tz is None:
            raise unprocessable(
                pointer, "the times have no zone; send timestamp with tz=UTC, or int64 nanoseconds UTC"
            )
        unit = column.type.unit
    elif kind != "int64":
        raise unprocessable(
            pointer, f"{TIME_TENSOR} is {kind}; send timestamp with a zone, or int64 nanoseconds UTC"
        )
    for row in np.flatnonzero(np.asarray(column.is_null())).tolist():
        faults.reject(
            row, f"{pointer}/{row}", "the time is null; give every row one, or leave the column out"
        )
    counted = column.cast("int64").fill_null(0).to_numpy()
    factor = _NANOSECONDS[unit]
    low, high = _INT64.min // factor + 1, _INT64.max // factor
    for row in np.flatnonzero((counted < low) | (counted > high)).tolist() if factor > 1 else ():
        faults.reject(
            row,
            f"{pointer}/{row}",
            "the time lies outside the years 1678 to 2261 that nanoseconds can count",
        )
    return np.asarray(np.clip(counted, low, high) * factor if factor > 1 else counted, dtype=np.int64)


def _place(name: str) -> Place:
    return Place(prefix=f"/columns/{pointer_token(name)}/")
