"""The migrations lead to exactly the tables of `storage.tables`, all at once or not at all."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from storage import schema, tables
from storage.errors import SchemaTooNew
from storage.sqlite import write_engine


def definitions(conn: Connection, kind: str) -> list[tuple[str, str]]:
    """(name, definition) of every `index`, or every column of each `table`, as the database itself words it."""
    if conn.dialect.name == "sqlite":
        query = f"SELECT name, sql FROM sqlite_master WHERE type = '{kind}' AND sql IS NOT NULL ORDER BY name"
    elif kind == "index":
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    else:
        query = (
            "SELECT table_name || '.' || column_name, data_type || coalesce(column_default, '') || is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
        )
    return [(row[0], row[1]) for row in conn.exec_driver_sql(query)]


def test_after_the_upgrade_nothing_differs_from_the_metadata(conn: Connection) -> None:
    context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, tables.metadata) == []


def test_partial_indexes_are_partial_in_the_database_too(conn: Connection) -> None:
    """compare_metadata does not look at the WHERE of an index."""
    found = dict(definitions(conn, "index"))
    for table in tables.metadata.sorted_tables:
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            assert ("WHERE" in found[str(index.name)]) == (where is not None), index.name
            if where is not None and conn.dialect.name == "sqlite":  # PostgreSQL spells it anew
                assert found[str(index.name)].endswith(f"WHERE {where}")


def test_the_known_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(schema._directory()).get_heads() == [schema.HEAD]


def test_every_foreign_key_points_to_an_existing_column(conn: Connection) -> None:
    if conn.dialect.name == "sqlite":  # PostgreSQL would not have made one
        assert conn.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    assert {key["referred_table"] for key in inspect(conn).get_foreign_keys("panes")} == {
        "baselines",
        "model_versions",
    }


def test_an_upgrade_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "driftd.db"
    sqlite3.connect(path).close()
    engine = write_engine(path)

    with engine.connect() as conn:
        transaction = conn.begin()
        schema.upgrade(conn)
        assert schema.revision(conn) == schema.HEAD
        assert inspect(conn).has_table("batches")
        transaction.rollback()
    with engine.connect() as conn:
        assert inspect(conn).get_table_names() == []
        assert schema.revision(conn) is None
    engine.dispose()


def test_an_upgrade_of_a_current_database_changes_nothing(conn: Connection) -> None:
    before = definitions(conn, "table"), definitions(conn, "index")
    assert schema.check(conn, where="here")
    schema.upgrade(conn)
    assert (definitions(conn, "table"), definitions(conn, "index")) == before


def test_a_revision_of_the_future_is_refused(conn: Connection) -> None:
    conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(SchemaTooNew, match=r"driftd\.db: schema 0999 was written by a newer driftd"):
        schema.check(conn, where="driftd.db")
