"""Calls that carry their own description: PredictionLogger.log, and runs whose shapes the model does not fix."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftd_sidecar._kind import Kind
from driftd_sidecar._lane import Entry, IntArray
from driftd_sidecar._notices import Notices
from driftd_sidecar._tensors import (
    CaptureError,
    Rows,
    as_tensor,
    bytes_of,
    copied,
    cost_of,
    count_rows,
    has_rows,
    rows_of,
)
from driftd_sidecar._wide import Allowance
from driftd_sidecar._wire import IDS, RESERVED, TAG, Table, Tensor, encode_text, join, times_tensor

_CALL_BYTES = 480  # a tuple, its dicts and its ints
_VALUE_BYTES = 160  # an array header, or a bytes object, and its place
_TEXT_BYTES = 64

Texts = str | bytes | Sequence[str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A snapshot of one call, safe from what the caller does next."""

    time_ns: object  # int, or array of N: checked when it is encoded
    request_id: Texts | None
    tags: Mapping[str, Texts]
    inputs: Mapping[str, Rows]
    outputs: Mapping[str, Rows]
    rows: int
    cost: int


def capture(
    inputs: Mapping[str, object],
    outputs: Mapping[str, object],
    *,
    time_ns: object,
    request_id: Texts | None = None,
    tags: Mapping[str, Texts] | None = None,
    dtypes: Mapping[str, np.dtype[np.generic]] | None = None,
    wide: Allowance | None = None,
) -> list[Call]:
    """Copies everything out of the caller's reach: one call, or two when only some rows take wide tensors along."""
    known = dtypes or {}
    given = _Given(
        inputs={name: rows_of(value, known.get(name)) for name, value in inputs.items()},
        outputs={name: rows_of(value) for name, value in outputs.items()},
        time_ns=time_ns,
        request_id=request_id,
        tags=tags or {},
    )
    rows = count_rows([*given.inputs.values(), *given.outputs.values()])
    wide_bytes = {} if wide is None or not rows else given.wide(rows, wide.limits.row_bytes)
    if wide is None or not wide_bytes:
        return [given.call(rows)]
    chosen = wide.draw(rows, sum(wide_bytes.values()) / rows)
    if len(chosen) == rows:
        return [given.call(rows)]
    taken = set(chosen)
    others = [row for row in range(rows) if row not in taken]
    calls = [given.call(rows, chosen)] if chosen else []
    return [*calls, given.call(rows, others, without=wide_bytes.keys())]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """One call as the application made it, sharing its memory."""

    inputs: Mapping[str, Rows]
    outputs: Mapping[str, Rows]
    time_ns: object
    request_id: Texts | None
    tags: Mapping[str, Texts]

    def wide(self, rows: int, row_bytes: int) -> dict[str, int]:
        """Bytes of each tensor of more than `row_bytes` a row."""
        named = [*self.inputs.items(), *self.outputs.items()]
        sizes = {name: bytes_of(value) for name, value in named if has_rows(value, rows)}
        return {name: size for name, size in sizes.items() if size > row_bytes * rows}

    def call(self, rows: int, chosen: Sequence[int] | None = None, *, without: Container[str] = ()) -> Call:
        """All rows of it, or the chosen ones, without some tensors."""

        def kept(values: Mapping[str, Rows]) -> dict[str, Rows]:
            named = {name: value for name, value in values.items() if name not in without}
            if chosen is not None:
                named = {name: value for name, value in named.items() if has_rows(value, rows)}
            return {name: copied(value, chosen) for name, value in named.items()}

        inputs, outputs = kept(self.inputs), kept(self.outputs)
        count = rows if chosen is None else len(chosen)
        texts = len(self.tags) + (self.request_id is not None)
        return Call(
            time_ns=self.time_ns
            if isinstance(self.time_ns, int)
            else _chosen_times(self.time_ns, rows, chosen),
            request_id=None if self.request_id is None else _frozen(self.request_id, rows, chosen),
            tags={key: _frozen(value, rows, chosen) for key, value in self.tags.items()},
            inputs=inputs,
            outputs=outputs,
            rows=count,
            cost=_CALL_BYTES
            + sum(_VALUE_BYTES + cost_of(value) for value in (*inputs.values(), *outputs.values()))
            + _TEXT_BYTES * count * texts,
        )


