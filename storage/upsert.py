"""INSERT … ON CONFLICT, which both SQLite and PostgreSQL speak but SQLAlchemy offers per dialect only."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

Insert = sqlite.Insert | postgresql.Insert


def insert_into(where: Connection | Dialect, table: Table) -> Insert:
    """The dialect's own INSERT, the one that has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    dialect = where.dialect if isinstance(where, Connection) else where
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def upsert(
    conn: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    update: Sequence[str],
    only_where: ColumnElement[bool] | None = None,
) -> int:
    """Insert `rows`; where the primary key exists, set the columns `update` to the new values instead.

    With `only_where`, an existing row that does not satisfy it is left alone. Returns how many rows were inserted
    or updated.
    """
    if not rows:
        return 0
    statement = insert_into(conn, table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in update},
        where=only_where,
    )
    counted = {"preserve_rowcount": True}  # psycopg's cursor is gone by the time somebody asks
    return conn.execute(statement, [dict(row) for row in rows], execution_options=counted).rowcount
