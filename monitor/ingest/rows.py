"""Row JSON: one object per prediction.

`{"id"?, "model_version", "parameters"?, "rows": [{"ts"?, "id"?, "tags"?, "features": {...}, "prediction"?,
"confidence"?}]}`. The fast path is one typed msgspec pass; a body it refuses is read again row by row, so that
one bad row costs itself and not its batch.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from detectors.profile import Baseline
from detectors.types import ColumnRole
from monitor.ingest.batch import Tensor, text_tensor
from monitor.ingest.cells import Scalar, cell_fault, is_float_column, text_fault
from monitor.ingest.decoded import MISSING, Cells, Decoded, DecodeLimits, Faults, Place, Times, feature_place
from monitor.ingest.envelope import Opened, check_name, strict_decode, untyped
from monitor.ingest.errors import pointer_token, unprocessable
from monitor.ingest.strictjson import MAX_STRICT_BYTES, OutOfRange, StrictReader
from monitor.ingest.typed import TypedRow, columns_of, feature_names

MAX_TAGS: Final = 64

_Tags = Mapping[str, str | None] | None


class _ScalarRow(msgspec.Struct, forbid_unknown_fields=True):
    features: dict[str, Scalar]
    ts: str | int | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    tags: dict[str, str | None] | UnsetType | None = UNSET
    prediction: Scalar | UnsetType = UNSET
    confidence: float | UnsetType | None = UNSET


class _FloatRow(msgspec.Struct, forbid_unknown_fields=True):
    features: dict[str, float | None]
    ts: str | int | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    tags: dict[str, str | None] | UnsetType | None = UNSET
    prediction: Scalar | UnsetType = UNSET
    confidence: float | UnsetType | None = UNSET


_Row = _ScalarRow | _FloatRow
_Split = Mapping[str, Sequence[Any]]
_OPTIONAL: Final = ("ts", "id", "tags", "prediction", "confidence")
_SCALARS: Final = msgspec.json.Decoder(list[_ScalarRow])
_FLOATS: Final = msgspec.json.Decoder(list[_FloatRow])
_PIECES: Final = msgspec.json.Decoder(list[Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The rows [N] of a body however they were read, key by key, and how many keys their objects have."""

    rows: Sequence[_Row]
    split: _Split
    keys: int
    faults: Faults
    floats_only: bool


def decode_rows(opened: Opened, baseline: Baseline | None) -> Decoded:
    """A row JSON body; bad rows are in the result's faults, and only the batch as a whole raises IngestError."""
    raw: Any = opened.head.rows
    assert raw is not UNSET
    limits = opened.limits
    if isinstance(raw, list):
        if baseline is not None and raw and isinstance(raw[0], TypedRow):
            return _decode_typed(opened, raw, baseline)
        return decode_rows(untyped(opened), baseline)
    # A row has at least two objects: this bounds what a body of tiny rows can make us build.
    if len(opened.json) > 15 * limits.rows and opened.json.count(b"{") > 3 * limits.rows + 64:
        raise unprocessable("/rows", f"a batch has at most {limits.rows} rows")
    read = (None if opened.traps else _fast(raw, baseline)) or _row_by_row(raw, limits)
    opened.settle_keys(read.keys)
    if not 0 < len(read.rows) <= limits.rows:
        raise unprocessable("/rows", f"a batch has 1 to {limits.rows} rows, not {len(read.rows)}")
    return _decoded(opened, read.split, read.faults, _cells(read, baseline, limits))


def _decode_typed(opened: Opened, rows: list[TypedRow], baseline: Baseline) -> Decoded:
    """The batch of rows that came with all features and nothing else in them."""
    limits, names = opened.limits, feature_names(baseline)
    split = _split(rows)
    keys = len(rows) * len(names) + _count_shared(split, len(rows))
    opened.settle_keys(keys)
    if len(rows) > limits.rows:
        raise unprocessable("/rows", f"a batch has 1 to {limits.rows} rows, not {len(rows)}")
    faults = Faults(len(rows))
    cells = [
        Cells(name=name, values=values, place=feature_place(name), floats_only=True)
        for name, values in zip(names, columns_of(split["features"], len(names)), strict=True)
    ]
    return _decoded(opened, split, faults, (*cells, *_beside(split, frozenset(names))))


