"""Opening a PostgreSQL database: checked and migrated by one daemon at a time, refused in one line."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy import text as sql

from storage import schema
from storage.errors import DatabaseRefused, OutcomeUnknown, SchemaTooNew, StorageError
from storage.filestore import check_current
from storage.locks import MIGRATION
from storage.postgres import Address, is_connection_loss, read_engine, translate, write_engine
from storage.store import Store

OLDEST_SERVER: Final = 130000
"""PostgreSQL 13: the first that tells a transaction's number and its fate in one spelling."""

_LOOKS: Final = 40
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receipt:
    """Which transaction it was, and the start of the server that ran it."""

    xid: str
    server_started: datetime


class ServerLink:
    """What the writing thread must know of PostgreSQL; see `storage.store.Link`."""

    def __init__(self, address: Address, engine: Engine) -> None:
        """`engine` is the address's `write_engine`."""
        self._address = address
        self.engine = engine

    def translate(self, error: BaseException) -> StorageError:
        return translate(error)

    def stands(self, conn: Connection) -> bool:
        if conn.invalidated:
            return False
        raw: Any = conn.connection.driver_connection
        return raw.info.transaction_status.name in ("INTRANS", "INERROR")

    def receipt(self, conn: Connection) -> object:
        row = conn.exec_driver_sql(
            "SELECT pg_current_xact_id_if_assigned()::text, pg_postmaster_start_time()"
        ).one()
        return None if row[0] is None else _Receipt(xid=row[0], server_started=row[1])

    def committed(self, receipt: object, error: BaseException) -> bool:
        """Ask the server itself: it knows what became of a transaction by its number."""
        cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ else error
        if not is_connection_loss(cause):
            return False
        if not isinstance(receipt, _Receipt):
            return True  # it had written nothing, so nothing can be lost
        try:
            return self._fate(receipt)
        except StorageError as failed:
            raise OutcomeUnknown(f"the connection was lost during COMMIT ({failed})") from error

    def _fate(self, receipt: _Receipt) -> bool:
        psycopg_connection = self._address.connect(writing=True)
        try:
            for _ in range(_LOOKS):
                same, fate = psycopg_connection.execute(
                    "SELECT pg_postmaster_start_time() = %s, pg_xact_status(%s::xid8)",
                    (receipt.server_started, receipt.xid),
                ).fetchone()
                if not same:
                    # Another server, after a failover, may have given the same number to somebody else.
                    raise StorageError("the server was started anew")
                if fate != "in progress":
                    return bool(fate == "committed")
                # The old connection has not noticed yet that nobody listens, or waits for a standby.
                time.sleep(_LOOK_SECONDS)
            raise StorageError("it is still in progress")
        except _driver_error() as failed:
            raise translate(failed) from None
        finally:
            psycopg_connection.close()


def open_server(address: Address, *, create: bool) -> Store:
    """The database for a daemon: its tables are made if there are none and `create`, and migrated if they are old.

    Raises SchemaTooNew, DatabaseRefused or StorageError, in one line with the database's name.
    """
    engine = write_engine(address)
    try:
        with _naming(address), engine.connect() as conn:
            _make_ready(conn, address, create=create)
    except BaseException:
        engine.dispose()
        raise
    return Store(
        name=address.name,
        path=None,
        shared=True,
        link=ServerLink(address, engine),
        readers=read_engine(address),
        backup=no_backup,
        release=lambda: None,
    )


def open_server_readonly(address: Address) -> tuple[Engine, Callable[[Path], int]]:
    """The reading half alone, without a migration, and what to say of a backup."""
    engine = read_engine(address)
    try:
        with _naming(address), engine.connect() as conn, conn.begin():
            if not schema.check(conn, where=address.name):
                _check_made(conn, address)
            check_current(conn, where=address.name)
    except BaseException:
        engine.dispose()
        raise
    return engine, no_backup


def no_backup(target: Path) -> int:  # noqa: ARG001  # it is the signature of a backup
    """PostgreSQL has its own, which restores with its own; a copy made by us would be worth less."""
    raise StorageError(
        "the database is on PostgreSQL: back it up with pg_dump, and restore it with pg_restore"
    )


def _make_ready(conn: Connection, address: Address, *, create: bool) -> None:
    """Check and migrate in one transaction, one daemon at a time: the second finds it done."""
    version = conn.connection.driver_connection.info.server_version  # type: ignore[union-attr]  # psycopg's
    if version < OLDEST_SERVER:
        raise DatabaseRefused(
            f"{address.name}: PostgreSQL {version // 10000} is too old: 13 is the first that works"
        )
    with conn.begin():
        if schema.check(conn, where=address.name):
            return
    with conn.begin():
        # Others may be at it for long, and so may we.
        conn.exec_driver_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        conn.execute(sql("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION})
        if schema.check(conn, where=address.name):
            return
        if not create:
            _check_made(conn, address)
        schema.upgrade(conn)


def _check_made(conn: Connection, address: Address) -> None:
    if schema.revision(conn) is None:
        raise DatabaseRefused(f"{address.name}: there are no tables yet: start `driftd serve` first")


@contextmanager
def _naming(address: Address) -> Iterator[None]:
    """Whatever the server says while the database is opened becomes a refusal that names it."""
    try:
        yield
    except (DatabaseRefused, SchemaTooNew):
        raise
    except StorageError as error:
        text = address.clean(str(error))
        named = text if text.startswith(address.name) else f"{address.name}: {text}"
        raise DatabaseRefused(named + _advice(error)) from None


def _advice(error: StorageError) -> str:
    if "SQLSTATE 42501" in str(error):
        return ": give the user of storage.url CREATE on a schema of its own, first in its search_path"
    return ""


def _driver_error() -> type[Exception]:
    import psycopg

    return psycopg.Error
