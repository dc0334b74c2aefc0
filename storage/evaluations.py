"""Evaluations: what was decided at each pane boundary, once."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, insert, select

from storage.rows import many, one
from storage.tables import evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """The column states and packed scores of one baseline and segment at one boundary (epoch seconds)."""

    version_id: int
    baseline_id: int
    segment: str
    boundary: int
    rows: int
    states: bytes
    scores: bytes


_INSERT = insert(evaluations)


def add(conn: Connection, rows: Sequence[EvaluationRow]) -> None:
    """Store evaluations; a boundary that was evaluated already raises ConstraintViolated when it is written."""
    if rows:
        conn.execute(_INSERT, [asdict(row) for row in rows])


def between(
    conn: Connection, baseline_id: int, segment: str, *, start: int, end: int, limit: int | None = None
) -> list[EvaluationRow]:
    """The evaluations with start < boundary ≤ end, by boundary: those of the panes that lie in the span."""
    query = (
        select(evaluations)
        .where(
            evaluations.c.baseline_id == baseline_id,
            evaluations.c.segment == segment,
            evaluations.c.boundary > start,
            evaluations.c.boundary <= end,
        )
        .order_by(evaluations.c.boundary)
        .limit(limit)
    )
    return many(conn, query, EvaluationRow)


def states_between(
    conn: Connection, baseline_id: int, segment: str, *, start: int, end: int
) -> list[tuple[int, bytes]]:
    """(boundary, states) with start < boundary ≤ end, by boundary, without the much larger scores."""
    query = (
        select(evaluations.c.boundary, evaluations.c.states)
        .where(
            evaluations.c.baseline_id == baseline_id,
            evaluations.c.segment == segment,
            evaluations.c.boundary > start,
            evaluations.c.boundary <= end,
        )
        .order_by(evaluations.c.boundary)
    )
    return [(boundary, states) for boundary, states in conn.execute(query)]


def latest(conn: Connection, baseline_id: int, segment: str) -> EvaluationRow | None:
    """The last evaluation of one baseline and segment; None before the first."""
    query = (
        select(evaluations)
        .where(evaluations.c.baseline_id == baseline_id, evaluations.c.segment == segment)
        .order_by(evaluations.c.boundary.desc())
        .limit(1)
    )
    return one(conn, query, EvaluationRow)


def segments(conn: Connection, baseline_id: int, *, since: int) -> list[str]:
    """The segments of one baseline that have an evaluation with boundary ≥ since, sorted."""
    query = (
        select(evaluations.c.segment)
        .where(evaluations.c.baseline_id == baseline_id, evaluations.c.boundary >= since)
        .distinct()
        .order_by(evaluations.c.segment)
    )
    return list(conn.execute(query).scalars())
