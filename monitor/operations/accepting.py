"""What moved is normal now: the traffic of an alert's window becomes its version's baseline, and its alerts end.

Otherwise a change that is true and wanted would page forever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from alerts.identity import AlertKind, about_values
from alerts.lifecycle import Cause
from detectors.codec import encode_baseline
from detectors.profile import Baseline
from monitor.app import Service
from monitor.episodes import AlertBook
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.operations.acts import perform, text
from monitor.operations.baselines import adopt
from monitor.operations.errors import Conflicting, NotKnown
from monitor.operations.traffic import Span, built, collect
from storage import alerts
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.errors import NotFound


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


def accept(service: Service, alert_id: int, *, author: str = "", comment: str = "", actor: str) -> Acceptance:
    """Make the traffic of the alert's window, up to now, the baseline, and resolve the version's column alerts.

    NotKnown for an unknown alert. Conflicting where it is over, is not about the values of a column, or where fewer than
    100 of the window's rows are still kept.
    """
    author, comment = text("author", author) or actor, text("comment", comment)
    with service.database.read() as conn:
        row = _open_alert(conn, alert_id)
    model, version = _target(service, row)
    span = _span(service, model, row)
    made = _build(service, version, span, alert_id)
    # Read and built without holding up the loop; only the change itself excludes it.
    with service.pipeline.exclusive():
        resolved = _commit(service, row, version, made, span, actor, {"author": author, "comment": comment})
        service.catalog.reload()
    service.pipeline.wake()
    service.wake_couriers()
    return Acceptance(
        alert_id=alert_id,
        model=model.name,
        version=version.version,
        fingerprint=made.fingerprint,
        rows=made.profile.rows,
        start=from_seconds(span.start),
        end=from_seconds(span.end),
        resolved=resolved,
    )


def _open_alert(conn: Connection, alert_id: int) -> AlertRow:
    try:
        row = alerts.get(conn, alert_id)
    except NotFound as error:
        raise NotKnown(str(error)) from None
    kind = row.kind.replace("_", " ")
    if not row.column:
        raise Conflicting(f"alert {alert_id} ({kind}) is about no column: there is nothing to accept")
    if not about_values(AlertKind(row.kind)):
        raise Conflicting(f"alert {alert_id} ({kind}): a new baseline does not make predictions right")
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


def _span(service: Service, model: ModelHandle, row: AlertRow) -> Span:
    upto = service.pipeline.cursor(model.model_id).evaluated_upto
    if upto is None:
        raise Conflicting(f"nothing of model {model.name!r} has been evaluated yet")
    longest = service.config.settings(model.name).windows[-1]
    evidence = row.detail.get("evidence")
    seconds = evidence.get("window_seconds") if isinstance(evidence, Mapping) else None
    return Span(start=upto - int(seconds or longest.total_seconds()), end=upto)


def _build(service: Service, version: VersionHandle, span: Span, alert_id: int) -> Baseline:
    old = version.baseline
    assert old is not None
    traffic = collect(service, version.version_id, old, span)
    return built(traffic, old, old.pane_seconds, f"{traffic.words(span)}, accepted with alert {alert_id}")


def _commit(
    service: Service,
    row: AlertRow,
    version: VersionHandle,
    made: Baseline,
    span: Span,
    actor: str,
    words: Mapping[str, str],
) -> tuple[int, ...]:
    with service.database.read() as conn:
        _open_alert(conn, row.id)
        book = AlertBook.load(conn, row.model)
    now, blob = service.clock.now(), encode_baseline(made)
    closing = [
        e for e in book.open_episodes() if about_values(e.kind) and e.labels.get("version") == row.version
    ]
    for episode in closing:
        book.close(episode, Cause.ACCEPTED, max(from_seconds(span.end), episode.state.since))
    ids = tuple(episode.id for episode in closing if episode.id is not None)

    def write(conn: Connection) -> Sequence[int]:
        adopt(conn, version.version_id, made, blob, now)
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
            "fingerprint": made.fingerprint,
            "rows": made.profile.rows,
            "resolved": list(ids),
        },
    )
    return ids
