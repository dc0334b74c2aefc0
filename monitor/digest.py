"""The daily digest: what is worth watching and woke nobody, one message per model and day, and none on quiet days.

It goes out at a fixed time of day (UTC), to who is told of warnings. A pager and an Alertmanager get none: they keep
incidents open, and a digest has no end.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind, KindClass, Severity, alert_labels, group_key
from alerts.message import PAGE, AlertDetail, Counts, IncidentMessage, Link, MessageStatus
from alerts.ports import Receiver
from alerts.routing import route
from alerts.silences import Silence, muted
from detectors.types import ColumnState
from monitor.catalog import Catalog
from monitor.clock import Clock
from monitor.config import Config
from monitor.incident import model_page
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.outgoing import notification
from monitor.routes import routes_of
from monitor.scores import decode_states
from monitor.silenced import silence_of
from storage import evaluations, outbox, silences
from storage.engine import Connection, Database
from storage.operations import JobRun, list_job_runs, record_job_run

JOB: Final = "digest"
DAY: Final = timedelta(days=1)
INCIDENT_KEEPERS: Final = frozenset({"pagerduty", "alertmanager"})


def latest_time(now: datetime, minute_of_day: int) -> datetime:
    """The last time at or before `now` that a digest was due."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(minutes=minute_of_day)
    return today if today <= now else today - DAY


class Digest:
    """Writes digests to the outbox. `run` may be called as often as one likes: it writes once a day."""

    def __init__(
        self,
        config: Config,
        database: Database,
        catalog: Catalog,
        receivers: Mapping[str, Receiver],
        clock: Clock,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self.adopt(config, receivers)

    def adopt(self, config: Config, receivers: Mapping[str, Receiver]) -> None:
        """Go by this configuration from now on."""
        self._config = config
        self._receivers = receivers
        self._routes = routes_of(config)

    def run(self) -> int:
        """Queue today's digests if they are due and were not; how many messages. Raises StorageError."""
        at = self._config.alerts.digest_minute
        if at is None:
            return 0
        now = self._clock.now()
        with self._database.read() as conn:
            last = {run.job: run.started_at for run in list_job_runs(conn)}.get(JOB)
        if last is not None and last >= latest_time(now, at):
            return 0
        # Whoever installs driftd at noon is not told of the morning.
        return self._database.write(lambda conn: self._write(conn, now, silent=last is None)).result()

    def _write(self, conn: Connection, now: datetime, *, silent: bool) -> int:
        record_job_run(conn, JobRun(job=JOB, started_at=now, finished_at=now, ok=True))
        if silent:
            return 0
        quiet = [silence_of(row) for row in silences.active(conn, now=now)]
        return sum(self._of_model(conn, model, quiet, now) for model in self._catalog.models())

    def _of_model(self, conn: Connection, model: ModelHandle, quiet: Sequence[Silence], now: datetime) -> int:
        columns, total = self._watched(conn, model, now)
        columns = [one for one in columns if not muted(one.labels, quiet, now)]
        told = 0
        for name, receiver in self._receivers.items():
            if receiver.kind in INCIDENT_KEEPERS or receiver.settings.min_severity > Severity.WARNING:
                continue
            for_it = [one for one in columns if name in route(one.labels, one.severity, self._routes)]
            if for_it:
                self._queue(conn, receiver, _message(self._config, model.name, for_it, total, now), now)
                told += 1
        return told

    def _watched(self, conn: Connection, model: ModelHandle, now: datetime) -> tuple[list[AlertDetail], int]:
        """The columns on WATCH at the last boundary of each version that answered today, and how many there are."""
        since = int((now - DAY).timestamp())
        found: list[AlertDetail] = []
        total = 0
        for version in model.versions.values():
            if version.baseline is None or version.baseline_id is None:
                continue
            for segment in evaluations.segments(conn, version.baseline_id, since=since):
                row = evaluations.latest(conn, version.baseline_id, segment)
                if row is not None:
                    total += len(version.baseline.columns)
                    page = model_page(self._config, model.name)
                    found += _on_watch(model.name, version, segment, row, page)
        return found, total

    def _queue(self, conn: Connection, receiver: Receiver, message: IncidentMessage, now: datetime) -> None:
        for older in outbox.pending_for(conn, receiver.settings.name, message.group_key):
            outbox.drop(conn, older.id, at=now, reason="a newer digest", attempted_too=True)
        outbox.add(conn, notification(receiver, message, now=now, kind=JOB))


def _on_watch(
    model: str, version: VersionHandle, segment: str, row: evaluations.EvaluationRow, page: str
) -> Iterator[AlertDetail]:
    assert version.baseline is not None
    states, effects, evidence = decode_states(row.states)
    for column, state, effect, proof in zip(
        version.baseline.columns, states, effects.tolist(), evidence.tolist(), strict=True
    ):
        if state is ColumnState.WATCH:
            measured = 0.0 if math.isnan(effect) else effect
            yield AlertDetail(
                labels=alert_labels(AlertKind.WATCH, model, version.version, segment, column.name),
                status=MessageStatus.FIRING,
                severity=Severity.WARNING,
                starts_at=from_seconds(row.boundary),
                summary=f"effect {measured:.2g} and evidence {proof:.2g} of the 1 that a page needs of both",
                effect=measured,
                page=page,
            )


def _message(
    config: Config, model: str, columns: Sequence[AlertDetail], total: int, now: datetime
) -> IncidentMessage:
    several = "column" if len(columns) == 1 else "columns"
    return IncidentMessage(
        status=MessageStatus.FIRING,
        group_key=group_key(KindClass.WATCH, model, ""),
        kind_class=KindClass.WATCH,
        severity=Severity.WARNING,
        title=f"{model}: {len(columns)} {several} to watch",
        created_at=now,
        started_at=now,
        alerts=tuple(columns),
        model=model,
        reason="daily digest",
        counts=Counts(affected=len(columns), total=total, verb="on watch"),
        what_to_do="Nothing has to be done now: look when you have time.",
        links=(Link(title=PAGE, url=model_page(config, model)),),
    )
