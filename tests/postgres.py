"""A real PostgreSQL from the installed binaries, in a directory of its own, on loopback, for as long as the tests run."""

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.components import missing
from tests.ports import reserved_port

on_both = pytest.mark.parametrize("where", ["sqlite", "postgresql"], indirect=True)
"""Runs a test that has its database from `where` on both engines in the default suite."""

BINARIES = Path("/usr/lib/postgresql")
UNSAFE_BUT_FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


class Server:
    """One PostgreSQL server; `stop` and `start` it at will."""

    def __init__(self, *, durable: bool) -> None:
        """`durable` leaves fsync on, as in production; without it the server is made for many short tests."""
        self._bin = _binaries()
        self._user = _unprivileged()
        self.directory = Path(tempfile.mkdtemp(prefix="driftd-pg-"))
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self.port = reserved_port()
        self._options = () if durable else UNSAFE_BUT_FAST
        self._names = itertools.count(1)
        self._lock = threading.Lock()
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def start(self) -> None:
        """Start and wait until connections are taken."""
        settings = " ".join(
            (f"-p {self.port} -k {self.directory} -h 127.0.0.1 -c max_connections=100", *self._options)
        )
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", settings, "-w", "-s", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop; `immediate` is a crash, which the next start recovers from."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "-s", "stop")

    def remove(self) -> None:
        """Stop for good and delete everything."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, *, port: int | None = None) -> str:
        """The address of a database, with a password in it, which nobody checks and nobody may ever see."""
        return f"postgresql://postgres:s3cret-pass@127.0.0.1:{port or self.port}/{database}"

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser; the rows of the last one."""
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            for statement in statements:
                cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str | None = None) -> str:
        """A new database, a copy of `template` if given; its name."""
        name = f"t{next(self._names)}"
        quickest = " STRATEGY FILE_COPY" if int(self._bin.parent.name) >= 15 else ""
        self.run(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}{quickest}" if template else ""))
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl's child keeps what it inherits open, so nothing may be a pipe.
        with (self.directory / "output").open("ab") as output:
            subprocess.run(
                [*_as(self._user), str(self._bin / program), *arguments],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                timeout=60,
            )


@contextlib.contextmanager
def running(*, durable: bool) -> Iterator[Server]:
    """A server for the block; skips the test where there are no binaries, fails it in CI."""
    if not list(BINARIES.glob("*/bin/initdb")):
        missing(f"PostgreSQL is not installed in {BINARIES}")
    server = Server(durable=durable)
    try:
        yield server
    finally:
        server.remove()


def _binaries() -> Path:
    return max(BINARIES.glob("*/bin"), key=lambda path: float(path.parent.name))


def _unprivileged() -> str | None:
    """The user PostgreSQL runs as: it refuses to be root's."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as(user: str | None) -> list[str]:
    return (
        []
        if user is None
        else ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
    )
