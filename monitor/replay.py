"""Replay: history through a daemon of its own, evaluated in event time, and which alerts it would have raised.

The same service, store, fold and evaluation as `driftd serve`, on a clock that is told what time it was, in a scratch
state directory and without receivers: nothing of a running daemon is touched and nobody is told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from detectors.codec import encode_baseline
from detectors.profile import Baseline
from detectors.types import ColumnRole
from monitor.app import Service
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.incident import title_of
from monitor.ingest.accept import accept
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.errors import IngestError
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.ingest.times import SECOND
from monitor.instants import from_ns
from monitor.operations import register_baseline
from monitor.replay_files import (
    Arrival,
    ReplayError,
    TableFormat,
    body_arrivals,
    is_bodies,
    table_arrivals,
    table_columns,
)
from monitor.retention import enforce_retention
from monitor.watermark import SILENCE_NS
from storage import alerts
from storage.alerts import AlertRow
from storage.engine import Database

RETAIN_EVERY: Final = timedelta(hours=12)
"""Event time between two rounds of retention: a replay of years must not keep years of minutes."""
PAYLOADS_KEPT: Final = timedelta(hours=1)
MOST_ALERTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay and onto which version's baseline. `calibration` is what its training taught, encoded."""

    model: str
    version: str
    files: tuple[Path, ...]
    table: TableFormat
    calibration: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An alert that would have been raised; times are event time. `resolved_at` is None where it was still open."""

    title: str
    kind: str
    segment: str
    column: str
    severity: str
    active_since: datetime
    firing_since: datetime | None
    resolved_at: datetime | None
    resolution: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of it: rows taken and refused, their span, boundaries evaluated, and the alerts, oldest first.

    `skipped` are rows of other versions, which are not replayed. `warnings` are sentences for people.
    """

    model: str
    version: str
    fingerprint: str
    accepted: int
    rejected: int
    skipped: int
    first: datetime | None
    last: datetime | None
    boundaries: int
    alerts: tuple[Raised, ...]
    warnings: tuple[str, ...]


def replay(config: Config, baseline: Baseline, options: ReplayOptions, directory: Path) -> Replayed:
    """Feed the files through a service whose state is in `directory`, an empty one. Raises ReplayError."""
    columns = {
        path: table_columns(path, baseline, options.table) for path in options.files if not is_bodies(path)
    }
    found = {column.name for known in columns.values() for column in known.values()}
    absent = [c.name for c in baseline.columns if c.name not in found] if columns else []
    _refuse_absent(baseline, absent, options)
    database = Database.open(directory / "state")
    try:
        stage = _Stage(_scratch(config, options.model, directory, absent), database, baseline, options)
        for path in options.files:
            if path in columns:
                table = replace(options.table, tags=config.settings(options.model).segments)
                arrivals = table_arrivals(path, options.version, columns[path], table)
            else:
                arrivals = body_arrivals(path, baseline, DecodeLimits())
            stage.feed(arrivals)
        return stage.finish([f"{name!r} is not in the files, so it is not judged" for name in absent])
    finally:
        database.close()


def _refuse_absent(baseline: Baseline, absent: Sequence[str], options: ReplayOptions) -> None:
    features = [c.name for c in baseline.columns if c.role is ColumnRole.FEATURE and c.name in absent]
    if features:
        raise ReplayError(
            f"{', '.join(str(path) for path in options.files)}: the feature {features[0]!r} of the baseline is missing"
        )


def _scratch(config: Config, model: str, directory: Path, absent: Sequence[str]) -> Config:
    """The configuration with which the model is watched, and nothing that reaches out or goes by the wall clock."""
    settings = config.settings(model)
    watched = settings.model_copy(
        update={
            "no_traffic_after": None,
            "page_max_age": None,
            "keep_rows": True,  # for an hour; counting them one batch at a time beforehand saves nothing
            "ignore": (*settings.ignore, *absent),
        }
    )
    storage = config.storage.model_copy(
        update={"state_dir": directory / "state", "payload_retention": PAYLOADS_KEPT}
    )
    return config.model_copy(update={"storage": storage, "models": {model: watched}, "receivers": {}})


