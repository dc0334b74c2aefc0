"""From selected rows to records whose fields are the columns' names.

To build a statement and to know it again costs SQLAlchemy four times what running it does. What the loop asks at every
look is therefore built once, with a parameter for each value, and `values` are those of one look.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Select

Record = TypeVar("Record")


def many(
    conn: Connection,
    query: Select[*tuple[Any, ...]],
    record: Callable[..., Record],
    values: Mapping[str, Any] | None = None,
) -> list[Record]:
    """One record per row, in the query's order."""
    return [record(**row) for row in conn.execute(query, values).mappings()]


def one(
    conn: Connection,
    query: Select[*tuple[Any, ...]],
    record: Callable[..., Record],
    values: Mapping[str, Any] | None = None,
) -> Record | None:
    """The record of the only row, None if there is none; more than one is a bug and raises."""
    row = conn.execute(query, values).mappings().one_or_none()
    return None if row is None else record(**row)


def new_id(conn: Connection, statement: Insert, values: Mapping[str, Any], column: str = "id") -> int:
    """Run an INSERT of one row and return the key that the database gave it."""
    key = conn.execute(statement.returning(statement.table.c[column]), dict(values)).scalar_one()
    assert isinstance(key, int)
    return key
