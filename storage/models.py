"""Models, their immutable versions, and which version served how many rows in which hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, update

from storage.errors import Immutable, NotFound, StorageError
from storage.rows import many, one
from storage.tables import baselines, model_versions, models, servings
from storage.upsert import Insert, insert_for, insert_into

STAGES = ("production", "candidate", "shadow")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model, known by its name."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One immutable artefact of a model; `baseline_id` None means its baseline is still to come."""

    id: int
    model_id: int
    version: str
    artefact_sha256: str | None
    run: str | None
    dataset: str | None
    commit: str | None
    stage: str
    registered_at: datetime
    baseline_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """`rows` rows of one version in the hour that starts at `start` (epoch seconds, event time)."""

    model_id: int
    version_id: int
    start: int
    rows: int


def ensure_model(conn: Connection, name: str, *, now: datetime) -> ModelRow:
    """The model of that name, registered at `now` if it is new."""
    conn.execute(
        insert_into(conn, models).on_conflict_do_nothing(index_elements=["name"]),
        {"name": name, "created_at": now},
    )
    found = get_model(conn, name)
    assert found is not None
    return found


def get_model(conn: Connection, name: str) -> ModelRow | None:
    """The model of that name, or None."""
    return one(conn, select(models).where(models.c.name == name), ModelRow)


def list_models(conn: Connection) -> list[ModelRow]:
    """All models, by name."""
    return many(conn, select(models).order_by(models.c.name), ModelRow)


def generation(conn: Connection) -> tuple[int, ...]:
    """Numbers of which at least one is another as soon as a model, a version, its stage or its baseline has changed."""
    versions = model_versions.c
    row = conn.execute(
        select(
            select(func.count()).select_from(models).scalar_subquery(),
            func.count(),
            func.coalesce(func.max(versions.id), 0),
            func.coalesce(func.sum(versions.baseline_id), 0),
            *(func.count(case((versions.stage == stage, 1))) for stage in STAGES),
            # A stage that moved from one version to another leaves the counts as they were.
            *(func.coalesce(func.sum(case((versions.stage == stage, versions.id))), 0) for stage in STAGES),
        )
    ).one()
    return tuple(int(number) for number in row)


def ensure_version(
    conn: Connection,
    model_id: int,
    version: str,
    *,
    now: datetime,
    artefact_sha256: str | None = None,
    run: str | None = None,
    dataset: str | None = None,
    commit: str | None = None,
    stage: str | None = None,
) -> VersionRow:
    """The version of that model, registered at `now` if it is new (stage `production` unless said).

    What is given fills in what is not known yet, and `stage` is set if given. A fact that is known and differs
    raises Immutable: a version is one artefact.
    """
    if stage is not None and stage not in STAGES:
        raise StorageError(f"stage {stage!r}: choose one of {', '.join(STAGES)}")
    facts = {"artefact_sha256": artefact_sha256, "run": run, "dataset": dataset, "commit": commit}
    conn.execute(
        insert_into(conn, model_versions).on_conflict_do_nothing(index_elements=["model_id", "version"]),
        {
            "model_id": model_id,
            "version": version,
            "stage": stage or "production",
            "registered_at": now,
            **facts,
        },
    )
    found = get_version(conn, model_id, version)
    assert found is not None
    changes: dict[str, Any] = {}
    for name, value in facts.items():
        known = getattr(found, name)
        if value is not None and known is not None and known != value:
            raise Immutable(
                f"version {version!r} has {name} {known!r}, not {value!r}: register a changed artefact as a new version"
            )
        if value is not None and known is None:
            changes[name] = value
    if stage is not None and stage != found.stage:
        changes["stage"] = stage
    if changes:
        conn.execute(update(model_versions).where(model_versions.c.id == found.id).values(**changes))
        found = get_version_by_id(conn, found.id)
    return found


def get_version(conn: Connection, model_id: int, version: str) -> VersionRow | None:
    """The version of that model, or None."""
    query = select(model_versions).where(
        model_versions.c.model_id == model_id, model_versions.c.version == version
    )
    return one(conn, query, VersionRow)


def get_version_by_id(conn: Connection, version_id: int) -> VersionRow:
    """The version with that id; NotFound if there is none."""
    found = one(conn, select(model_versions).where(model_versions.c.id == version_id), VersionRow)
    if found is None:
        raise NotFound(f"there is no model version with id {version_id}")
    return found


def list_versions(conn: Connection, model_id: int | None = None) -> list[VersionRow]:
    """The versions of one model, or of all, in the order of their registration."""
    query = select(model_versions).order_by(model_versions.c.id)
    if model_id is not None:
        query = query.where(model_versions.c.model_id == model_id)
    return many(conn, query, VersionRow)


def set_baseline(conn: Connection, version_id: int, baseline_id: int) -> None:
    """From now on the version is compared with that baseline, which must be one of its own."""
    owner = conn.execute(
        select(baselines.c.version_id).where(baselines.c.id == baseline_id)
    ).scalar_one_or_none()
    if owner != version_id:
        raise NotFound(f"model version {version_id} has no baseline with id {baseline_id}")
    conn.execute(
        update(model_versions).where(model_versions.c.id == version_id).values(baseline_id=baseline_id)
    )


def record_serving(conn: Connection, added: Sequence[Serving]) -> None:
    """Add `rows` to each (model, version, hour); fold calls it in the transaction that marks the batches."""
    if not added:
        return
    rows = [
        {"model_id": s.model_id, "version_id": s.version_id, "start": s.start, "rows": s.rows} for s in added
    ]
    conn.execute(_adding_rows(conn.dialect.name), rows)


@cache
def _adding_rows(dialect_name: str) -> Insert:
    statement = insert_for(dialect_name, servings)
    return statement.on_conflict_do_update(
        index_elements=["model_id", "version_id", "start"],
        set_={"rows": servings.c.rows + statement.excluded.rows},
    )


_SERVED = (
    select(servings)
    .where(
        servings.c.model_id == bindparam("model_id"),
        servings.c.start >= bindparam("start"),
        servings.c.start < bindparam("end"),
    )
    .order_by(servings.c.start, servings.c.version_id)
)


def list_servings(conn: Connection, model_id: int, *, start: int, end: int) -> list[Serving]:
    """The hours of one model with `start` ≤ hour < `end` (epoch seconds), ordered by hour, then version."""
    return many(conn, _SERVED, Serving, {"model_id": model_id, "start": start, "end": end})


def rows_by_hour(conn: Connection, model_id: int, *, start: int, end: int) -> list[tuple[int, int]]:
    """(hour, rows) of all versions of one model with `start` ≤ hour < `end` (epoch seconds), by hour; none without rows."""
    query = (
        select(servings.c.start, func.sum(servings.c.rows))
        .where(servings.c.model_id == model_id, servings.c.start >= start, servings.c.start < end)
        .group_by(servings.c.start)
        .order_by(servings.c.start)
    )
    return [(hour, int(rows)) for hour, rows in conn.execute(query)]
