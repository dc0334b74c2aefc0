"""Labels: what predictions should have been, as it became known later, by the id of each request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, func, select

from storage.prepared import Prepared, driver_errors, prepare
from storage.tables import labels
from storage.translation import translate
from storage.upsert import insert_into

# Both engines bind tens of thousands of values in one statement; this keeps the compiled statements few and small.
_CHUNK = 500
PUT_AT_ONCE: Final = 500
"""Labels per write, at most: other writes wait so long, and on PostgreSQL as many rows are locked."""


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
    To be called with `PUT_AT_ONCE` of them at most.
    """
    if not told:
        return
    common = {"model_id": model_id, "received_at": received_at}
    # In the order of the key, so that of two daemons that store the same labels one waits and neither is refused.
    ordered = sorted(told, key=lambda label: (label.request_id, label.column))
    connection: Any = conn.connection
    cursor = connection.cursor()
    try:
        _put_statement(conn.dialect).run_all(cursor, common, [_values(label) for label in ordered])
    except driver_errors(conn.dialect) as error:
        raise translate(error) from error
    finally:
        cursor.close()


def _values(label: Label) -> dict[str, Any]:
    return {
        "request_id": label.request_id,
        "column": label.column,
        "value": label.value,
        "at_ns": label.at_ns,
    }


@lru_cache(maxsize=8)
def _put_statement(dialect: Dialect) -> Prepared:
    statement = insert_into(dialect, labels)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["model_id", "request_id", "column"],
        set_={name: new[name] for name in ("value", "at_ns", "received_at")},
        where=labels.c.at_ns < new.at_ns,
    )
    return prepare(labels, statement, tuple(column.name for column in labels.columns), dialect)


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
