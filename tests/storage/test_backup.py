"""A backup is one consistent file, made while the daemon goes on, and opens as a database of its own."""

import stat
from pathlib import Path

import pytest

from storage import models
from storage.engine import Database
from storage.errors import StorageError
from storage.sqlite import PAGE_BYTES
from tests.storage.conftest import START


@pytest.fixture
def where(state_dir: Path) -> Path:
    """The file is what these tests are about."""
    return state_dir


def test_a_backup_opens_and_holds_what_was_committed(database: Database, tmp_path: Path) -> None:
    written = database.write(lambda conn: models.ensure_model(conn, "credit", now=START)).result(10)
    other = tmp_path / "other"
    other.mkdir()
    size = database.backup(other / "driftd.db")
    assert size == (other / "driftd.db").stat().st_size
    assert stat.S_IMODE((other / "driftd.db").stat().st_mode) == 0o600
    assert [p.name for p in other.iterdir()] == ["driftd.db"]
    database.write(lambda conn: models.ensure_model(conn, "later", now=START)).result(10)
    with Database.open(other) as copy, copy.read() as conn:
        assert models.list_models(conn) == [written]
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert conn.exec_driver_sql("PRAGMA page_size").scalar_one() == PAGE_BYTES


def test_a_command_beside_the_daemon_can_make_one(
    database: Database, state_dir: Path, tmp_path: Path
) -> None:
    database.write(lambda conn: models.ensure_model(conn, "credit", now=START)).result(10)
    with Database.open_readonly(state_dir) as reader:
        assert reader.backup(tmp_path / "copy.db") > 0


def test_a_backup_replaces_no_file_and_leaves_no_half_of_one(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StorageError, match=r"copy\.db: exists already"):
        database.backup(target)
    assert target.read_text() == "precious"
    with pytest.raises(StorageError, match="the backup failed"):
        database.backup(tmp_path / "missing" / "copy.db")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.db", "state"]
