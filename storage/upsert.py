"""INSERT … ON CONFLICT, which both SQLite and PostgreSQL speak but SQLAlchemy offers per dialect only."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

Insert = sqlite.Insert | postgresql.Insert
Guard = Callable[[Insert], ColumnElement[bool]]
"""What must hold of an existing row for an INSERT, which has the new row as `excluded`, to change it."""


def insert_into(where: Connection | Dialect, table: Table) -> Insert:
    """The dialect's own INSERT, the one that has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    dialect = where.dialect if isinstance(where, Connection) else where
    return insert_for(dialect.name, table)


def insert_for(dialect_name: str, table: Table) -> Insert:
    """The same by the dialect's name, for statements that are built once and kept."""
    return postgresql.insert(table) if dialect_name == "postgresql" else sqlite.insert(table)


def upsert(
    conn: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    update: tuple[str, ...],
    only_where: Guard | None = None,
) -> int:
    """Insert `rows`; where the primary key exists, set the columns `update` to the new values instead.

    With `only_where`, an existing row that does not satisfy it is left alone. Returns how many rows were inserted
    or updated.
    """
    if not rows:
        return 0
    statement = _upserting(conn.dialect.name, table, update, only_where)
    counted = {"preserve_rowcount": True}  # psycopg's cursor is gone by the time somebody asks
    return conn.execute(statement, [dict(row) for row in rows], execution_options=counted).rowcount


@cache
def _upserting(dialect_name: str, table: Table, update: tuple[str, ...], only_where: Guard | None) -> Insert:
    statement = insert_for(dialect_name, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in update},
        where=None if only_where is None else only_where(statement),
    )
