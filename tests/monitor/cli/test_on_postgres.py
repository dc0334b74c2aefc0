"""The commands where the database is on PostgreSQL: they open it themselves, whether daemons run or not."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.clock import ManualClock
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.cli.test_operating import done, run
from tests.monitor.world import MODEL, World
from tests.postgres import Server


@pytest.fixture
def url(postgres_server: Server, postgres_database: str) -> str:
    return postgres_server.url(postgres_database)


@pytest.fixture
def config(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DRIFTD_CONFIG", "DRIFTD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "url").write_text(url + "\n")
    path = tmp_path / "d.toml"
    path.write_text('[storage]\nurl_file = "url"\n')
    return path


def test_status_tells_whether_any_daemon_lives(config: Path, url: str) -> None:
    world = World(Address(url), clock=ManualClock(datetime.now(UTC)))
    world.register(frames.baseline())
    world.look()
    found = json.loads(done("status", "-c", config, "--json"))
    assert (found["running"], found["database"]) == (True, "ok")
    assert [model["name"] for model in found["models"]] == [MODEL]
    world.service.membership.leave()
    world.close()
    assert "no daemon runs" in done("status", "-c", config)


def test_a_command_and_a_daemon_work_on_the_database_at_the_same_time(config: Path, url: str) -> None:
    world = World(Address(url), clock=ManualClock(datetime.now(UTC)))
    until = timedelta(hours=1)
    done("silence", "add", "--model", MODEL, "--for", "1h", "--comment", "known", "-c", config)
    world.clock.advance(until / 2)
    world.look()
    assert MODEL in done("silence", "list", "-c", config)
    world.close()


def test_a_backup_is_postgresqls_own(config: Path, tmp_path: Path) -> None:
    result = run("db", "backup", "-c", config, tmp_path / "copy")
    assert result.exit_code == 1
    assert "pg_dump" in result.output
    assert not (tmp_path / "copy").exists()


def test_what_is_in_the_way_is_one_line_without_the_address(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text("postgresql://driftd:s3cret-pass@127.0.0.1:1/driftd\n")
    result = run("serve", "-c", config)
    assert result.exit_code == 1
    assert "PostgreSQL database driftd on 127.0.0.1:1: " in result.output
    monkeypatch.setitem(sys.modules, "psycopg", None)
    missing = run("status", "-c", config)
    assert (missing.exit_code, missing.output.count("\n")) == (1, 1)
    assert "pip install 'driftd[postgres]'" in missing.output
    for shown in (result.output, missing.output):
        assert "s3cret-pass" not in shown
