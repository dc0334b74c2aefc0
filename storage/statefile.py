"""The state directory: who holds it, whether its database may be opened, and how a new one comes to be.

Nothing here ever repairs, replaces or deletes a database: what cannot be opened is refused in one line, and a person
decides. A new database is made under another name and renamed when complete, so a crash leaves no half of one.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from storage.errors import DatabaseRefused, StateDirectoryInUse, StorageBusy, StorageError
from storage.sqlite import APPLICATION_ID, PAGE_BYTES, connect, translate

DATABASE = "driftd.db"
LOCK = "driftd.lock"
_WAL_MARK = "wal"
_UNFINISHED = "driftd.db.new"
_MAGIC = b"SQLite format 3\0"
# Above this a full check would take longer than a start may; SQLite still checks each page that it reads.
_FULL_CHECK_BYTES = 32 * 1024 * 1024


class DirectoryLock:
    """An flock on the state directory, held until `release` or the end of the process, however it ends."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock, or raise StateDirectoryInUse at once."""
        path = state_dir / LOCK
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened for writing: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (self._said().split() or ["unknown"])[0]
            os.close(self._descriptor)
            raise StateDirectoryInUse(
                f"{state_dir}: in use by another driftd (process {holder}): stop it, or choose another state directory"
            ) from None
        self.died_with_wal = _WAL_MARK in self._said().split()
        """Whether who held it last ended without `clean`, when its last commits were in the WAL."""
        if not self.died_with_wal:
            self._say(f"{os.getpid()}\n")

    def mark(self) -> None:
        """From now on the last commits are in the WAL, which is there: a database without it is not whole."""
        self._say(f"{os.getpid()} {_WAL_MARK}\n")

    def clean(self) -> None:
        """From now on the WAL may go, for all of it is in the database, or soon will be."""
        if self._descriptor >= 0:
            self._say(f"{os.getpid()}\n")

    def _said(self) -> str:
        return os.pread(self._descriptor, 40, 0).decode("ascii", "replace")

    def _say(self, text: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("ascii"), 0)

    def release(self) -> None:
        """Let the next one in; the file stays, for removing it would let two in. Twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def prepare(state_dir: Path, *, create: bool) -> None:
    """Make the directory if `create`; StorageError if it is missing or not a directory."""
    if create:
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{state_dir}: cannot be made the state directory: {error.strerror}"
            ) from error
    if not state_dir.is_dir():
        raise DatabaseRefused(f"{state_dir}: there is no such directory: start `driftd serve` with it first")


def check_file(path: Path) -> bool:
    """Whether there is a database file; DatabaseRefused if what is there cannot be one, or if only its WAL is left."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        leftover = wal_of(path)
        if leftover.exists():
            raise DatabaseRefused(
                f"{path}: missing, but {leftover.name} is there: put the database back, or move the rest away to start anew"
            ) from None
        return False
    except OSError as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error.strerror}") from error
    if len(head) < 100:
        raise DatabaseRefused(f"{path}: truncated ({len(head)} bytes): restore a backup")
    if not head.startswith(_MAGIC):
        raise DatabaseRefused(
            f"{path}: not an SQLite database: restore a backup, or choose another state directory"
        )
    return True


def wal_of(path: Path) -> Path:
    """Where SQLite keeps the write-ahead log of that database."""
    return path.with_name(path.name + "-wal")


def check_wal(path: Path) -> None:
    """DatabaseRefused if the WAL is gone that a daemon which did not end by itself left its last commits in."""
    wal = wal_of(path)
    if not wal.exists():
        raise DatabaseRefused(
            f"{path}: {wal.name} is missing, and with it what was committed last: put it back, or remove {LOCK} to go on without"
        )


def create_database(path: Path, upgrade: Callable[[Path], None]) -> None:
    """Make an empty database next to `path`, let `upgrade` fill in the schema, and rename it into place."""
    unfinished = path.with_name(_UNFINISHED)
    for leftover in (unfinished, unfinished.with_name(unfinished.name + "-journal")):
        leftover.unlink(missing_ok=True)
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        raw = connect(unfinished, mode="rw")
        try:
            raw.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        finally:
            raw.close()
        upgrade(unfinished)
        sync_file(unfinished)
        unfinished.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be created: {error.strerror}") from error


def check_content(path: Path) -> None:
    """DatabaseRefused if SQLite finds damage or cannot write, or if the database is somebody else's.

    On a plain connection, before any pragma that would change the file.
    """
    if not os.access(path, os.W_OK):
        raise DatabaseRefused(f"{path}: not writable for this user: give driftd the file and its directory")
    try:
        raw = connect(path, mode="rw")
        try:
            (application,) = raw.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise DatabaseRefused(
                    f"{path}: an SQLite database, but not one of driftd: choose another state directory"
                )
            # BEGIN IMMEDIATE alone passes on a file that was opened read-only for want of permission.
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("PRAGMA user_version = 0")
            raw.execute("ROLLBACK")
            small = path.stat().st_size <= _FULL_CHECK_BYTES
            found = raw.execute("PRAGMA quick_check(1)").fetchone()[0] if small else "ok"
        finally:
            raw.close()
    except sqlite3.Error as error:
        raise refusal(path, translate(error)) from error
    if found != "ok":
        raise DatabaseRefused(f"{path}: damaged ({found.splitlines()[-1]}): restore a backup")


def refusal(path: Path, error: StorageError) -> DatabaseRefused:
    """What SQLite said while the file was opened, with the file's name and what to do."""
    if isinstance(error, StorageBusy):
        return DatabaseRefused(f"{path}: {error}: another program has it open for writing, stop that first")
    return DatabaseRefused(f"{path}: {error}: make the file and its directory writable, or restore a backup")


def copy_database(source: Path, target: Path) -> int:
    """Write a consistent, compact copy of a database in use to `target`, which must not exist; returns its bytes.

    VACUUM INTO does not sync what it writes, so the copy gets its name only after that was done.
    """
    if target.exists():
        raise StorageError(f"{target}: exists already: choose another name for the backup")
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        raw = connect(source, mode="ro")
        try:
            raw.execute("VACUUM INTO ?", (str(partial),))
        finally:
            raw.close()
        sync_file(partial)
        partial.rename(target)
        sync_directory(target.parent)
        return target.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{target}: the backup failed: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """What was written to the file is on disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """The names in the directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
