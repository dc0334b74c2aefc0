"""Opening an SQLite database in a state directory: refused in one line, or locked, checked and migrated."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine

from storage import schema, statefile
from storage.errors import DatabaseRefused, StorageError
from storage.sqlite import FileLink, read_engine, write_engine
from storage.store import Store


def open_file(state_dir: Path, *, create: bool) -> Store:
    """`state_dir`/driftd.db for a daemon, making directory and database if they are missing and `create`.

    Raises StateDirectoryInUse, SchemaTooNew, DatabaseRefused or StorageError, each in one line with file and fix.
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
        if lock.died_with_wal:
            statefile.check_wal(path)
            # The check below brings what is in it home and removes it: from here on it may be missing.
            lock.clean()
        statefile.check_content(path)
        engine = write_engine(path)
        undo.callback(engine.dispose)
        with _naming(path), engine.connect() as conn, conn.begin():
            if not schema.check(conn, where=str(path)):
                schema.upgrade(conn)
        undo.pop_all()
    return _store(path, engine, lock)


def open_file_readonly(state_dir: Path) -> tuple[Engine, Callable[[Path], int]]:
    """The reading half alone, without a lock and without a migration, and how to make a backup."""
    statefile.prepare(state_dir, create=False)
    path = state_dir / statefile.DATABASE
    if not statefile.check_file(path):
        raise DatabaseRefused(f"{path}: there is no database yet: start `driftd serve` first")
    engine = read_engine(path)
    try:
        with _naming(path), engine.connect() as conn:
            check_current(conn, where=str(path))
    except StorageError:
        engine.dispose()
        raise
    return engine, partial(statefile.copy_database, path)


def check_current(conn: Connection, *, where: str) -> None:
    """DatabaseRefused unless the schema is the one this code works with."""
    if not schema.check(conn, where=where):
        raise DatabaseRefused(
            f"{where}: its schema is older than this driftd: start the daemon to migrate it"
        )


def _store(path: Path, engine: Engine, lock: statefile.DirectoryLock) -> Store:
    return Store(
        name=str(path),
        path=path,
        shared=False,
        link=FileLink(engine),
        readers=read_engine(path),
        backup=partial(statefile.copy_database, path),
        release=lock.release,
        opened=lock.mark,
        closing=lock.clean,
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever SQLite says against a file while it is opened becomes a refusal that names the file."""
    try:
        yield
    except DatabaseRefused:
        raise
    except StorageError as error:
        raise statefile.refusal(path, error) from error


def _upgrade_new(path: Path) -> None:
    engine = write_engine(path)
    try:
        with engine.connect() as conn, conn.begin():
            schema.upgrade(conn)
    finally:
        engine.dispose()
