"""How things stand, read from storage and memory: what `/v1` and the commands show. Plain values, no markup."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.app import Service
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_ns, from_seconds
from monitor.judging import ColumnRule, judged
from monitor.performance import Performance, last_day
from monitor.picture import SegmentSummary, named, picture, segments
from monitor.refold import RefoldSummary, refold_of
from monitor.scores import STATISTICS, Scores, decode, decode_states
from monitor.traffic import Traffic, traffic
from monitor.version import VERSION
from storage import alerts, baselines, batches, evaluations, models, operations, outbox, receivers
from storage.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceLine:
    """One prediction column over the last mature day, in short: see `Performance`."""

    column: str
    labelled: int
    coverage: float
    accuracy: float | None
    mean_absolute_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """A model in a line. `state` is the badge of the web page: facts first, then the worst column. `current` answered last.

    `performance` is that of `current`.
    """

    name: str
    state: str
    current: str | None
    versions: tuple[str, ...]
    watermark: datetime | None
    evaluated_upto: datetime | None
    last_arrival_at: datetime | None
    firing: int
    pending: int
    performance: tuple[PerformanceLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnWindow:
    """One column in one window; None where a statistic is not valid."""

    seconds: int
    rows: int
    present: int | None
    ks: float | None
    ks_high: float | None
    psi: float | None
    mean_shift: float | None
    missing: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScores:
    """One column at the last boundary. `state` is `mismatch` instead of drift where its values never were those of training.

    `effect` is its largest statistic as a multiple of its threshold."""

    name: str
    role: str
    type: str
    state: str
    effect: float | None
    evidence: float
    windows: tuple[ColumnWindow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSummary:
    """What a version is compared with."""

    fingerprint: str
    source: str
    rows: int
    pane_seconds: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """A version, or one segment of it: its `columns` by effect, largest first, at `evaluated_at`; none before the first
    evaluation. `rules`, in the baseline's order, say how each column is judged. `performance` is that of the last mature
    day. A segment has no `segments`."""

    version: str
    stage: str
    registered_at: datetime
    artefact_sha256: str | None
    run: str | None
    dataset: str | None
    commit: str | None
    baseline: BaselineSummary | None
    refold: RefoldSummary | None
    waiting_batches: int
    waiting_rows: int
    evaluated_at: datetime | None
    columns: tuple[ColumnScores, ...]
    rules: tuple[ColumnRule, ...]
    performance: tuple[Performance, ...]
    segments: tuple[SegmentSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetail:
    """A model with its versions, the one registered last first; `segment` is '' for every row.

    `traffic` is of all versions and segments together, None before the first row.
    """

    model: ModelSummary
    segment: str
    traffic: Traffic | None
    versions: tuple[VersionSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """A receiver and its queue; `destination` is scheme and host alone."""

    name: str
    kind: str
    destination: str
    broken_since: datetime | None
    hold_until: datetime | None
    reason: str | None
    waiting: int
    sent: int
    dead: int
    oldest_due: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The daemon as a whole; `running` False where a command reads the store beside no daemon."""

    version: str
    running: bool
    started_at: datetime | None
    last_loop_at: datetime | None
    now: datetime
    database: str
    queue_bytes: int
    waiting_batches: int
    firing: int
    pending: int
    models: tuple[ModelSummary, ...]
    receivers: tuple[ReceiverStatus, ...]


def summaries(service: Service) -> tuple[ModelSummary, ...]:
    """Every model, by name."""
    with service.database.read() as conn:
        return tuple(_summary(service, conn, model) for model in service.catalog.models())


def detail(service: Service, model: ModelHandle, segment: str = "") -> ModelDetail:
    """One model with its versions, as all rows or those of one segment say."""
    with service.database.read() as conn:
        waiting = batches.unfolded_by_version(conn)
        rows = models.list_versions(conn, model.model_id)
        return ModelDetail(
            model=_summary(service, conn, model),
            segment=segment,
            traffic=traffic(service, conn, model),
            versions=tuple(
                _version(service, conn, model, row, waiting.get(row.id, (0, 0)), segment)
                for row in reversed(rows)
                if row.version in model.versions
            ),
        )


def has_segment(service: Service, model: ModelHandle, segment: str) -> bool:
    """Whether some version of the model has rows of that segment."""
    known = service.pipeline.segments
    return any(
        v.baseline_id is not None and segment in known.of(v.baseline_id) for v in model.versions.values()
    )


def status(service: Service) -> Status:
    """How the daemon stands."""
    now = service.clock.now()
    with service.database.read() as conn:
        open_alerts = Counter(row.state for row in alerts.active(conn))
        waiting = batches.unfolded_by_version(conn)
        daemons = [w.started_at for w in operations.list_writers(conn) if w.lease_until > now]
        stats = {stat.receiver: stat for stat in outbox.stats(conn)}
        states = {state.receiver: state for state in receivers.list_states(conn)}
    database = service.database
    return Status(
        version=VERSION,
        # On PostgreSQL a command reads the store beside daemons, which it knows by their leases.
        running=service.started or bool(daemons),
        started_at=service.started_at or min(daemons, default=None),
        last_loop_at=service.pipeline.last_loop,
        now=now,
        database="ok" if database.healthy else (database.last_error or "the writing thread has ended"),
        queue_bytes=service.ingestion.queued_bytes,
        waiting_batches=sum(count for count, _ in waiting.values()),
        firing=open_alerts["firing"],
        pending=open_alerts["pending"],
        models=summaries(service),
        receivers=tuple(
            _receiver(service, name, states.get(name), stats.get(name)) for name in service.receivers
        ),
    )


