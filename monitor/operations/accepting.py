"""What moved is normal now: the traffic of an alert's window becomes its version's baseline, and its alerts end.

Otherwise a change that is true and wanted would page forever.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.lifecycle import Cause
from alerts.times import for_readers
from detectors.codec import encode_baseline
from detectors.columns import MIN_ROWS
from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import DetectorError
from monitor.app import Service
from monitor.episodes import AlertBook
from monitor.ingest.batch import RAW_CODEC, Batch, decode_payload
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.frame import frame
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.operations.acts import perform, text
from monitor.operations.baselines import adopt
from monitor.operations.errors import Conflicting, NotKnown
from monitor.watermark import NANOSECONDS
from storage import alerts, batches
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.errors import NotFound

MOST_CELLS: Final = 60_000_000
"""Values held in memory; above it every other row is left out, as often as it takes."""
PAGE: Final = 16
"""Batches read at once: a snapshot that is kept long lets the WAL grow."""

Values = dict[str, list[npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What became of it: the new baseline, over which span of event time, and the alerts that it ended."""

    alert_id: int
    model: str
    version: str
    fingerprint: str
    rows: int
    start: datetime
    end: datetime
    resolved: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """The window of an alert: epoch seconds, end not included."""

    start: int
    end: int

    def words(self) -> str:
        return f"{for_readers(from_seconds(self.start))} to {for_readers(from_seconds(self.end))}"


def accept(service: Service, alert_id: int, *, author: str = "", comment: str = "", actor: str) -> Acceptance:
    """Make the traffic of the alert's window, up to now, the baseline, and resolve the version's column alerts.

    NotKnown for an unknown alert. Conflicting where it is over, is about no column, or where fewer than 100 of
    the window's rows are still kept.
    """
    author, comment = text("author", author) or actor, text("comment", comment)
    with service.database.read() as conn:
        row = _open_alert(conn, alert_id)
    model, version = _target(service, row)
    span = _span(service, model, row)
    built = _build(service, version, span, alert_id)
    # Read and built without holding up the loop; only the change itself excludes it.
    with service.pipeline.exclusive():
        resolved = _commit(service, row, version, built, span, actor, {"author": author, "comment": comment})
        service.catalog.reload()
    service.pipeline.wake()
    service.wake_couriers()
    return Acceptance(
        alert_id=alert_id,
        model=model.name,
        version=version.version,
        fingerprint=built.fingerprint,
        rows=built.profile.rows,
        start=from_seconds(span.start),
        end=from_seconds(span.end),
        resolved=resolved,
    )


def _open_alert(conn: Connection, alert_id: int) -> AlertRow:
    try:
        row = alerts.get(conn, alert_id)
    except NotFound as error:
        raise NotKnown(str(error)) from None
    if not row.column:
        raise Conflicting(
            f"alert {alert_id} ({row.kind.replace('_', ' ')}) is about no column: there is nothing to accept"
        )
    if row.state == "resolved":
        raise Conflicting(f"alert {alert_id} is resolved ({row.resolution}): there is nothing to accept")
    return row


def _target(service: Service, row: AlertRow) -> tuple[ModelHandle, VersionHandle]:
    model = service.catalog.model(row.model)
    version = None if model is None else model.versions.get(row.version)
    if model is None or version is None or version.baseline is None:
        raise Conflicting(
            f"version {row.version!r} of model {row.model!r} has no baseline to take the place of"
        )
    return model, version


def _span(service: Service, model: ModelHandle, row: AlertRow) -> _Span:
    upto = service.pipeline.cursor(model.model_id).evaluated_upto
    if upto is None:
        raise Conflicting(f"nothing of model {model.name!r} has been evaluated yet")
    longest = service.config.settings(model.name).windows[-1]
    evidence = row.detail.get("evidence")
    seconds = evidence.get("window_seconds") if isinstance(evidence, Mapping) else None
    return _Span(start=upto - int(seconds or longest.total_seconds()), end=upto)


def _build(service: Service, version: VersionHandle, span: _Span, alert_id: int) -> Baseline:
    old = version.baseline
    assert old is not None
    values, rows, step = _collect(service, version, old, span)
    if rows < MIN_ROWS:
        raise Conflicting(
            f"{rows} rows of {span.words()} are still kept, and a baseline needs at least {MIN_ROWS}: "
            "storage.payload_retention says how long they are; driftd baseline build makes one from a file"
        )
    sampled = f", every {step}th row" if step > 1 else ""
    columns = [
        ColumnData(
            name=c.name, role=c.role, type=c.type, dtype=c.dtype, values=np.concatenate(values[c.name])
        )
        for c in old.columns
    ]
    source = f"traffic of {span.words()}: {rows} rows{sampled}, accepted with alert {alert_id}"
    try:
        return build_baseline(columns, old.pane_seconds, old.tensors, old.confidence, source)
    except DetectorError as error:
        raise Conflicting(f"the window's rows make no baseline: {error}") from None


def _collect(
    service: Service, version: VersionHandle, baseline: Baseline, span: _Span
) -> tuple[Values, int, int]:
    """The window's values per column, how many rows, and that every `step`-th of them was kept."""
    values: Values = {column.name: [] for column in baseline.columns}
    most = max(MOST_CELLS // len(baseline.columns), MIN_ROWS)
    rows, seen, step = 0, 0, 1
    for batch in _batches(service, version.version_id, span):
        inside = np.flatnonzero(
            (batch.times_ns >= span.start * NANOSECONDS) & (batch.times_ns < span.end * NANOSECONDS)
        )
        chosen = inside[(seen + np.arange(inside.size)) % step == 0]
        seen += inside.size
        if not chosen.size:
            continue
        for name, column in frame([batch], baseline).items():
            values[name].append(column[chosen])
        rows += chosen.size
        if rows > most:
            values = {name: [np.concatenate(parts)[::2]] for name, parts in values.items()}
            rows, step = (rows + 1) // 2, 2 * step
    return values, rows, step


def _batches(service: Service, version_id: int, span: _Span) -> Iterator[Batch]:
    """The stored batches that reach into the span; one that cannot be read is left out, as in the fold."""
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
        for stored in page:
            if stored.codec == RAW_CODEC:
                try:
                    yield decode_payload(stored.payload)
                except PayloadDamagedError:
                    continue
        if len(page) < PAGE:
            return
        after = page[-1].id


def _commit(
    service: Service,
    row: AlertRow,
    version: VersionHandle,
    built: Baseline,
    span: _Span,
    actor: str,
    words: Mapping[str, str],
) -> tuple[int, ...]:
    with service.database.read() as conn:
        _open_alert(conn, row.id)
        book = AlertBook.load(conn, row.model)
    now, blob = service.clock.now(), encode_baseline(built)
    closing = [e for e in book.open_episodes() if e.column and e.labels.get("version") == row.version]
    for episode in closing:
        book.close(episode, Cause.ACCEPTED, max(from_seconds(span.end), episode.state.since))
    ids = tuple(episode.id for episode in closing if episode.id is not None)

    def write(conn: Connection) -> Sequence[int]:
        adopt(conn, version.version_id, built, blob, now)
        service.notifier.announce(conn, book.write(conn, now), now)
        return ids

    perform(
        service,
        write,
        actor=actor,
        action="baseline.accept",
        target=lambda _: f"alert/{row.id}",
        detail={
            **words,
            "model": row.model,
            "version": row.version,
            "fingerprint": built.fingerprint,
            "rows": built.profile.rows,
            "resolved": list(ids),
        },
    )
    return ids