def _decoded(opened: Opened, split: _Split, faults: Faults, cells: tuple[Cells, ...]) -> Decoded:
    return Decoded(
        style="rows",
        id=opened.id,
        model_version=opened.model_version,
        parameters=opened.parameters,
        rows=len(split["features"]),
        times=Times(
            place=Place(prefix="/rows/", suffix="/ts"),
            value=opened.parameters.get("ts"),
            values=_optional(split["ts"]),
        ),
        faults=faults,
        body_sha256=opened.body_sha256,
        cells=cells,
        row_ids=_row_ids(split),
        tags=_tags(split, opened.limits),
    )


def _fast(raw: Raw, baseline: Baseline | None) -> _Read | None:
    features = [] if baseline is None else [c for c in baseline.columns if c.role is ColumnRole.FEATURE]
    decoders: list[Callable[[Any], Sequence[_Row]]] = [_SCALARS.decode]
    if features and all(is_float_column(column) for column in features):
        decoders.insert(0, _FLOATS.decode)
    for decode in decoders:
        try:
            rows = decode(raw)
        except (ValueError, RecursionError):
            continue
        split = _split(rows)
        return _Read(
            rows=rows,
            split=split,
            keys=sum(map(len, split["features"])) + _count_shared(split, len(rows)),
            faults=Faults(len(rows)),
            floats_only=decode == _FLOATS.decode,
        )
    return None


def _count_shared(split: _Split, rows: int) -> int:
    """The keys of the rows and of their tags, those within features aside."""
    keys = rows * (1 + len(_OPTIONAL)) - sum(split[name].count(UNSET) for name in _OPTIONAL)
    return keys + sum(len(tags) for tags in split["tags"] if tags)


def _row_by_row(raw: Raw, limits: DecodeLimits) -> _Read:
    pieces: list[Raw] = strict_decode(_PIECES.decode, raw, "/rows")
    if len(pieces) > limits.rows:
        raise unprocessable("/rows", f"a batch has at most {limits.rows} rows")
    faults = Faults(len(pieces))
    reader = StrictReader()
    rows: list[_Row] = []
    for number, piece in enumerate(pieces):
        view = memoryview(piece)
        if view.nbytes > MAX_STRICT_BYTES:
            raise unprocessable(f"/rows/{number}", f"a row takes at most {MAX_STRICT_BYTES} bytes")
        rows.append(_strict_row(reader.read(view), number, faults))
    return _Read(rows=rows, split=_split(rows), keys=reader.keys, faults=faults, floats_only=False)


def _strict_row(value: Any, number: int, faults: Faults) -> _ScalarRow:
    """The row if it is sound, else an empty one in its place and the reasons in `faults`."""
    at = f"/rows/{number}"
    found = list(_row_faults(value))
    for pointer, detail in found:
        faults.reject(number, at + pointer, detail)
    return _ScalarRow(features={}) if found else _ScalarRow(**value)


