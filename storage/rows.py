"""From selected rows to records whose fields are the columns' names."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Select

Record = TypeVar("Record")


def many(conn: Connection, query: Select[*tuple[Any, ...]], record: Callable[..., Record]) -> list[Record]:
    """One record per row, in the query's order."""
    return [record(**row) for row in conn.execute(query).mappings()]


def one(conn: Connection, query: Select[*tuple[Any, ...]], record: Callable[..., Record]) -> Record | None:
    """The record of the only row, None if there is none; more than one is a bug and raises."""
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else record(**row)


def new_id(conn: Connection, statement: Insert, values: Mapping[str, Any], column: str = "id") -> int:
    """Run an INSERT of one row and return the key that the database gave it."""
    key = conn.execute(statement.returning(statement.table.c[column]), dict(values)).scalar_one()
    assert isinstance(key, int)
    return key
