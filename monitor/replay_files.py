"""History as the ingest takes it: rows of CSV and Parquet files, and bodies that were posted once, one after another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.profile import Baseline, CategoricalColumn, Column
from detectors.types import ColumnType, IntArray
from monitor.ingest.accept import event_times
from monitor.ingest.batch import NUMPY_NAMES, Tensor, text_tensor
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import Decoded, DecodeLimits, Faults, Place, Times
from monitor.ingest.envelope import open_body, sent_ns
from monitor.ingest.errors import IngestError
from monitor.ingest.times import SECOND
from monitor.training import TrainingError
from monitor.training.reading import Cells, Chunk, column_names, read_chunks
from monitor.training.times import read_seconds
from monitor.training.values import MISSING_NUMBERS, read_booleans, read_numbers

ROWS_PER_BATCH: Final = 10_000
BODIES: Final = (".json", ".jsonl", ".ndjson", ".bin")
_DATATYPES: Final = {numpy: name for name, numpy in NUMPY_NAMES.items()}
_SPACE: Final = b" \t\r\n"


class ReplayError(Exception):
    """History that cannot be replayed; names the file and the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A batch and when it came: when it was sent, else when its last row happened."""

    decoded: Decoded
    arrived_ns: int
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """How to read CSV and Parquet: which column says when a row happened, as for `driftd baseline build`.

    `tags` are columns that make segments, where a file has them.
    """

    time: str | None = None
    delimiter: str = ","
    missing: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def is_bodies(path: Path) -> bool:
    """Whether a file holds posted bodies, by its name: JSON ones or binary envelopes."""
    return path.suffix.lower() in BODIES


def table_columns(path: Path, baseline: Baseline, table: TableFormat) -> dict[str, Column]:
    """The columns of a file that are monitored, by their name there."""
    try:
        names = column_names(path, table.delimiter)
    except TrainingError as error:
        raise ReplayError(str(error)) from None
    if table.time is None:
        raise ReplayError(f"{path}: say with --time which column holds when each row happened")
    if table.time not in names:
        raise ReplayError(f"{path}: --time {table.time}: no such column; there are {', '.join(names)}")
    known = {column.name: column for column in baseline.columns}
    renamed = {
        t.name: known[t.columns[0]]
        for t in baseline.tensors
        if len(t.columns) == 1 and t.columns[0] in known and t.name not in known
    }
    return {name: column for name, column in (known | renamed).items() if name in names}


def table_arrivals(
    path: Path, version: str, columns: Mapping[str, Column], table: TableFormat
) -> Iterator[Arrival]:
    """The rows of a file, sorted within each batch of 10 000."""
    assert table.time is not None
    try:
        tags = [key for key in table.tags if key in column_names(path, table.delimiter)]
        names = list(dict.fromkeys([*columns, *tags]))
        chunks = read_chunks(path, names, table.delimiter, ROWS_PER_BATCH, time=table.time)
        for chunk in chunks:
            seconds = read_seconds(table.time, chunk.columns[table.time], _places(chunk))
            order = np.argsort(seconds, kind="stable")
            tensors = tuple(
                _tensor(name, column, chunk, order, table.missing) for name, column in columns.items()
            )
            yield _arrival(
                chunk,
                version,
                tensors,
                seconds[order] * SECOND,
                {key: _texts(key, chunk, order, table.missing) for key in tags},
            )
    except TrainingError as error:
        raise ReplayError(str(error)) from None


def _places(chunk: Chunk) -> Any:
    return lambda row: f"{chunk.path}, row {chunk.first_row + row}"


def _arrival(
    chunk: Chunk,
    version: str,
    tensors: tuple[Tensor, ...],
    times_ns: IntArray,
    tags: Mapping[str, Tensor],
) -> Arrival:
    decoded = Decoded(
        style="tensors",
        id=f"{chunk.path}#{chunk.first_row}",
        model_version=version,
        parameters={},
        rows=chunk.rows,
        times=Times(place=Place(prefix="/"), values=times_ns),
        faults=Faults(chunk.rows),
        body_sha256="",
        tensors=tensors,
        tensor_pointers=tuple(f"/{tensor.name}" for tensor in tensors),
        tags=tags,
    )
    place = f"{chunk.path}, rows {chunk.first_row} to {chunk.first_row + chunk.rows - 1}"
    return Arrival(decoded=decoded, arrived_ns=int(times_ns[-1]), place=place)


def _tensor(name: str, column: Column, chunk: Chunk, order: IntArray, missing: Sequence[str]) -> Tensor:
    cells = chunk.columns[name]
    if column.type is ColumnType.TEXT or (isinstance(column, CategoricalColumn) and column.dtype == "string"):
        return _texts(name, chunk, order, missing)
    values = _numbers(name, column, cells, chunk, frozenset(missing) | MISSING_NUMBERS)[order]
    floats = np.dtype(column.dtype).kind == "f" if column.dtype != "string" else False
    dtype = np.dtype(column.dtype if floats else "float64")
    with np.errstate(over="ignore"):
        data = np.ascontiguousarray(values.astype(dtype.newbyteorder("<"))).tobytes()
    return Tensor(name=name, datatype=_DATATYPES[dtype.name], shape=(chunk.rows,), data=data)


def _texts(name: str, chunk: Chunk, order: IntArray, missing: Sequence[str]) -> Tensor:
    return text_tensor(name, [_text(value, missing) for value in chunk.columns[name].values[order].tolist()])


def _text(value: object, missing: Sequence[str]) -> str | None:
    if value is None or value != value or value == "" or value in missing:
        return None
    return str(value)


def _numbers(
    name: str, column: Column, cells: Cells, chunk: Chunk, missing: frozenset[str]
) -> npt.NDArray[np.float64]:
    """Numbers [n] as training reads them, NaN where missing."""
    if cells.values.dtype != object:
        values = cells.values.astype(np.float64)
        return values if cells.null is None else np.where(cells.null, np.nan, values)
    if column.type is ColumnType.BOOLEAN:
        values, bad = read_booleans(cells.values, missing)
    else:
        read = read_numbers(cells.values, missing, maybe_whole=False)
        values, bad = read.values, read.bad
    if bad is not None:
        raise ReplayError(
            f"{chunk.path}, row {chunk.first_row + bad}: column {name!r}: {str(cells.values[bad])[:40]!r} is no "
            f"{column.type.value} value; the baseline says it is {column.type.value}"
        )
    return values


def body_arrivals(path: Path, baseline: Baseline, limits: DecodeLimits) -> Iterator[Arrival]:
    """The bodies of a file, in its order: JSON bodies (one after another, as a line each) or binary envelopes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from None
    for number, (body, header) in enumerate(_bodies(path, content), start=1):
        place = f"{path}, body {number}"
        try:
            opened = open_body(body, header, limits)
            decoded = decode_body(opened, baseline)
            sent = sent_ns(opened.parameters)
            times = event_times(decoded, sent or 0)
        except IngestError as error:
            issues = [f"{issue.pointer}: {issue.detail}" for issue in error.issues]
            raise ReplayError(f"{place}: {'; '.join(issues[:1]) or error}") from None
        if sent is None and not int(times.min()):
            raise ReplayError(f"{place}: neither its rows nor the batch say when they happened; add ts")
        yield Arrival(decoded=decoded, arrived_ns=sent or int(times.max()), place=place)


def _bodies(path: Path, content: bytes) -> Iterator[tuple[bytes, int | None]]:
    """Each body and the length of its JSON header, None for one that is JSON alone."""
    # One character a byte, so that positions in the text are those in the file.
    text = content.decode("latin-1")
    decoder, at = json.JSONDecoder(), 0
    while True:
        while at < len(content) and content[at : at + 1] in _SPACE:
            at += 1
        if at >= len(content):
            return
        try:
            head, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise ReplayError(f"{path}, byte {at}: here a body should begin, and this is no JSON") from None
        tail = _tail_bytes(head)
        if end + tail > len(content):
            raise ReplayError(f"{path}, byte {end}: the file ends within the tensors of this body")
        yield content[at : end + tail], end - at if tail else None
        at = end + tail


def _tail_bytes(head: Any) -> int:
    """How many bytes of binary tensors follow a header."""
    if not isinstance(head, dict):
        return 0
    total = 0
    for key in ("inputs", "outputs"):
        tensors = head.get(key)
        for tensor in tensors if isinstance(tensors, list) else ():
            parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
            size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
            total += size if isinstance(size, int) and size > 0 else 0
    return total
