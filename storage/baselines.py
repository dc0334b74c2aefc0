"""Baselines, and the calibrations learned for them: immutable blobs, added once and read many times."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from storage.errors import NotFound
from storage.rows import many, new_id, one
from storage.tables import baselines, calibrations
from storage.upsert import insert_into


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRow:
    """A baseline without its blob: `rows` training rows of one version, by the sha256 of the encoded profile."""

    id: int
    version_id: int
    fingerprint: str
    source: str
    rows: int
    pane_seconds: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCalibration:
    """Bands, thresholds and block lengths for one baseline and segment; times are epoch seconds of event time."""

    version_id: int
    baseline_id: int
    segment: str
    valid_from: int
    source: str
    span_start: int
    span_end: int
    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """A stored NewCalibration."""

    id: int
    version_id: int
    baseline_id: int
    segment: str
    valid_from: int
    source: str
    span_start: int
    span_end: int
    blob: bytes


_FACTS = [column for column in baselines.c if column.name != "blob"]


def add(
    conn: Connection,
    *,
    version_id: int,
    blob: bytes,
    fingerprint: str,
    source: str,
    rows: int,
    pane_seconds: int,
    now: datetime,
) -> int:
    """Store a baseline and return its id; the same fingerprint for the same version returns the id it already has."""
    statement = insert_into(conn, baselines).on_conflict_do_nothing(
        index_elements=["version_id", "fingerprint"]
    )
    conn.execute(
        statement,
        {
            "version_id": version_id,
            "fingerprint": fingerprint,
            "source": source,
            "rows": rows,
            "pane_seconds": pane_seconds,
            "created_at": now,
            "blob": blob,
        },
    )
    baseline_id = find(conn, version_id, fingerprint)
    assert baseline_id is not None
    return baseline_id


def get(conn: Connection, baseline_id: int) -> BaselineRow:
    """The facts of one baseline; NotFound if there is none with that id."""
    found = one(conn, select(*_FACTS).where(baselines.c.id == baseline_id), BaselineRow)
    if found is None:
        raise NotFound(f"there is no baseline with id {baseline_id}")
    return found


def get_blob(conn: Connection, baseline_id: int) -> bytes:
    """The encoded baseline; NotFound if there is none with that id."""
    blob: bytes | None = conn.execute(
        select(baselines.c.blob).where(baselines.c.id == baseline_id)
    ).scalar_one_or_none()
    if blob is None:
        raise NotFound(f"there is no baseline with id {baseline_id}")
    return blob


def find(conn: Connection, version_id: int, fingerprint: str) -> int | None:
    """The id of a version's baseline with that fingerprint; None if it has none."""
    query = select(baselines.c.id).where(
        baselines.c.version_id == version_id, baselines.c.fingerprint == fingerprint
    )
    found: int | None = conn.execute(query).scalar_one_or_none()
    return found


def list_baselines(conn: Connection, version_id: int | None = None) -> list[BaselineRow]:
    """The baselines of one version, or of all, oldest first."""
    query = select(*_FACTS).order_by(baselines.c.id)
    if version_id is not None:
        query = query.where(baselines.c.version_id == version_id)
    return many(conn, query, BaselineRow)


def add_calibration(conn: Connection, calibration: NewCalibration) -> int:
    """Store a calibration and return its id; the one before it stays, for what was decided with it."""
    return new_id(conn, insert(calibrations), asdict(calibration))


def calibration_at(conn: Connection, baseline_id: int, segment: str, at: int) -> CalibrationRow | None:
    """The calibration in force at the event time `at` (epoch seconds): the last with valid_from ≤ at, or None."""
    query = (
        select(calibrations)
        .where(
            calibrations.c.baseline_id == baseline_id,
            calibrations.c.segment == segment,
            calibrations.c.valid_from <= at,
        )
        .order_by(calibrations.c.valid_from.desc(), calibrations.c.id.desc())
        .limit(1)
    )
    return one(conn, query, CalibrationRow)


def list_calibrations(conn: Connection, baseline_id: int, segment: str | None = None) -> list[CalibrationRow]:
    """The calibrations of one baseline, and of one segment if given, oldest first."""
    query = select(calibrations).where(calibrations.c.baseline_id == baseline_id).order_by(calibrations.c.id)
    if segment is not None:
        query = query.where(calibrations.c.segment == segment)
    return many(conn, query, CalibrationRow)