def _chosen_times(times: object, rows: int, chosen: Sequence[int] | None) -> object:
    copy = np.array(times)
    return copy if chosen is None or copy.shape != (rows,) else copy[list(chosen)]


def _frozen(value: Texts, rows: int, chosen: Sequence[int] | None) -> Texts:
    """Out of the caller's reach. One of the wrong length stays as it is: it is refused when it is encoded."""
    if isinstance(value, str | bytes):
        return value
    return tuple(value) if chosen is None or len(value) != rows else tuple(value[index] for index in chosen)


def times_array(value: object, rows: int) -> IntArray:
    """[rows] nanoseconds UTC from an int, integers, or datetime64. Floats are refused: they cannot hold nanoseconds."""
    array = np.asarray(value)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[ns]").astype(np.int64)
    if array.dtype.kind not in "iu":
        raise CaptureError(f"event times must be integer nanoseconds since 1970 UTC, not {array.dtype}")
    if array.ndim and array.shape != (rows,):
        raise CaptureError(f"time_ns has shape {array.shape}; pass one integer or one per row, {rows} here")
    return np.ascontiguousarray(np.broadcast_to(array.astype(np.int64), (rows,)))


class CallRecipe:
    """Joins self-describing calls of equal signature. `tags` are added to every row that does not bring its own."""

    unit_cost = 0

    def __init__(self, *, notices: Notices, tags: Mapping[str, str], kind: Kind = Kind.PREDICTIONS) -> None:
        self.kind = kind
        self._notices = notices
        self._tags = dict(tags)

    def measure(self, entries: Sequence[Entry]) -> tuple[IntArray, IntArray]:
        calls: list[Call] = [entry[0] for entry in entries]
        rows = np.fromiter((call.rows for call in calls), np.int64, len(calls))
        return rows, np.fromiter((call.cost for call in calls), np.int64, len(calls))

    def measure_one(self, entry: Entry) -> tuple[int, int]:
        call: Call = entry[0]
        return call.rows, call.cost

    def tables(self, entries: Sequence[Entry]) -> Iterable[Table]:
        groups: dict[object, list[Table]] = {}
        for (call,) in entries:
            table = self._table(call)
            groups.setdefault(table.signature, []).append(table)
        return [join(tables) for tables in groups.values()]

    def _table(self, call: Call) -> Table:
        reserved = [times_tensor(times_array(call.time_ns, call.rows))]
        if call.request_id is not None:
            reserved.append(text_tensor(IDS, call.request_id, call.rows))
        for key, value in sorted({**self._tags, **call.tags}.items()):
            reserved.append(text_tensor(TAG + key, value, call.rows))
        return Table(
            rows=call.rows,
            inputs=(*reserved, *self._tensors(call.inputs, call.rows)),
            outputs=tuple(self._tensors(call.outputs, call.rows)),
        )

    def _tensors(self, values: Mapping[str, Rows], rows: int) -> Iterable[Tensor]:
        for name, value in values.items():
            try:
                yield as_tensor(allowed(name), value, rows)
            except CaptureError as reason:
                self._notices.once(f"tensor {name}", "tensor %r is not shipped: %s", name, reason)


def allowed(name: str) -> str:
    """The name of a tensor of the application's own. CaptureError where it is reserved."""
    if name.startswith(RESERVED):
        raise CaptureError(f"names that begin with {RESERVED!r} are reserved")
    return name


def text_tensor(name: str, value: Texts, rows: int) -> Tensor:
    """A BYTES tensor [rows] of one text for all rows, or of one per row."""
    if isinstance(value, str | bytes):
        return Tensor(name=name, datatype="BYTES", tail=(), data=encode_text((value,)) * rows)
    if len(value) != rows:
        raise CaptureError(f"{name} has {len(value)} values; pass one text or one per row, {rows} here")
    return Tensor(name=name, datatype="BYTES", tail=(), data=encode_text(value))
