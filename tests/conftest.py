"""Guards and fixtures for every test: loopback only, and a database of its own."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from storage.engine import Address, Database
from tests import postgres

# How long one example takes depends on who else uses the machine.
settings.register_profile("driftd", deadline=None)
settings.load_profile("driftd")

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")  # an address to compare with, not to bind


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address!r}; tests talk to loopback only")
        real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """One PostgreSQL for all tests that only need a database; it does not sync, so none may kill it."""
    with postgres.running(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Server) -> str:
    """A migrated, empty database to copy."""
    name = postgres_server.create()
    Database.open(Address(postgres_server.url(name))).close()
    return name


@pytest.fixture
def postgres_database(postgres_server: postgres.Server, postgres_template: str) -> Iterator[str]:
    """The name of a migrated, empty database of one test's own."""
    name = postgres_server.create(postgres_template)
    yield name
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Address:
    """Where a database of the test's own is; on PostgreSQL too in the long run, and where `on_both` says so."""
    if request.param == "sqlite":
        return tmp_path / "state"
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return Address(server.url(request.getfixturevalue("postgres_database")))
