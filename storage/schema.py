"""Bringing a database to the schema of this code, or refusing it."""

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage import migrations
from storage.errors import DatabaseRefused, SchemaTooNew

# What the newest file in migrations/versions says; known here so that a start without migration needs no alembic.
HEAD = "0001"


def revision(conn: Connection) -> str | None:
    """The revision that the database says it has; None before the first migration."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def check(conn: Connection, *, where: str) -> bool:
    """Whether the schema is current; SchemaTooNew if it is one that this code has never heard of."""
    found = revision(conn)
    if found == HEAD:
        return True
    if found is not None and found not in _known() and not inspect(conn).has_table("payloads"):
        raise DatabaseRefused(
            f"{where}: it holds another program's tables: give driftd a database of its own"
        )
    if found is not None and found not in _known():
        raise SchemaTooNew(
            f"{where}: schema {found} was written by a newer driftd, this one knows up to {HEAD}: install the newer "
            "driftd again, or restore a backup of this version"
        )
    if found is None and inspect(conn).get_table_names():
        raise DatabaseRefused(
            f"{where}: it holds tables, but not those of driftd: give driftd a database of its own"
        )
    return False


def upgrade(conn: Connection) -> None:
    """Run every missing migration inside the caller's transaction: all of them or none."""
    from alembic import command
    from alembic.config import Config

    # Its INFO lines about plugins and dialects are of no use to whoever starts the daemon.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", _directory().replace("%", "%%"))
    command.upgrade(config, "head")


def _directory() -> str:
    assert migrations.__file__ is not None
    return str(Path(migrations.__file__).parent)


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(_directory()).walk_revisions()}
