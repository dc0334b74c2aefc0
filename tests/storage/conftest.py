"""A fresh database for every test, on either engine, and what it may hold to begin with."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from storage import baselines, models, postgres, sqlite
from storage.engine import Address, Database
from tests.postgres import Server
from tests.states import new_state

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """So many seconds after the tests' beginning."""
    return START + timedelta(seconds=seconds)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with a migrated, empty database that nobody has open."""
    return new_state(tmp_path / "state")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> Path | Address:
    """A migrated, empty database that nobody has open, on one engine and then on the other."""
    if request.param == "sqlite":
        found: Path = request.getfixturevalue("state_dir")
        return found
    server: Server = request.getfixturevalue("postgres_server")
    return Address(server.url(request.getfixturevalue("postgres_database")))


@pytest.fixture
def database(where: Path | Address) -> Iterator[Database]:
    with Database.open(where) as opened:
        yield opened


def writing(where: Path | Address) -> Engine:
    """An engine that writes beside no daemon."""
    if isinstance(where, Path):
        return sqlite.write_engine(where / "driftd.db")
    return postgres.write_engine(where)


@pytest.fixture
def conn(where: Path | Address) -> Iterator[Connection]:
    """A connection inside one write transaction, for what the aggregates' functions do."""
    engine = writing(where)
    with engine.connect() as connection, connection.begin():
        yield connection
    engine.dispose()


@pytest.fixture
def version_id(conn: Connection) -> int:
    """Version `v1` of the model `credit`."""
    model = models.ensure_model(conn, "credit", now=START)
    return models.ensure_version(conn, model.id, "v1", now=START).id


@pytest.fixture
def add_baseline(conn: Connection, version_id: int) -> Callable[[str], int]:
    def add(fingerprint: str) -> int:
        return baselines.add(
            conn,
            version_id=version_id,
            blob=b"profile " + fingerprint.encode(),
            fingerprint=fingerprint,
            source="training",
            rows=1000,
            pane_seconds=60,
            now=START,
        )

    return add


@pytest.fixture
def baseline_id(add_baseline: Callable[[str], int]) -> int:
    return add_baseline("a" * 64)
