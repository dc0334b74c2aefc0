"""How right predictions turned out to be: per version, segment, column and hour, and which batches are counted in it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, func, select, update

from storage.errors import Overtaken
from storage.rows import many
from storage.tables import performances, scorings
from storage.upsert import insert_into


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceRow:
    """The predictions of one column in the hour that starts at `start` (epoch seconds, event time), once mature.

    Of `rows` predictions `identified` had a request id and `labelled` a label; of these `correct` were equal to it.
    `error` (prediction less label), `absolute_error` and `squared_error` are sums over the labelled ones of a numeric
    column, 0.0 for categories. `confidence` is the sum over the `confident` labelled ones whose confidence is known.
    """

    version_id: int
    segment: str
    column: str
    start: int
    rows: int
    identified: int
    labelled: int
    correct: int
    error: float
    absolute_error: float
    squared_error: float
    confident: int
    confidence: float


_KEY = ("version_id", "segment", "column", "start")
_SUMS = tuple(name for name in PerformanceRow.__dataclass_fields__ if name not in _KEY)


def add(conn: Connection, rows: Sequence[PerformanceRow]) -> None:
    """Add to each (version, segment, column, hour); in the transaction that moves the model on (`move`)."""
    if not rows:
        return
    statement = insert_into(conn, performances)
    statement = statement.on_conflict_do_update(
        index_elements=list(_KEY),
        set_={name: performances.c[name] + statement.excluded[name] for name in _SUMS},
    )
    conn.execute(statement, [asdict(row) for row in rows])


def list_rows(
    conn: Connection,
    version_ids: Sequence[int],
    *,
    start: int,
    end: int,
    segment: str | None = None,
) -> list[PerformanceRow]:
    """The hours with `start` ≤ hour < `end` (epoch seconds) of some versions, of one segment ('' the whole) or of all.

    By hour, then version, segment and column.
    """
    query = (
        select(performances)
        .where(
            performances.c.version_id.in_(list(version_ids)),
            performances.c.start >= start,
            performances.c.start < end,
        )
        .order_by(
            performances.c.start, performances.c.version_id, performances.c.segment, performances.c.column
        )
    )
    if segment is not None:
        query = query.where(performances.c.segment == segment)
    return many(conn, query, PerformanceRow)


def newest_start(conn: Connection, version_id: int) -> int | None:
    """The newest hour (epoch seconds) in which a version has mature predictions; None if it has none."""
    # The whole has every hour that a segment has; to ask it alone is to read a fiftieth of the index.
    whole = (performances.c.version_id == version_id) & (performances.c.segment == "")
    newest: int | None = conn.execute(select(func.max(performances.c.start)).where(whole)).scalar_one()
    return newest


def scored_upto(conn: Connection, model_id: int) -> int | None:
    """The id up to which a model's batches are counted; None before its first."""
    found: int | None = conn.execute(
        select(scorings.c.after_id).where(scorings.c.model_id == model_id)
    ).scalar_one_or_none()
    return found


def move(conn: Connection, model_id: int, *, before: int | None, after: int) -> None:
    """A model's batches are counted up to `after`, having been up to `before`; Overtaken where somebody counted meanwhile."""
    if before is None:
        fresh = insert_into(conn, scorings).on_conflict_do_nothing(index_elements=["model_id"])
        first = fresh.values(model_id=model_id, after_id=after).returning(scorings.c.model_id)
        moved = conn.execute(first).scalar_one_or_none()
    else:
        mine = (scorings.c.model_id == model_id) & (scorings.c.after_id == before)
        further = update(scorings).where(mine).values(after_id=after).returning(scorings.c.model_id)
        moved = conn.execute(further).scalar_one_or_none()
    if moved is None:
        raise Overtaken(f"the labels of model {model_id} were counted beyond batch {before} meanwhile")


def summed(rows: Sequence[PerformanceRow]) -> PerformanceRow:
    """Rows of one version, segment and column (at least one) as one, which starts as the first does."""
    return replace(rows[0], **{name: sum(getattr(row, name) for row in rows) for name in _SUMS})
