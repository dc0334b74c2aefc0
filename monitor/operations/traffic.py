"""The exact values of a span of a version's traffic, from the batches whose payload is still kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.times import for_readers
from detectors.columns import MIN_ROWS
from detectors.profile import Baseline, ColumnData, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType, DetectorError, IntArray
from monitor.app import Service
from monitor.ingest.batch import NUMPY_NAMES, RAW_CODEC, Batch, Tensor, decode_payload
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.frame import frame
from monitor.instants import from_seconds
from monitor.operations.errors import Conflicting, Invalid
from monitor.watermark import NANOSECONDS
from storage import batches

MOST_CELLS: Final = 60_000_000
"""Values held in memory; above it every other row is left out, as often as it takes."""
PAGE: Final = 16
"""Batches read at once: a snapshot that is kept long lets the WAL grow."""

Values = dict[str, list[npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Epoch seconds, end not included."""

    start: int
    end: int

    def words(self) -> str:
        """The span for people."""
        return f"{for_readers(from_seconds(self.start))} to {for_readers(from_seconds(self.end))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Rows of a span: a column of values each, and when they happened (epoch seconds int64 [rows]).

    Every `step`-th row was taken. `kept_share` (0 to 1) of the span's accepted rows still had their payload.
    """

    columns: tuple[ColumnData, ...]
    seconds: IntArray
    step: int
    kept_share: float

    @property
    def rows(self) -> int:
        return int(self.seconds.size)

    def words(self, span: Span) -> str:
        """What a baseline of it is made of."""
        sampled = f", every {self.step}th row" if self.step > 1 else ""
        kept = f", {self.kept_share:.0%} of its rows" if self.kept_share < 1.0 else ""
        return f"traffic of {span.words()}: {self.rows} rows{sampled}{kept}"


def collect(service: Service, version_id: int, shape: Baseline, span: Span) -> Traffic:
    """The span's rows in the columns of `shape`. Conflicting where fewer than 100 of them are kept."""
    values: Values = {column.name: [] for column in shape.columns}
    times: list[IntArray] = []
    most = max(MOST_CELLS // len(shape.columns), MIN_ROWS)
    rows, seen, step = 0, 0, 1
    for batch in stored(service, version_id, span):
        inside = np.flatnonzero(
            (batch.times_ns >= span.start * NANOSECONDS) & (batch.times_ns < span.end * NANOSECONDS)
        )
        chosen = inside[(seen + np.arange(inside.size)) % step == 0]
        seen += inside.size
        if not chosen.size:
            continue
        times.append(batch.times_ns[chosen] // NANOSECONDS)
        for name, column in frame([batch], shape).items():
            values[name].append(column[chosen])
        rows += chosen.size
        if rows > most:
            values = {name: [np.concatenate(parts)[::2]] for name, parts in values.items()}
            times = [np.concatenate(times)[::2]]
            rows, step = (rows + 1) // 2, 2 * step
    if rows < MIN_ROWS:
        raise Conflicting(_too_few(rows, span))
    columns = tuple(
        ColumnData(
            name=c.name, role=c.role, type=c.type, dtype=c.dtype, values=np.concatenate(values[c.name])
        )
        for c in shape.columns
    )
    with service.database.read() as conn:
        share = batches.kept_share(
            conn, version_id, start_ns=span.start * NANOSECONDS, end_ns=span.end * NANOSECONDS
        )
    return Traffic(columns=columns, seconds=np.concatenate(times), step=step, kept_share=share or 0.0)


def built(traffic: Traffic, shape: Baseline, pane_seconds: int, source: str) -> Baseline:
    """The baseline of the rows, with the tensors and the confidence rule of `shape`. Conflicting where they make none."""
    held = {column.name for column in traffic.columns}
    tensors = [
        TensorMap(
            name=tensor.name,
            datatype=tensor.datatype,
            kind=tensor.kind,
            columns=tuple(name if name in held else "" for name in tensor.columns),
        )
        for tensor in shape.tensors
    ]
    try:
        return build_baseline(traffic.columns, pane_seconds, tensors, shape.confidence, source)
    except DetectorError as error:
        raise Conflicting(f"the span's rows make no baseline: {error}") from None


def outline(
    service: Service, version_id: int, span: Span, pane_seconds: int, types: Mapping[str, ColumnType]
) -> Baseline:
    """The columns of a version that has no baseline yet, as its batches name them, with `types` where given.

    Numbers are numeric in the dtype they came in, texts are categories. Conflicting where the span's batches say too
    little, Invalid for a type of a column that is not there.
    """
    first: list[Batch] = []
    for batch in stored(service, version_id, span):
        first.append(batch)
        if sum(b.rows for b in first) >= MIN_ROWS:
            break
    if sum(b.rows for b in first) < MIN_ROWS:
        raise Conflicting(_too_few(sum(b.rows for b in first), span))
    names = list(dict.fromkeys(tensor.name for batch in first for tensor in batch.tensors))
    for name in types:
        if name not in names:
            raise Invalid(f"types: the traffic has no column {name!r}; it has {', '.join(names)}", "/types")
    columns = [_outlined(name, first, types.get(name)) for name in names]
    try:
        return build_baseline(columns, pane_seconds, (), None, "outline")
    except DetectorError as error:
        raise Conflicting(f"the span's rows make no baseline: {error}") from None


def _outlined(name: str, group: Sequence[Batch], declared: ColumnType | None) -> ColumnData:
    found = [next((t for t in batch.tensors if t.name == name), None) for batch in group]
    known = next(tensor for tensor in found if tensor is not None)
    if known.width != 1:
        raise Conflicting(
            f"tensor {name!r} has {known.width} values a row, and only a baseline says which columns they are: "
            "build one from training data first"
        )
    words = known.datatype == "BYTES"
    kind = declared or (
        ColumnType.CATEGORICAL
        if words
        else ColumnType.BOOLEAN
        if known.datatype == "BOOL"
        else ColumnType.NUMERIC
    )
    parts = [_plain(tensor, batch.rows, words) for tensor, batch in zip(found, group, strict=True)]
    return ColumnData(
        name=name,
        role={"prediction": ColumnRole.PREDICTION, "confidence": ColumnRole.CONFIDENCE}.get(
            name, ColumnRole.FEATURE
        ),
        type=kind,
        dtype="string" if words else NUMPY_NAMES[known.datatype],
        values=np.concatenate(parts),
    )


def _plain(tensor: Tensor | None, rows: int, words: bool) -> npt.NDArray[Any]:
    if tensor is None or (tensor.datatype == "BYTES") is not words:
        return np.full(rows, None if words else np.nan, dtype=object if words else np.float64)
    return np.array(tensor.texts(), dtype=object) if words else tensor.array()[:, 0]


def stored(service: Service, version_id: int, span: Span) -> Iterator[Batch]:
    """The stored batches that reach into the span; one that cannot be read is left out, as in the fold."""
    return chain.from_iterable(_readable(page) for page in _pages(service, version_id, span))


def _pages(service: Service, version_id: int, span: Span) -> Iterator[Sequence[batches.StoredBatch]]:
    after = 0
    while True:
        with service.database.read() as conn:
            page = batches.payloads_between(
                conn,
                version_id,
                start_ns=span.start * NANOSECONDS,
                end_ns=span.end * NANOSECONDS,
                after_id=after,
                limit=PAGE,
            )
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].id


def _readable(page: Iterable[batches.StoredBatch]) -> Iterator[Batch]:
    for batch in page:
        if batch.codec == RAW_CODEC:
            try:
                yield decode_payload(batch.payload)
            except PayloadDamagedError:
                continue


def _too_few(rows: int, span: Span) -> str:
    return (
        f"{rows} rows of {span.words()} are still kept, and a baseline needs at least {MIN_ROWS}: "
        "storage.payload_retention says how long they are, and keep_rows whether; driftd baseline build makes one from a file"
    )
