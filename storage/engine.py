"""The one door to the database: open it or refuse it, write through one thread, read beside it."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine

from storage import schema, statefile
from storage.errors import DatabaseRefused, StorageError
from storage.sqlite import has_wal_reset_bug, read_engine, write_engine
from storage.writer import Writer

__all__ = ["Connection", "Database", "Readable", "Reader"]

T = TypeVar("T")


class Readable(Protocol):
    """What can be read: the daemon's database, or a reader beside it."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees one snapshot, kept for milliseconds."""
        ...


class Reader:
    """Reads a database, in the daemon or beside it; cannot write, and never makes a writer wait."""

    def __init__(self, path: Path) -> None:
        """`path` is the database file, which must have the current schema."""
        self._path = path
        self._engine: Engine = read_engine(path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Keep it for milliseconds: the WAL cannot shrink meanwhile."""
        with self._engine.connect() as conn:
            yield conn

    def backup(self, target: Path) -> int:
        """Write a consistent copy to the new file `target` while the daemon goes on; returns its size in bytes."""
        return statefile.copy_database(self._path, target)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """The reader itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class Database:
    """The daemon's database: locked against other daemons, migrated, with one writing thread and many readers."""

    def __init__(
        self, path: Path, lock: statefile.DirectoryLock, engine: Engine, clock: Callable[[], float]
    ) -> None:
        """Use `open`."""
        self._path = path
        self._lock = lock
        self._engine = engine
        self._reader = Reader(path)
        self._writer = Writer(engine.connect, clock=clock)

    @classmethod
    def open(
        cls, state_dir: Path, *, create: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> "Database":
        """Open `state_dir`/driftd.db for a daemon, making directory and database if they are missing and `create`.

        Raises StateDirectoryInUse if another daemon has it, SchemaTooNew or DatabaseRefused if the file must not be
        opened, StorageError if the file system does not let us; each with one line that names the file and the fix.
        """
        statefile.prepare(state_dir, create=create)
        path = state_dir / statefile.DATABASE
        with ExitStack() as undo:
            lock = statefile.DirectoryLock(state_dir)
            undo.callback(lock.release)
            if not statefile.check_file(path):
                if not create:
                    raise DatabaseRefused(f"{path}: there is no database yet: start `driftd serve` first")
                statefile.create_database(path, _upgrade_new)
            statefile.check_content(path)
            engine = write_engine(path)
            undo.callback(engine.dispose)
            _make_ready(engine, path)
            database = cls(path, lock, engine, clock)
            undo.pop_all()
        return database

    @staticmethod
    def open_readonly(state_dir: Path) -> Reader:
        """For a command beside the daemon or without one: reads only, takes no lock, migrates nothing."""
        statefile.prepare(state_dir, create=False)
        path = state_dir / statefile.DATABASE
        if not statefile.check_file(path):
            raise DatabaseRefused(f"{path}: there is no database yet: start `driftd serve` first")
        reader = Reader(path)
        try:
            with _naming(path), reader.read() as conn:
                if not schema.check(conn, where=str(path)):
                    raise DatabaseRefused(
                        f"{path}: its schema is older than this driftd: start the daemon to migrate it"
                    )
        except StorageError:
            reader.close()
            raise
        return reader

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    @property
    def sqlite_version(self) -> str:
        """The SQLite that is linked in, such as `3.40.1`."""
        return sqlite3.sqlite_version

    @property
    def has_wal_reset_bug(self) -> bool:
        """Whether that SQLite corrupts a WAL database with two writers: worth a warning, harmless with our one."""
        return has_wal_reset_bug()

    @property
    def pending_writes(self) -> int:
        """How many writes have no answer yet."""
        return self._writer.pending

    @property
    def healthy(self) -> bool:
        """Whether the writing thread lives and its last transaction could be written."""
        return self._writer.alive and self._writer.last_error is None

    @property
    def last_error(self) -> str | None:
        """Why the last transaction could not be written; None again once one could."""
        return self._writer.last_error

    @property
    def wal_bytes(self) -> int:
        """How large the write-ahead log is; it grows while somebody reads for long."""
        wal = self._path.with_name(self._path.name + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def write(self, function: Callable[[Connection], T], *, urgent: bool = False) -> Future[T]:
        """Run `function` in the writing thread and answer after the COMMIT; what it raises, the future raises.

        It must be short (≤ 50 ms), compute nothing, and not call `write`. Others may share the transaction, but
        an exception undoes its own writes alone. `urgent` goes first: ingest. StorageFull, StorageBusy and
        StorageBroken mean that nothing was written and that it may be tried again; after `close`, StorageClosed.
        """
        return self._writer.submit(function, urgent=urgent)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Keep it for milliseconds: the WAL cannot shrink meanwhile."""
        with self._reader.read() as conn:
            yield conn

    def backup(self, target: Path) -> int:
        """Write a consistent copy to the new file `target` while writes go on; returns its size in bytes."""
        return self._reader.backup(target)

    def close(self) -> None:
        """Write what is queued, checkpoint, and let the next daemon in; twice is harmless."""
        # Readers first: the last connection to close is then the one that may checkpoint.
        self._reader.close()
        self._writer.close()
        self._engine.dispose()
        self._lock.release()

    def __enter__(self) -> Self:
        """The database itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever SQLite says against a file while it is opened becomes a refusal that names the file."""
    try:
        yield
    except DatabaseRefused:
        raise
    except StorageError as error:
        raise statefile.refusal(path, error) from error


def _make_ready(engine: Engine, path: Path) -> None:
    """Check and migrate, all in one transaction."""
    with _naming(path), engine.connect() as conn, conn.begin():
        if not schema.check(conn, where=str(path)):
            schema.upgrade(conn)


def _upgrade_new(path: Path) -> None:
    engine = write_engine(path)
    try:
        with engine.connect() as conn, conn.begin():
            schema.upgrade(conn)
    finally:
        engine.dispose()