def _row_faults(value: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(value, dict):
        yield "", 'a row is an object with "features"'
        return
    for key in value.keys() - {"features", *_OPTIONAL}:
        yield f"/{pointer_token(key)}", f'unknown key {key[:100]!r}; a model\'s inputs belong into "features"'
    features = value.get("features")
    if not isinstance(features, dict):
        yield "/features", "features are an object of column and value"
    else:
        for name, cell in features.items():
            detail = text_fault(name) or cell_fault(cell)
            if detail:
                yield f"/features/{pointer_token(name)}", detail
    if "prediction" in value and (detail := cell_fault(value["prediction"])):
        yield "/prediction", detail
    confidence = value.get("confidence")
    if not (confidence is None or type(confidence) in (int, float)):
        yield "/confidence", cell_fault(confidence) or "a confidence is a number or null"
    ts = value.get("ts")
    if isinstance(ts, OutOfRange) or not (ts is None or type(ts) in (int, str)):
        yield "/ts", "a time is RFC 3339 text or an integer of nanoseconds since 1970 UTC"
    yield from _text_faults(value)


def _text_faults(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    row_id, tags = value.get("id"), value.get("tags")
    if row_id is not None and (not isinstance(row_id, str) or text_fault(row_id)):
        yield "/id", "an id is text without NUL or lone surrogate, or null"
    if tags is None:
        return
    if not isinstance(tags, dict):
        yield "/tags", "tags are an object of text and text"
        return
    for key, tag in tags.items():
        if text_fault(key) or not (tag is None or (isinstance(tag, str) and not text_fault(tag))):
            yield f"/tags/{pointer_token(key)}", "a tag is text without NUL or lone surrogate, or null"


def _split(rows: Sequence[_Row | TypedRow]) -> _Split:
    """Each key's values [N], UNSET where a row does not have it."""
    if not rows:
        return dict.fromkeys(("features", *_OPTIONAL), ())
    columns = zip(*map(msgspec.structs.astuple, rows), strict=True)
    return dict(zip(rows[0].__struct_fields__, columns, strict=True))


def _optional(values: Sequence[Any]) -> list[Any] | None:
    """One optional key of every row, None where it is absent; None if no row has it."""
    absent = values.count(UNSET)
    if absent == len(values):
        return None
    return [None if value is UNSET else value for value in values] if absent else list(values)


def _cells(read: _Read, baseline: Baseline | None, limits: DecodeLimits) -> tuple[Cells, ...]:
    features: Sequence[dict[str, Any]] = read.split["features"]
    required = [] if baseline is None else [c.name for c in baseline.columns if c.role is ColumnRole.FEATURE]
    gathered, complete = _gather(features, required)
    columns = dict(zip(required, gathered, strict=True))
    if not complete or any(len(row) != len(required) for row in features):
        extras = dict.fromkeys(chain.from_iterable(features))
        if len(extras) > limits.columns:
            raise unprocessable("/rows", f"the rows name {len(extras)} columns; at most {limits.columns}")
        for name in extras:
            if name not in columns:
                check_name(name, f"/rows/0/features/{pointer_token(name)}", limits)
                columns[name] = [row.get(name, MISSING) for row in features]
    whole = set(required) if read.floats_only and complete else set()
    cells = [
        Cells(name=name, values=values, place=feature_place(name), floats_only=name in whole)
        for name, values in columns.items()
    ]
    return (*cells, *_beside(read.split, columns.keys()))


def _beside(split: _Split, features: Container[str]) -> Iterable[Cells]:
    """What stands beside the features of the rows."""
    for name in ("prediction", "confidence"):
        values = _optional(split[name])
        if values is not None:
            if name in features:
                raise unprocessable(
                    f"/rows/0/{name}", f"{name} is sent as a key of the row and as a feature; send one"
                )
            yield Cells(name=name, values=values, place=Place(prefix="/rows/", suffix=f"/{name}"))


def _gather(features: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[list[Sequence[Any]], bool]:
    """The columns of `names`, and whether every row has all of them (then C loops do the work)."""
    if len(names) > 1:
        try:
            order = list(names)
            if all(list(row) == order for row in features):
                # One order in all rows, the usual case: no look-up at all.
                return list(zip(*map(dict.values, features), strict=True)), True
            return list(zip(*map(itemgetter(*names), features), strict=True)), True
        except KeyError:
            pass
    return [[row.get(name, MISSING) for row in features] for name in names], False


def _row_ids(split: _Split) -> Tensor | None:
    values = _optional(split["id"])
    return None if values is None else text_tensor("driftd.id", values)


def _tags(split: _Split, limits: DecodeLimits) -> Mapping[str, Tensor]:
    values: list[_Tags] | None = _optional(split["tags"])
    if values is None:
        return {}
    keys = dict.fromkeys(chain.from_iterable(tags for tags in values if tags))
    if len(keys) > MAX_TAGS:
        raise unprocessable("/rows", f"the rows have {len(keys)} tag keys; at most {MAX_TAGS}")
    for key in keys:
        check_name(key, f"/rows/0/tags/{pointer_token(key)}", limits)
    return {key: text_tensor(key, [tags.get(key) if tags else None for tags in values]) for key in keys}
