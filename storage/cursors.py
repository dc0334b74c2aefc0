"""How far a model has come: its cursor, and the evidence of its baselines."""

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Table, bindparam, case, select
from sqlalchemy.sql.elements import ColumnElement

from storage.errors import Immutable, Overtaken
from storage.rows import many, one
from storage.tables import cursors, evidence
from storage.upsert import Insert, insert_for, upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Per model: event time up to which panes are complete (ns), the last closed boundary (s), and its arrivals:
    the newest one, and since when they have come without a long gap.

    None means that nothing is known yet.
    """

    model_id: int
    watermark_ns: int | None = None
    evaluated_upto: int | None = None
    newest_event_ns: int | None = None
    last_arrival_at: datetime | None = None
    busy_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """The encoded evidence of one baseline and segment, after every block that ends at or before `upto` (s).

    `terms` are the encoded lengths of the columns' blocks, and since when they hold.
    `peaks` are the largest effects since `peaks_since` (s), kept while something is to be learned.
    """

    baseline_id: int
    segment: str
    version_id: int
    upto: int
    state: bytes
    terms: bytes
    peaks: bytes | None = None
    peaks_since: int | None = None


_OF_MODEL = select(cursors).where(cursors.c.model_id == bindparam("model_id"))


def get(conn: Connection, model_id: int) -> Cursor:
    """The cursor of a model; all None if it has never been put."""
    return one(conn, _OF_MODEL, Cursor, {"model_id": model_id}) or Cursor(model_id=model_id)


def check_evaluated(conn: Connection, model_id: int, upto: int | None) -> None:
    """Overtaken unless the model is evaluated exactly up to `upto`, as the caller believes who computed with it."""
    stored = get(conn, model_id).evaluated_upto
    if stored != upto:
        raise Overtaken(f"model {model_id} was evaluated up to {stored} meanwhile, not {upto}")


def list_cursors(conn: Connection) -> list[Cursor]:
    """The cursors of all models that have one, by model id."""
    return many(conn, select(cursors).order_by(cursors.c.model_id), Cursor)


def put(conn: Connection, cursor: Cursor) -> None:
    """Move a cursor forward: each field becomes the later of what is stored and what is given, None leaves it.

    No field ever moves back, so fold and evaluation may put in any order and each may leave out the other's fields.
    """
    conn.execute(_moving(conn.dialect.name), asdict(cursor))


@cache
def _moving(dialect_name: str) -> Insert:
    statement = insert_for(dialect_name, cursors)
    new = statement.excluded
    names = ("watermark_ns", "evaluated_upto", "newest_event_ns", "last_arrival_at", "busy_since")
    return statement.on_conflict_do_update(
        index_elements=["model_id"], set_={name: _later(cursors, name, new[name]) for name in names}
    )


def _later(table: Table, name: str, new: ColumnElement[object]) -> ColumnElement[object]:
    old = table.c[name]
    return case((old.is_(None), new), (new.is_(None), old), (new > old, new), else_=old)


def get_evidence(conn: Connection, baseline_id: int, segment: str) -> EvidenceRow | None:
    """The evidence of one baseline and segment; None before its first block."""
    query = select(evidence).where(evidence.c.baseline_id == baseline_id, evidence.c.segment == segment)
    return one(conn, query, EvidenceRow)


def put_evidence(conn: Connection, row: EvidenceRow) -> None:
    """Store evidence at the same or a later `upto`; an earlier one raises Immutable, for a bet is placed once."""
    written = upsert(
        conn,
        evidence,
        [asdict(row)],
        update=("upto", "state", "terms", "peaks", "peaks_since"),
        only_where=_not_earlier,
    )
    if written != 1:
        raise Immutable(
            f"the evidence of baseline {row.baseline_id}, segment {row.segment!r}, is already past {row.upto}"
        )


def _not_earlier(statement: Insert) -> ColumnElement[bool]:
    return evidence.c.upto <= statement.excluded.upto
