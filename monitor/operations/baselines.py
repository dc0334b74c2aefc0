"""Baselines of the store: registered, listed, read."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from detectors.codec import decode_baseline
from detectors.decision import Calibration, CalibrationSource, EventIndex
from detectors.profile import Baseline
from detectors.types import DetectorError
from monitor.app import Service
from monitor.config_schema import pane_fits
from monitor.operations.acts import perform
from monitor.operations.errors import Conflicting, Invalid, NotKnown
from monitor.refold import RefoldSummary, refold_of
from storage import baselines, cursors, models, refolds
from storage.baselines import NewCalibration
from storage.engine import Connection
from storage.refolds import RefoldRow

LONGEST_NAME: Final = 200
ALWAYS: Final = -(2**62)
"""Epoch seconds before every block: training was before all traffic, also where older traffic is replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """What is known of the artefact beside its baseline; None leaves what is known as it is."""

    artefact_sha256: str | None = None
    run: str | None = None
    dataset: str | None = None
    commit: str | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFacts:
    """A stored baseline; `current` is the one its version is compared with now.

    `refold` says which retained rows were counted on it again; None where it took no other's place.
    """

    model: str
    version: str
    fingerprint: str
    source: str
    rows: int
    pane_seconds: int
    created_at: datetime
    current: bool
    refold: RefoldSummary | None = None


def register_baseline(
    service: Service,
    *,
    model: str,
    version: str,
    blob: bytes,
    calibration: bytes | None = None,
    facts: VersionFacts | None = None,
    actor: str,
) -> BaselineFacts:
    """Store an encoded baseline and make it its version's own, creating model and version where they are new.

    `calibration` is what its training rows teach, encoded, if they say when they happened. Invalid where the bytes
    are no baseline, or one this configuration cannot watch, or no calibration of it; Conflicting where the
    version is known as another artefact, or traffic was judged on this baseline without the calibration.
    """
    check_name("model", model)
    check_name("version", version)
    facts = facts or VersionFacts()
    if facts.stage is not None and facts.stage not in models.STAGES:
        raise Invalid(f"stage: {facts.stage!r} is none of {', '.join(models.STAGES)}", "/stage")
    try:
        baseline = decode_baseline(blob)
    except DetectorError as error:
        raise Invalid(str(error)) from None
    _check_panes(service, model, baseline)
    taught = None if calibration is None else _checked(service, model, baseline, calibration)

    def write(conn: Connection) -> BaselineFacts:
        now = service.clock.now()
        known = models.ensure_model(conn, model, now=now)
        row = models.ensure_version(
            conn,
            known.id,
            version,
            now=now,
            artefact_sha256=facts.artefact_sha256,
            run=facts.run,
            dataset=facts.dataset,
            commit=facts.commit,
            stage=facts.stage,
        )
        baseline_id = adopt(conn, row.id, baseline, blob, now)
        if taught is not None:
            _teach(conn, row.id, baseline_id, taught)
        return next(f for f in _facts(conn, model, models.get_version_by_id(conn, row.id)) if f.current)

    with service.pipeline.exclusive():
        done = perform(
            service,
            write,
            actor=actor,
            action="baseline.register",
            target=lambda _: f"model/{model}/version/{version}",
            detail={"fingerprint": baseline.fingerprint, "rows": baseline.profile.rows}
            | ({} if taught is None else {"calibration": _counted(taught)}),
        )
        service.catalog.reload()
    service.pipeline.wake()
    return done


def adopt(conn: Connection, version_id: int, baseline: Baseline, blob: bytes, now: datetime) -> int:
    """Store a baseline for a version and compare with it from now on; returns its id.

    Where it takes another's place, the rows that are still kept are counted on it in the background.
    """
    baseline_id = baselines.add(
        conn,
        version_id=version_id,
        blob=blob,
        fingerprint=baseline.fingerprint,
        source=baseline.source,
        rows=baseline.profile.rows,
        pane_seconds=baseline.pane_seconds,
        now=now,
    )
    before = models.get_version_by_id(conn, version_id).baseline_id
    models.set_baseline(conn, version_id, baseline_id)
    if before not in (None, baseline_id) and refolds.get(conn, baseline_id) is None:
        refolds.put(conn, RefoldRow(baseline_id=baseline_id, version_id=version_id, started_at=now))
    return baseline_id


def list_baselines(service: Service, *, model: str | None = None) -> list[BaselineFacts]:
    """All baselines, or those of one model, newest first; an unknown model has none."""
    found: list[tuple[int, BaselineFacts]] = []
    with service.database.read() as conn:
        for known in models.list_models(conn):
            if model in (None, known.name):
                for version in models.list_versions(conn, known.id):
                    ids = [row.id for row in baselines.list_baselines(conn, version.id)]
                    found += zip(ids, _facts(conn, known.name, version), strict=True)
    return [facts for _, facts in sorted(found, key=lambda pair: -pair[0])]


