"""SQLite's own side: how a connection is opened, which pragmas it gets, and what its error codes mean.

One connection writes and checkpoints, and no other ever does. SQLite 3.7.0 to 3.51.2 can corrupt a database when two
connections write or checkpoint at the same time (the WAL-reset bug, fixed in 3.51.3), and distributions ship the
affected versions for years. So readers open the file with `mode=ro`: such a connection cannot checkpoint, not even when
it is the last one to close. Nothing maps the file into memory either, for a stray write would then damage it.
"""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, ExceptionContext, NullPool, QueuePool, create_engine, event

from storage.errors import ConstraintViolated, StorageBroken, StorageBusy, StorageError, StorageFull

PAGE_BYTES = 16_384
"""Half the calls of 8 KiB for a payload of 120 kB, on its way to the log and from there; 32 KiB would leave more of a last page empty."""
BUSY_TIMEOUT_SECONDS = 5.0
WAL_KEPT_BYTES = 64 * 1024 * 1024
APPLICATION_ID = int.from_bytes(b"drft", "big")
_READERS_KEPT = 8
_READERS_MORE = 32

_CLASSES: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_BUSY: StorageBusy,
    sqlite3.SQLITE_LOCKED: StorageBusy,
    sqlite3.SQLITE_CONSTRAINT: ConstraintViolated,
    sqlite3.SQLITE_IOERR: StorageBroken,
    sqlite3.SQLITE_CORRUPT: StorageBroken,
    sqlite3.SQLITE_NOTADB: StorageBroken,
    sqlite3.SQLITE_READONLY: StorageBroken,
    sqlite3.SQLITE_CANTOPEN: StorageBroken,
    sqlite3.SQLITE_PERM: StorageBroken,
    sqlite3.SQLITE_NOMEM: StorageBroken,
}


def has_wal_reset_bug(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite may corrupt a WAL database that two connections write; with one writer it cannot."""
    return (3, 7, 0) <= version <= (3, 51, 2)


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """A raw connection in autocommit mode; `mode` is `ro`, `rw` or `rwc`, and only the last creates a file."""
    # Threads share no connection at the same time, but one is opened here and used there.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_SECONDS,
        check_same_thread=False,
        cached_statements=256,
    )


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes: durable at every COMMIT, foreign keys checked."""
    return _connect_with(
        path,
        "rw",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"journal_size_limit = {WAL_KEPT_BYTES}",
        # For a write in a savepoint SQLite would copy each page that it changes to a temporary file.
        "temp_store = MEMORY",
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint."""
    return _connect_with(path, "ro", "query_only = ON")


def _connect_with(path: Path, mode: str, *pragmas: str) -> sqlite3.Connection:
    try:
        raw = connect(path, mode=mode)
        try:
            for pragma in pragmas:
                raw.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            raw.close()
            raise
    except sqlite3.Error as error:
        raise translate(error) from error
    return raw


def write_engine(path: Path) -> Engine:
    """An engine whose connections write; the caller keeps exactly one of them."""
    engine = create_engine(
        "sqlite://", creator=lambda: connect_writer(path), poolclass=NullPool, hide_parameters=True
    )
    # A deferred BEGIN that reads first and then writes fails at once, whatever the busy timeout.
    event.listen(engine, "begin", _begin_immediate)
    event.listen(engine, "handle_error", _translate_context)
    return engine


def read_engine(path: Path) -> Engine:
    """An engine whose connections read, each from one snapshot until it is given back."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect_reader(path),
        poolclass=QueuePool,
        pool_size=_READERS_KEPT,
        max_overflow=_READERS_MORE,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin_deferred)
    event.listen(engine, "handle_error", _translate_context)
    return engine


class FileLink:
    """What the writing thread must know of SQLite; see `storage.store.Link`."""

    def __init__(self, engine: Engine) -> None:
        """`engine` is a `write_engine`."""
        self.engine = engine
        self._changes = (0, 0)

    def translate(self, error: BaseException) -> StorageError:
        return translate(error)

    def stands(self, conn: Connection) -> bool:
        """SQLite undoes a whole transaction by itself where the disk is full or fails."""
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        return raw.in_transaction

    def receipt(self, conn: Connection) -> object:
        """How many rows the connection has changed so far, None where that is as before."""
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        before, self._changes = self._changes, (id(raw), raw.total_changes)
        return None if self._changes in (before, (id(raw), 0)) else self._changes

    def committed(self, receipt: object, error: BaseException) -> bool:  # noqa: ARG002  # the file is ours alone
        """A COMMIT that failed wrote nothing: no network lies between."""
        return False


def _begin_immediate(conn: Connection) -> None:
    _begin(conn, "BEGIN IMMEDIATE")


def _begin_deferred(conn: Connection) -> None:
    _begin(conn, "BEGIN")


def _begin(conn: Connection, statement: str) -> None:
    """On the driver's own connection: through Core it would take as long as all the rest of a small read."""
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    try:
        raw.execute(statement)
    except sqlite3.Error as error:
        raise translate(error) from error


def _translate_context(context: ExceptionContext) -> None:
    # Callers of this folder see StorageError alone; statement and parameters (payloads, tokens) stay out of it.
    raise translate(context.original_exception) from context.original_exception


def translate(error: BaseException) -> StorageError:
    """The StorageError that says what `error` means; it holds no statement and no parameter."""
    if isinstance(error, StorageError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    kind = StorageError if code is None else _CLASSES.get(code & 0xFF, StorageError)
    name = getattr(error, "sqlite_errorname", None)
    return kind(f"{error} ({name})" if name else str(error))
