"""Labels: what predictions should have been, as it became known later, by the id of each request."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from storage.tables import labels
from storage.upsert import insert_into

# Both engines bind tens of thousands of values in one statement; this keeps the compiled statements few and small.
_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The true value of one column of one prediction, as text; `at_ns` is when it became known (nanoseconds UTC)."""

    request_id: str
    column: str
    value: str
    at_ns: int


def put(conn: Connection, model_id: int, told: Sequence[Label], *, received_at: datetime) -> None:
    """Store labels; of two for the same prediction and column the one that became known later stays.

    So neither a retry nor the order of arrival changes anything; of two known at the same moment the first stays.
    """
    if not told:
        return
    statement = insert_into(conn, labels)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["model_id", "request_id", "column"],
        set_={name: new[name] for name in ("value", "at_ns", "received_at")},
        where=labels.c.at_ns < new.at_ns,
    )
    common = {"model_id": model_id, "received_at": received_at}
    conn.execute(statement, [asdict(label) | common for label in told])


def of_requests(conn: Connection, model_id: int, request_ids: Sequence[str]) -> dict[tuple[str, str], str]:
    """The labels of these requests of a model: their values, by request and column."""
    found: dict[tuple[str, str], str] = {}
    for at in range(0, len(request_ids), _CHUNK):
        chosen = labels.c.request_id.in_(request_ids[at : at + _CHUNK])
        query = select(labels.c.request_id, labels.c.column, labels.c.value).where(
            labels.c.model_id == model_id, chosen
        )
        found |= {(request, column): value for request, column, value in conn.execute(query)}
    return found


def count(conn: Connection) -> int:
    """How many labels are stored, of all models."""
    total: int = conn.execute(select(func.count()).select_from(labels)).scalar_one()
    return total
