"""Who may do what while several daemons share a PostgreSQL database; on SQLite there is one, and all is granted.

The locks are advisory, belong to the transaction and end with it, so they hold nothing after a crash and work
behind PgBouncer. Folds of one model may run side by side; an evaluation of it runs alone. Where somebody might wait
for whom is kept to one lock, `announcing`; the others are tried, and refused at once.
"""

from typing import Final

from sqlalchemy import Connection, select, text

from storage.errors import StorageBusy
from storage.tables import writers

_ALL: Final = int.from_bytes(b"drft", "big") << 32
MIGRATION: Final = _ALL
_ANNOUNCING: Final = _ALL + 1
_HOUSEKEEPING: Final = _ALL + 2
_MODELS: Final = _ALL + 2**31


class Occupied(StorageBusy):
    """Another daemon is at it; nothing was written, and a moment later it may be free."""


def folding(conn: Connection, model_id: int) -> None:
    """Until the end of the transaction no evaluation of the model is committed. Raises Occupied."""
    if not _granted(conn, "pg_try_advisory_xact_lock_shared", _MODELS + model_id):
        raise Occupied("another daemon evaluates this model at the moment")


def evaluating(conn: Connection, model_id: int) -> None:
    """Until the end of the transaction no fold and no other evaluation of the model is committed. Raises Occupied."""
    if not _granted(conn, "pg_try_advisory_xact_lock", _MODELS + model_id):
        raise Occupied("another daemon folds or evaluates this model at the moment")


def living(conn: Connection, writer: str) -> None:
    """Until the end of the transaction nobody declares this daemon dead, so nobody sums up its panes. Raises Occupied if
    somebody has: its rows are then read anew.
    """
    if conn.dialect.name != "postgresql":
        return
    query = select(writers.c.id).where(writers.c.id == writer).with_for_update(read=True)
    if conn.execute(query).one_or_none() is None:
        raise Occupied("this daemon was taken for dead; what it had begun is given up and done anew")


def housekeeping(conn: Connection) -> bool:
    """Whether this transaction is the one that may clear away old rows."""
    return _granted(conn, "pg_try_advisory_xact_lock", _HOUSEKEEPING)


def announcing(conn: Connection) -> None:
    """Until the end of the transaction nobody else plans notifications: two plans of one alert would be two pages."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ANNOUNCING})


def _granted(conn: Connection, function: str, key: int) -> bool:
    if conn.dialect.name != "postgresql":
        return True
    return bool(conn.execute(text(f"SELECT {function}(:key)"), {"key": key}).scalar_one())