def columns_by_state(service: Service, conn: Connection) -> Mapping[tuple[str, str], int]:
    """How many columns of each model's versions are in each state, at their last boundaries."""
    found: Counter[tuple[str, str]] = Counter()
    for model in service.catalog.models():
        for version in model.versions.values():
            if version.baseline_id is None:
                continue
            row = evaluations.latest(conn, version.baseline_id, "")
            if row is not None:
                found.update((model.name, state.value) for state in decode_states(row.states)[0])
    return found


def _summary(service: Service, conn: Connection, model: ModelHandle) -> ModelSummary:
    cursor = service.pipeline.cursor(model.model_id)
    seen = picture(service, conn, model)
    states = Counter(row.state for row in seen.open_alerts)
    return ModelSummary(
        name=model.name,
        state=str(seen.state),
        current=None if seen.version is None else seen.version.version,
        versions=tuple(model.versions),
        watermark=None if cursor.watermark_ns is None else from_ns(cursor.watermark_ns),
        evaluated_upto=None if cursor.evaluated_upto is None else from_seconds(cursor.evaluated_upto),
        last_arrival_at=None if cursor.last_arrival_ns is None else from_ns(cursor.last_arrival_ns),
        firing=states["firing"],
        pending=states["pending"],
        performance=() if seen.version is None else tuple(map(_short, last_day(conn, seen.version))),
    )


def _short(found: Performance) -> PerformanceLine:
    return PerformanceLine(
        column=found.column,
        labelled=found.labelled,
        coverage=found.coverage,
        accuracy=found.accuracy,
        mean_absolute_error=found.mean_absolute_error,
    )


def _version(
    service: Service,
    conn: Connection,
    model: ModelHandle,
    row: models.VersionRow,
    waiting: tuple[int, int],
    segment: str,
) -> VersionSummary:
    handle = model.versions[row.version]
    evaluated = None if handle.baseline_id is None else evaluations.latest(conn, handle.baseline_id, segment)
    scores = None if evaluated is None else decode(evaluated.states, evaluated.scores)
    rules = judged(service, conn, model, handle, segment)
    return VersionSummary(
        version=row.version,
        stage=row.stage,
        registered_at=row.registered_at,
        artefact_sha256=row.artefact_sha256,
        run=row.run,
        dataset=row.dataset,
        commit=row.commit,
        baseline=None if handle.baseline_id is None else _baseline(conn, handle.baseline_id),
        refold=None
        if handle.baseline is None or handle.baseline_id is None
        else refold_of(conn, handle.baseline_id, handle.baseline.pane_seconds),
        waiting_batches=waiting[0],
        waiting_rows=waiting[1],
        evaluated_at=None if evaluated is None else from_seconds(evaluated.boundary),
        columns=() if scores is None else _ranked(handle, scores, rules),
        rules=rules,
        performance=last_day(conn, handle, segment),
        segments=() if segment else segments(service, conn, model, handle),
    )


def _baseline(conn: Connection, baseline_id: int) -> BaselineSummary:
    stored = baselines.get(conn, baseline_id)
    return BaselineSummary(
        fingerprint=stored.fingerprint,
        source=stored.source,
        rows=stored.rows,
        pane_seconds=stored.pane_seconds,
        created_at=stored.created_at,
    )


def _ranked(version: VersionHandle, scores: Scores, rules: Sequence[ColumnRule]) -> tuple[ColumnScores, ...]:
    """Columns by effect, largest first; those without a valid score come last, by name."""
    assert version.baseline is not None
    shown = [
        ColumnScores(
            name=column.name,
            role=column.role.value,
            type=column.type.value,
            state=str(named(scores.states[position], rules[position].learning)),
            effect=_finite(float(scores.effect[position])),
            evidence=float(scores.evidence[position]),
            windows=tuple(
                _window(scores, index, position, seconds) for index, seconds in enumerate(scores.windows)
            ),
        )
        for position, column in enumerate(version.baseline.columns)
    ]
    return tuple(sorted(shown, key=lambda c: (c.effect is None, -(c.effect or 0.0), c.name)))


def _window(scores: Scores, index: int, column: int, seconds: int) -> ColumnWindow:
    values = dict(zip(STATISTICS, (_finite(v) for v in scores.values[index, column].tolist()), strict=True))
    present = values["present"]
    return ColumnWindow(
        seconds=seconds,
        rows=int(scores.rows[index]),
        present=None if present is None else round(present),
        ks=values["ks"],
        ks_high=values["ks_high"],
        psi=values["psi"],
        mean_shift=values["mean_shift"],
        missing=values["missing"],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _receiver(
    service: Service, name: str, state: receivers.ReceiverState | None, stat: outbox.QueueStats | None
) -> ReceiverStatus:
    receiver = service.receivers[name]
    return ReceiverStatus(
        name=name,
        kind=receiver.kind,
        destination=receiver.settings.destination,
        broken_since=None if state is None else state.broken_since,
        hold_until=None if state is None else state.hold_until,
        reason=None if state is None else state.reason,
        waiting=0 if stat is None else stat.pending + stat.leased,
        sent=0 if stat is None else stat.sent,
        dead=0 if stat is None else stat.dead,
        oldest_due=None if stat is None else stat.oldest_due,
    )
