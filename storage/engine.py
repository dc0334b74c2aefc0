"""The one door to the database: open it or refuse it, write through one thread, read beside it."""

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import StorageBroken, StorageBusy, StorageFull
from storage.filestore import open_file, open_file_readonly
from storage.postgres import Address
from storage.serverstore import open_server, open_server_readonly
from storage.sqlite import has_wal_reset_bug
from storage.store import Store
from storage.writer import Writer

__all__ = ["Address", "Connection", "Database", "Readable", "Reader"]

T = TypeVar("T")

RESERVE_BYTES = 64 * 1024 * 1024
RESERVE_SHARE = 16
"""Ingest leaves that much of the disk, or that share of a small one, to what alerts have to write."""
ROOM_SECONDS = 0.02
"""How long a look at the disk is good for: the queue's 64 MiB would not fill the reserve of `RESERVE_BYTES` in it."""


class Readable(Protocol):
    """What can be read: the daemon's database, or a reader beside it."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees one snapshot, kept for milliseconds."""
        ...


class Reader:
    """Reads a database, in the daemon or beside it; cannot write, and never makes a writer wait."""

    def __init__(self, engine: Engine, backup: Callable[[Path], int]) -> None:
        """`engine` gives connections that cannot write; `backup` copies the database, or says how that is done."""
        self._engine = engine
        self._backup = backup
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Keep it for milliseconds: nothing it may still see can be cleared away."""
        conn = self._begun()
        try:
            yield conn
        finally:
            if self._closed:
                # The pool it came from is gone: nobody would ever close it.
                conn.invalidate()
            conn.close()

    def _begun(self) -> Connection:
        """A connection in a transaction; one that died in the pool, as a server's restart leaves them, is replaced."""
        try:
            return self._begin()
        except StorageBroken:
            return self._begin()

    def _begin(self) -> Connection:
        try:
            conn = self._engine.connect()
        except PoolTimeout:
            raise StorageBusy("every reading connection stayed in use; none became free in time") from None
        try:
            conn.begin()
        except BaseException:
            conn.close()
            raise
        return conn

    def backup(self, target: Path) -> int:
        """Write a consistent copy to the new file `target` while the daemon goes on; returns its size in bytes."""
        return self._backup(target)

    def close(self) -> None:
        """Close the connections; one in use is closed when it is given back."""
        self._closed = True
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
    """The daemon's database: migrated, with one writing thread and many readers."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Use `open`."""
        self._store = store
        self._engine = store.link.engine
        self._reader = Reader(store.readers, store.backup)
        self._writer = Writer(store.link, clock=clock)
        self._clock = clock
        self._room_checked_at = -math.inf
        self._found_no_room: str | None = None
        store.opened()

    @classmethod
    def open(
        cls, where: Path | Address, *, create: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> "Database":
        """Open a state directory's driftd.db, or a PostgreSQL database, for a daemon.

        Where there is nothing yet it is made if `create`. Raises StateDirectoryInUse if another daemon has the
        directory, SchemaTooNew or DatabaseRefused if the database must not be opened, StorageError if it cannot;
        each with one line that names the place and the fix.
        """
        if isinstance(where, Path):
            store = open_file(where, create=create)
        else:
            store = open_server(where, create=create)
        try:
            return cls(store, clock)
        except BaseException:
            store.readers.dispose()
            store.link.engine.dispose()
            store.release()
            raise

    @staticmethod
    def open_readonly(where: Path | Address) -> Reader:
        """For a command beside the daemon or without one: reads only, takes no lock, migrates nothing."""
        if isinstance(where, Path):
            return Reader(*open_file_readonly(where))
        return Reader(*open_server_readonly(where))

    @property
    def name(self) -> str:
        """How messages call this database; no secret."""
        return self._store.name

    @property
    def shared(self) -> bool:
        """Whether other daemons may write to the same database."""
        return self._store.shared

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
    def write_failures(self) -> int:
        """How many writes the disk has failed since the database was opened."""
        return self._writer.failures

    @property
    def no_room(self) -> str | None:
        """Why ingest is refused: the disk is so full that the rest is kept for alerts; None while there is room."""
        if self._store.path is None:
            return None
        place = self._store.path.parent
        found = os.statvfs(place)
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        kept = min(RESERVE_BYTES, size // RESERVE_SHARE)
        if free >= kept:
            return None
        mib = 1024 * 1024
        return (
            f"{place}: {free / mib:.1f} MiB are free, and the last {kept / mib:.1f} MiB are kept for alerts: "
            "make room, or give it a larger disk"
        )

    @property
    def wal_bytes(self) -> int:
        """How large SQLite's write-ahead log is; it grows while somebody reads for long. 0 on PostgreSQL."""
        path = self._store.path
        wal = None if path is None else path.with_name(path.name + "-wal")
        return wal.stat().st_size if wal is not None and wal.exists() else 0

    def write(self, function: Callable[[Connection], T], *, urgent: bool = False) -> Future[T]:
        """Run `function` in the writing thread and answer after the COMMIT; what it raises, the future raises.

        It must be short (≤ 50 ms), compute nothing, and not call `write`. Others may share the transaction, but
        an exception undoes its own writes alone. `urgent` is ingest: it goes first, and is refused
        while there is `no_room`. StorageFull, StorageBusy and StorageBroken mean that nothing was written and that it may be tried again, except OutcomeUnknown, which
        means that it may have been; after `close`, StorageClosed.
        """
        if urgent:
            self._check_room()
        return self._writer.submit(function, urgent=urgent)

    def _check_room(self) -> None:
        """StorageFull while there is no room, as it was a moment ago: a disk takes longer to fill than to be asked each time."""
        now = self._clock()
        if now - self._room_checked_at >= ROOM_SECONDS or self._found_no_room:
            self._found_no_room, self._room_checked_at = self.no_room, now
        if self._found_no_room:
            raise StorageFull(self._found_no_room)

    def probe(self) -> None:
        """Write something that changes nothing, and wait for it; StorageError if it could not be written."""
        self.write(
            lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = version_num"))
        ).result()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Keep it for milliseconds: nothing it may still see can be cleared away."""
        with self._reader.read() as conn:
            yield conn

    def backup(self, target: Path) -> int:
        """Write a consistent copy to the new file `target` while writes go on; returns its size in bytes."""
        return self._reader.backup(target)

    def close(self) -> None:
        """Write what is queued, checkpoint, and let the next daemon in; twice is harmless."""
        # Readers first: the last connection to close is then the one that may checkpoint.
        self._reader.close()
        self._store.closing()
        self._writer.close()
        self._engine.dispose()
        self._store.release()

    def __enter__(self) -> Self:
        """The database itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