def load_baseline(service: Service, *, model: str, version: str | None = None) -> tuple[BaselineFacts, bytes]:
    """The current baseline of a version, encoded; without one, of the version registered last that has one."""
    with service.database.read() as conn:
        known = models.get_model(conn, model)
        if known is None:
            raise NotKnown(f"there is no model {model!r}")
        rows = models.list_versions(conn, known.id)
        if version is not None and version not in {row.version for row in rows}:
            raise NotKnown(f"model {model!r} has no version {version!r}")
        wanted = [r for r in rows if r.baseline_id is not None and version in (None, r.version)]
        if not wanted:
            what = f"version {version!r} of model {model!r}" if version else f"model {model!r}"
            raise NotKnown(f"{what} has no baseline yet; driftd baseline build makes one")
        chosen = wanted[-1]
        assert chosen.baseline_id is not None
        current = next(facts for facts in _facts(conn, model, chosen) if facts.current)
        return current, baselines.get_blob(conn, chosen.baseline_id)


def load_training_calibration(service: Service, *, model: str, version: str) -> bytes:
    """What the training of a version's current baseline taught, encoded. NotKnown where it taught nothing."""
    facts, _ = load_baseline(service, model=model, version=version)
    with service.database.read() as conn:
        known = models.get_model(conn, model)
        assert known is not None
        row = next(v for v in models.list_versions(conn, known.id) if v.version == version)
        assert row.baseline_id is not None
        for stored in baselines.list_calibrations(conn, row.baseline_id, ""):
            if stored.source == CalibrationSource.TRAINING.value:
                return stored.blob
    raise NotKnown(f"nothing was learned from the training data of baseline {facts.fingerprint[:12]}")


def check_name(field: str, name: str) -> None:
    """Refuse a name that no URL or log line can carry."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or "/" in name or name in (".", ".."):
        raise Invalid(
            f"{field}: a name has 1 to {LONGEST_NAME} printable characters and no /, not {name[:50]!r}",
            f"/{field}",
        )


def _facts(conn: Connection, model: str, version: models.VersionRow) -> list[BaselineFacts]:
    """The baselines of one version, oldest first, the current one marked."""
    return [
        BaselineFacts(
            model=model,
            version=version.version,
            fingerprint=row.fingerprint,
            source=row.source,
            rows=row.rows,
            pane_seconds=row.pane_seconds,
            created_at=row.created_at,
            current=row.id == version.baseline_id,
            refold=refold_of(conn, row.id, row.pane_seconds),
        )
        for row in baselines.list_baselines(conn, version.id)
    ]


def _check_panes(service: Service, model: str, baseline: Baseline) -> None:
    """Windows are sums of whole panes, and panes are rolled up to hours and days."""
    pane = baseline.pane_seconds
    if not pane_fits(pane):
        raise Invalid(
            f"the baseline's pane of {pane} s divides neither an hour nor a day; build it with another --pane"
        )
    for window in service.config.settings(model).windows:
        if window.total_seconds() % pane:
            raise Invalid(
                f"the baseline's pane of {pane} s does not divide the window of "
                f"{window.total_seconds():.0f} s in [defaults] or [models.{model}]; build it with another --pane"
            )


def _checked(service: Service, model: str, baseline: Baseline, blob: bytes) -> Calibration:
    """The calibration, if it is one of this baseline's training and for the windows that are watched."""
    try:
        found = Calibration.decode(blob)
    except DetectorError as error:
        raise Invalid(str(error)) from None
    index = EventIndex.of(baseline)
    events = found.bands.low.size
    if not np.array_equal(found.starts, index.starts) or events != index.column.size:
        raise Invalid(
            f"the calibration is of {events} events in {found.starts.size} columns, the baseline has "
            f"{index.column.size} in {index.starts.size}; send what was learned on this baseline"
        )
    windows = [int(window.total_seconds()) for window in service.config.settings(model).windows]
    if found.windows.tolist() != windows:
        raise Invalid(
            f"the calibration was learned for windows of {found.windows.tolist()} s, but [defaults] or "
            f"[models.{model}] has {windows}; build it with the daemon's configuration"
        )
    if found.source is not CalibrationSource.TRAINING:
        raise Invalid(f"the calibration was learned from {found.source.value}, not from training")
    if np.any(found.block_seconds % baseline.pane_seconds):
        raise Invalid(f"the calibration's blocks are not whole panes of {baseline.pane_seconds} s")
    return found


def _teach(conn: Connection, version_id: int, baseline_id: int, calibration: Calibration) -> None:
    """Judge by what training teaches from the first block on; once more the same changes nothing."""
    blob = calibration.encode()
    if any(row.blob == blob for row in baselines.list_calibrations(conn, baseline_id, "")):
        return
    if cursors.get_evidence(conn, baseline_id, "") is not None:
        raise Conflicting(
            "traffic was judged on this baseline already, and its bets cannot be placed again by other bands; build it "
            "without --time to keep it, or with --time under another --version"
        )
    baselines.add_calibration(
        conn,
        NewCalibration(
            version_id=version_id,
            baseline_id=baseline_id,
            segment="",
            valid_from=ALWAYS,
            source=calibration.source.value,
            span_start=calibration.span[0],
            span_end=calibration.span[1],
            blob=blob,
        ),
    )


def _counted(calibration: Calibration) -> dict[str, int]:
    """Columns by state."""
    return dict(Counter(state.value for state in calibration.states))
