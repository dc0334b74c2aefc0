"""Columnar JSON: one array per column.

`{"id"?, "model_version", "parameters"?, "ts"?: time | [N], "ids"?: [N], "tags"?: {key: [N]}, "columns":
{name: [N]}, "prediction"?: [N], "confidence"?: [N]}`. Each column has its own typed pass; one that is refused
is read again value by value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from detectors.profile import Baseline
from detectors.types import FloatArray
from monitor.ingest.batch import text_tensor
from monitor.ingest.cells import Scalar, cell_fault, is_float_column, text_fault
from monitor.ingest.decoded import Cells, Decoded, Faults, Place, Times
from monitor.ingest.envelope import Opened, check_name, strict_decode, untyped
from monitor.ingest.errors import pointer_token, unprocessable
from monitor.ingest.lifting import numbers
from monitor.ingest.rows import MAX_TAGS
from monitor.ingest.strictjson import MAX_STRICT_BYTES, StrictReader

_PIECES: Final = msgspec.json.Decoder(dict[str, Raw])
_FLOATS: Final = msgspec.json.Decoder(list[float | None])
_SCALARS: Final = msgspec.json.Decoder(list[Scalar])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Array:
    """One array of the body: its values, the faults among them by position, and the keys of objects inside."""

    name: str
    pointer: str
    values: list[Any] | FloatArray
    faults: Mapping[int, str]
    keys: int = 0
    floats_only: bool = False


def decode_columns(opened: Opened, baseline: Baseline | None) -> Decoded:
    """A columnar JSON body; bad values reject their rows, unequal lengths the batch."""
    known = {} if baseline is None else {column.name: column for column in baseline.columns}
    given: Any = opened.head.columns
    if isinstance(given, dict) and not all(is_float_column(known.get(name)) for name in given):
        opened = untyped(opened)
        given = opened.head.columns
    head, limits = opened.head, opened.limits
    pieces: Mapping[str, Any] = given if isinstance(given, dict) else _objects(given, "/columns")
    if not 0 < len(pieces) <= limits.columns:
        raise unprocessable("/columns", f"a batch has 1 to {limits.columns} columns, not {len(pieces)}")
    arrays: list[_Array] = []
    for name, raw in pieces.items():
        pointer = f"/columns/{pointer_token(name)}"
        check_name(name, pointer, limits)
        if isinstance(raw, list):
            arrays.append(_Array(name=name, pointer=pointer, values=raw, faults={}, floats_only=True))
        else:
            arrays.append(_read(opened, name, pointer, raw, floats=is_float_column(known.get(name))))
    for name, extra in (("prediction", head.prediction), ("confidence", head.confidence)):
        if extra is not UNSET:
            if name in pieces:
                raise unprocessable(
                    f"/{name}", f"{name} is sent as a key of the body and as a column; send one"
                )
            arrays.append(_read(opened, name, f"/{name}", extra, floats=name == "confidence"))
    rows = len(arrays[0].values)
    if not 0 < rows <= limits.rows:
        raise unprocessable(arrays[0].pointer, f"a batch has 1 to {limits.rows} rows, not {rows}")
    tag_pieces = {} if head.tags is UNSET else _objects(head.tags, "/tags")
    tags = [
        _read(opened, key, f"/tags/{pointer_token(key)}", raw, only=str) for key, raw in tag_pieces.items()
    ]
    if len(tags) > MAX_TAGS:
        raise unprocessable("/tags", f"a batch has at most {MAX_TAGS} tag keys, not {len(tags)}")
    for tag in tags:
        check_name(tag.name, tag.pointer, limits)
    ids = [] if head.ids is UNSET else [_read(opened, "driftd.id", "/ids", head.ids, only=str)]
    every = [*arrays, *tags, *ids]
    opened.settle_keys(len(pieces) + len(tag_pieces) + sum(array.keys for array in every))
    faults = _settle(every, rows)
    texts = {array.name: text_tensor(array.name, list(array.values)) for array in (*tags, *ids)}
    return Decoded(
        style="columns",
        id=opened.id,
        model_version=opened.model_version,
        parameters=opened.parameters,
        rows=rows,
        times=_times(opened, rows),
        faults=faults,
        body_sha256=opened.body_sha256,
        cells=tuple(
            Cells(
                name=a.name, values=a.values, place=Place(prefix=f"{a.pointer}/"), floats_only=a.floats_only
            )
            for a in arrays
        ),
        row_ids=texts["driftd.id"] if ids else None,
        tags={tag.name: texts[tag.name] for tag in tags},
    )


def _objects(raw: Raw | UnsetType, pointer: str) -> Mapping[str, Raw]:
    found: Mapping[str, Raw] = strict_decode(_PIECES.decode, raw, pointer)
    return found


def _read(
    opened: Opened, name: str, pointer: str, raw: Raw, *, floats: bool = False, only: type | None = None
) -> _Array:
    """One array; `floats` picks the fastest decoders, `only` the type its values must have besides null."""
    piece, lifted = opened.piece(raw)
    plain = numbers(piece) if lifted and floats else None
    if plain is not None:
        return _Array(name=name, pointer=pointer, values=plain, faults={}, floats_only=True)
    if not opened.traps:
        for decoder in (_FLOATS, _SCALARS) if floats else (_SCALARS,):
            try:
                values: list[Any] = decoder.decode(piece)
            except (ValueError, RecursionError):
                continue
            return _typed(
                _Array(name=name, pointer=pointer, values=values, faults={}, floats_only=decoder is _FLOATS),
                only,
            )
    view = memoryview(piece)
    if view.nbytes > MAX_STRICT_BYTES:
        raise unprocessable(
            pointer,
            f"a value of the array is wrong, and {view.nbytes} bytes are too many to name it; send fewer rows",
        )
    reader = StrictReader()
    values = reader.read(view)
    if not isinstance(values, list):
        raise unprocessable(pointer, f"{name!r} is an array with one value per row")
    found = {row: fault for row, value in enumerate(values) if (fault := cell_fault(value))}
    for row in found:
        values[row] = None
    return _typed(_Array(name=name, pointer=pointer, values=values, faults=found, keys=reader.keys), only)


def _typed(array: _Array, only: type | None) -> _Array:
    if only is None:
        return array
    wrong = {
        row: "expected text or null"
        for row, v in enumerate(array.values)
        if v is not None and type(v) is not only
    }
    if not wrong:
        return array
    values = [None if row in wrong else value for row, value in enumerate(array.values)]
    return _Array(
        name=array.name,
        pointer=array.pointer,
        values=values,
        faults={**wrong, **array.faults},
        keys=array.keys,
    )


def _settle(arrays: list[_Array], rows: int) -> Faults:
    """Refuse unequal lengths, naming the array; gather the faults of all."""
    faults = Faults(rows)
    for array in arrays:
        if len(array.values) != rows:
            raise unprocessable(
                array.pointer,
                f"{array.name!r} has {len(array.values)} values where {arrays[0].name!r} has {rows}",
            )
        for row, fault in array.faults.items():
            faults.reject(row, f"{array.pointer}/{row}", fault)
    return faults


def _times(opened: Opened, rows: int) -> Times:
    place = Place(prefix="/ts/")
    if opened.head.ts is UNSET:
        return Times(place=place, value=opened.parameters.get("ts"))
    view = memoryview(opened.piece(opened.head.ts)[0])
    if view.nbytes > MAX_STRICT_BYTES * 2:
        raise unprocessable("/ts", "the times take too many bytes; send fewer rows")
    value = StrictReader().read(view)
    if not isinstance(value, list):
        if isinstance(value, str) and text_fault(value):
            raise unprocessable("/ts", "not an RFC 3339 time; send e.g. 2026-01-31T12:00:00Z")
        return Times(place=place, value_pointer="/ts", value=value)
    if len(value) != rows:
        raise unprocessable("/ts", f"'ts' has {len(value)} values where the columns have {rows}")
    return Times(place=place, values=value)
