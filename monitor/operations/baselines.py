"""Baselines of the store: registered, listed, read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from detectors.codec import decode_baseline
from detectors.profile import Baseline
from detectors.types import DetectorError
from monitor.app import Service
from monitor.config_schema import pane_fits
from monitor.operations.acts import perform
from monitor.operations.errors import Invalid, NotKnown
from storage import baselines, models
from storage.engine import Connection

LONGEST_NAME: Final = 200


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
    """A stored baseline; `current` is the one its version is compared with now."""

    model: str
    version: str
    fingerprint: str
    source: str
    rows: int
    pane_seconds: int
    created_at: datetime
    current: bool


def register_baseline(
    service: Service,
    *,
    model: str,
    version: str,
    blob: bytes,
    facts: VersionFacts | None = None,
    actor: str,
) -> BaselineFacts:
    """Store an encoded baseline and make it its version's own, creating model and version where they are new.

    Invalid where the bytes are no baseline, or one this configuration cannot watch; Conflicting where the
    version is known as another artefact.
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
        adopt(conn, row.id, baseline, blob, now)
        return next(f for f in _facts(conn, model, models.get_version_by_id(conn, row.id)) if f.current)

    with service.pipeline.exclusive():
        done = perform(
            service,
            write,
            actor=actor,
            action="baseline.register",
            target=lambda _: f"model/{model}/version/{version}",
            detail={"fingerprint": baseline.fingerprint, "rows": baseline.profile.rows},
        )
        service.catalog.reload()
    service.pipeline.wake()
    return done


def adopt(conn: Connection, version_id: int, baseline: Baseline, blob: bytes, now: datetime) -> int:
    """Store a baseline for a version and compare with it from now on; returns its id."""
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
    models.set_baseline(conn, version_id, baseline_id)
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
