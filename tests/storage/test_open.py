"""What `Database.open` refuses, in one line each and without touching the file; and what it makes ready."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from storage import models
from storage.engine import Database
from storage.errors import DatabaseRefused, SchemaTooNew, StateDirectoryInUse, StorageError
from storage.sqlite import APPLICATION_ID, PAGE_BYTES, has_wal_reset_bug
from tests.states import new_state
from tests.storage.conftest import START


@pytest.fixture
def where(state_dir: Path) -> Path:
    """The file is what these tests are about."""
    return state_dir


def refuse(state_dir: Path, kind: type[StorageError], saying: str) -> None:
    """Opening fails with one line that names the file, twice, and changes nothing in the directory."""
    before = {p.name: p.read_bytes() for p in state_dir.iterdir() if p.suffix == ".db"}
    for _ in range(2):
        with pytest.raises(kind) as refused:
            Database.open(state_dir)
        message = str(refused.value)
        assert saying in message
        assert str(state_dir) in message
        assert "\n" not in message
    assert {p.name: p.read_bytes() for p in state_dir.iterdir() if p.suffix == ".db"} == before


def test_a_new_state_directory_is_private_and_ready(tmp_path: Path) -> None:
    state_dir = tmp_path / "var" / "lib" / "driftd"
    with Database.open(state_dir) as database:
        assert database.healthy
        assert database.sqlite_version == sqlite3.sqlite_version
        with database.read() as conn:
            assert conn.exec_driver_sql("PRAGMA page_size").scalar_one() == PAGE_BYTES
            assert conn.exec_driver_sql("PRAGMA application_id").scalar_one() == APPLICATION_ID
            assert conn.exec_driver_sql("PRAGMA mmap_size").scalar() in (0, None)
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        for name in ("driftd.db", "driftd.db-wal", "driftd.lock"):
            assert stat.S_IMODE((state_dir / name).stat().st_mode) == 0o600
    assert sorted(p.name for p in state_dir.iterdir()) == ["driftd.db", "driftd.lock"]


def test_the_writing_connection_is_durable_and_checks_references(database: Database) -> None:
    def pragmas(conn: object) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "journal_size_limit", "busy_timeout")
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]  # type: ignore[attr-defined]  # a Connection

    assert database.write(pragmas).result(10) == ["wal", 2, 1, 64 * 1024 * 1024, 5000]


def test_what_was_written_is_there_after_reopening(state_dir: Path) -> None:
    with Database.open(state_dir) as database:
        written = database.write(lambda conn: models.ensure_model(conn, "credit", now=START)).result(10)
    with Database.open(state_dir, create=False) as database, database.read() as conn:
        assert models.get_model(conn, "credit") == written


def test_a_crash_before_the_first_database_was_complete_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "driftd.db.new").write_bytes(b"half of a page")
    Database.open(tmp_path).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["driftd.db", "driftd.lock"]


def test_garbage_is_refused(state_dir: Path) -> None:
    (state_dir / "driftd.db").write_bytes(os.urandom(200_000))
    refuse(state_dir, DatabaseRefused, "not an SQLite database")


def test_an_emptied_file_is_refused(state_dir: Path) -> None:
    os.truncate(state_dir / "driftd.db", 0)
    refuse(state_dir, DatabaseRefused, "truncated (0 bytes): restore a backup")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(state_dir: Path, share: float) -> None:
    path = state_dir / "driftd.db"
    os.truncate(path, int(path.stat().st_size * share))
    refuse(state_dir, DatabaseRefused, "driftd.db: ")


def test_a_damaged_page_is_refused(state_dir: Path) -> None:
    path = state_dir / "driftd.db"
    with path.open("r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    refuse(state_dir, DatabaseRefused, "restore a backup")


def test_a_newer_schema_is_refused(state_dir: Path) -> None:
    with sqlite3.connect(state_dir / "driftd.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    raw.close()
    refuse(state_dir, SchemaTooNew, "schema 0999 was written by a newer driftd")


def test_somebody_elses_database_is_refused(state_dir: Path) -> None:
    (state_dir / "driftd.db").unlink()
    with sqlite3.connect(state_dir / "driftd.db") as raw:
        raw.execute("CREATE TABLE accounts (id INTEGER)")
    raw.close()
    refuse(state_dir, DatabaseRefused, "not one of driftd")


def test_a_database_that_vanished_from_beside_its_wal_is_not_replaced(state_dir: Path) -> None:
    (state_dir / "driftd.db").unlink()
    (state_dir / "driftd.db-wal").write_bytes(b"the last commits")
    refuse(state_dir, DatabaseRefused, "missing, but driftd.db-wal is there")
    assert (state_dir / "driftd.db-wal").read_bytes() == b"the last commits"


def test_a_wal_that_vanished_after_a_crash_is_missed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from storage.engine import Database; "
        "Database.open(Path(sys.argv[1])).probe(); os._exit(9)"
    )
    for _ in range(2):  # crash upon crash: the mark outlives a start that found the WAL
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    wal = tmp_path / "driftd.db-wal"
    kept = wal.read_bytes()
    wal.unlink()
    for _ in range(2):
        refuse(tmp_path, DatabaseRefused, "driftd.db-wal is missing, and with it what was committed last")
    wal.write_bytes(kept)
    Database.open(tmp_path).close()
    wal.unlink(missing_ok=True)
    Database.open(tmp_path).close()


def test_a_start_that_is_killed_after_it_took_in_the_wal_leaves_a_database_that_opens(tmp_path: Path) -> None:
    """The check of what a crash left behind brings the WAL home and removes it; only then the daemon opens its own."""
    crashes = "import os, sys; from pathlib import Path; from storage.engine import Database; "
    after_commits = crashes + "Database.open(Path(sys.argv[1])).probe(); os._exit(9)"
    while_starting = (
        crashes
        + "import storage.filestore; storage.filestore.write_engine = lambda _: os._exit(9); Database.open(Path(sys.argv[1]))"
    )
    for script in (after_commits, while_starting, while_starting):
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert not (tmp_path / "driftd.db-wal").exists()
    Database.open(tmp_path).close()


def test_a_second_daemon_is_refused_until_the_first_has_closed(state_dir: Path) -> None:
    with Database.open(state_dir) as first:
        with pytest.raises(
            StateDirectoryInUse, match=f"in use by another driftd \\(process {os.getpid()}\\)"
        ):
            Database.open(state_dir)
        assert first.write(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one()).result(10) == 1
    Database.open(state_dir).close()


def test_without_create_a_missing_database_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatabaseRefused, match=r"start `driftd serve`"):
            Database.open(directory, create=False)
        with pytest.raises(DatabaseRefused, match=r"start `driftd serve`"):
            Database.open_readonly(directory)
    assert list(tmp_path.iterdir()) == [tmp_path / "driftd.lock"]


def open_as_nobody(state_dir: Path) -> str:
    """What a child with another user id says when it opens the directory; permissions do not bind root itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "opened"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            Database.open(state_dir)
        except BaseException as error:  # a forked child must never return into pytest
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize(
    ("directory_mode", "file_mode"),
    [(0o755, 0o644), (0o777, 0o444), (0o777, 0o000)],
    ids=["directory", "file", "unreadable"],
)
def test_read_only_files_are_refused(directory_mode: int, file_mode: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a child as somebody else")
    root = Path(tempfile.mkdtemp(prefix="driftd-test-"))
    try:
        root.chmod(0o755)
        state_dir = new_state(root / "state")
        (state_dir / "driftd.lock").chmod(0o666)
        (state_dir / "driftd.db").chmod(file_mode)
        state_dir.chmod(directory_mode)
        said = open_as_nobody(state_dir)
        assert said.startswith("DatabaseRefused: ")
        assert f"{state_dir}/driftd.db: " in said
        assert "\n" not in said
        assert {p.name for p in state_dir.iterdir()} == {"driftd.db", "driftd.lock"}
    finally:
        shutil.rmtree(root)


def test_a_reader_beside_the_daemon_sees_its_writes_and_cannot_write(
    database: Database, state_dir: Path
) -> None:
    with Database.open_readonly(state_dir) as reader:
        database.write(lambda conn: models.ensure_model(conn, "credit", now=START)).result(10)
        with reader.read() as conn:
            assert [model.name for model in models.list_models(conn)] == ["credit"]
            with pytest.raises(StorageError, match="readonly database"):
                models.ensure_model(conn, "other", now=START)


def test_a_reader_without_a_daemon_neither_locks_nor_checkpoints(state_dir: Path) -> None:
    with Database.open_readonly(state_dir) as reader, reader.read() as conn:
        assert models.list_models(conn) == []
        with Database.open(state_dir) as database:
            database.write(lambda writing: models.ensure_model(writing, "credit", now=START)).result(10)
        # The daemon left while somebody read: its commits stay in the WAL, and the reader must leave them there.
        assert models.list_models(conn) == []
    assert (state_dir / "driftd.db-wal").stat().st_size > 0
    with Database.open(state_dir) as database, database.read() as conn:
        assert [model.name for model in models.list_models(conn)] == ["credit"]


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, int, int], affected: bool) -> None:
    assert has_wal_reset_bug(version) is affected