class _Stage:
    """A service on which history is played."""

    def __init__(
        self, config: Config, database: Database, baseline: Baseline, options: ReplayOptions
    ) -> None:
        self._config = config
        self._database = database
        self._baseline = baseline
        self._options = options
        self._service: Service | None = None
        self._clock = ManualClock()
        self._retained_at: datetime | None = None
        self._boundaries = 0
        self._counts: Counter[str] = Counter()
        self._span: tuple[int, int] | None = None
        self._refusals: dict[str, None] = {}

    def feed(self, arrivals: Iterator[Arrival]) -> None:
        """Take batches in order, each at the time it came, and look after each."""
        for arrival in arrivals:
            if arrival.decoded.model_version != self._options.version:
                self._counts["skipped"] += arrival.decoded.rows
                continue
            service = self._at(arrival.arrived_ns)
            self._take(service, arrival)
            self._look(service)

    def _at(self, arrived_ns: int) -> Service:
        """The service, when it is that time; time does not pass backwards for a batch that came late."""
        moment = from_ns(arrived_ns) + timedelta(microseconds=1)
        if self._service is None:
            self._clock = ManualClock(moment)
            self._service = Service(self._config, self._database, clock=self._clock)
            register_baseline(
                self._service,
                model=self._options.model,
                version=self._options.version,
                blob=encode_baseline(self._baseline),
                calibration=self._options.calibration,
                actor="replay",
            )
        elif moment > self._clock.now():
            self._clock.advance_to(moment)
        return self._service

    def _take(self, service: Service, arrival: Arrival) -> None:
        model, version = self._handles(service)
        ingestion = service.ingestion
        try:
            accepted = accept(
                arrival.decoded,
                version,
                self._clock.now_ns(),
                ingestion.watermark_ns(model.model_id),
                ingestion.time_limits(model.name),
            )
        except IngestError as error:
            raise ReplayError(f"{arrival.place}: {error}") from None
        self._counts["accepted"] += accepted.accepted
        self._counts["rejected"] += accepted.rejected
        for issue in accepted.errors[:1]:
            self._refusals[
                f"{arrival.place}: {accepted.rejected} rows refused, the first because {issue.detail}"
            ] = None
        if accepted.batch is None:
            return
        # A body that was posted before under its id is the same history told twice.
        stored = ingestion.submit(model, version, accepted).result()
        if stored.status != "stored":
            raise ReplayError(f"{arrival.place}: the batch id {stored.batch_key!r} was in the history before")
        low, high = accepted.batch.span_ns
        self._span = (
            (low, high) if self._span is None else (min(low, self._span[0]), max(high, self._span[1]))
        )

    def _handles(self, service: Service) -> tuple[ModelHandle, VersionHandle]:
        model = service.catalog.model(self._options.model)
        assert model is not None
        return model, model.versions[self._options.version]

    def _look(self, service: Service) -> None:
        self._boundaries += service.pipeline.run_once()
        now = self._clock.now()
        if self._retained_at is None or now - self._retained_at >= RETAIN_EVERY:
            self._retained_at = now
            enforce_retention(service.database, service.catalog, self._config, now)

    def finish(self, warnings: Sequence[str]) -> Replayed:
        """Let the last panes close, and tell what was found."""
        if self._service is None or self._span is None:
            names = ", ".join(str(path) for path in self._options.files)
            more = next(iter(self._refusals), f"no row of version {self._options.version!r}")
            raise ReplayError(f"{names}: nothing could be replayed: {more}")
        self._close_last_pane(self._service, self._span[1])
        with self._database.read() as conn:
            rows = alerts.list_alerts(conn, model=self._options.model, limit=MOST_ALERTS)[::-1]
        failed = [row for row in rows if row.kind == "evaluation_failing"]
        if failed:
            raise ReplayError(f"the history could not be evaluated: {title_of(failed[0])}")
        return Replayed(
            model=self._options.model,
            version=self._options.version,
            fingerprint=self._baseline.fingerprint,
            accepted=self._counts["accepted"],
            rejected=self._counts["rejected"],
            skipped=self._counts["skipped"],
            first=from_ns(self._span[0]),
            last=from_ns(self._span[1]),
            boundaries=self._boundaries,
            alerts=tuple(_raised(row) for row in rows),
            warnings=(*warnings, *list(self._refusals)[:20]),
        )

    def _close_last_pane(self, service: Service, last_ns: int) -> None:
        """Let so much time pass in silence that the pane of the last row is evaluated."""
        pane_ns = self._baseline.pane_seconds * SECOND
        end = from_ns((last_ns // pane_ns + 1) * pane_ns)
        lateness = self._config.settings(self._options.model).lateness
        silence = self._clock.now() + timedelta(microseconds=SILENCE_NS // 1000)
        self._clock.advance_to(max(silence, end + lateness))
        self._look(service)


def _raised(row: AlertRow) -> Raised:
    return Raised(
        title=title_of(row),
        kind=row.kind,
        segment=row.segment,
        column=row.column,
        severity=row.severity,
        active_since=row.active_since,
        firing_since=row.firing_since,
        resolved_at=row.resolved_at,
        resolution=row.resolution,
        detail=row.detail,
    )
