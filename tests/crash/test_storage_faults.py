"""A disk that fails under a real daemon: nothing is acknowledged, alerts go out, and it heals without a restart."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from detectors.codec import encode_baseline
from tests.components import require_program
from tests.crash.lives import driven, telling
from tests.crash.test_kill import BASELINE, check
from tests.monitor import frames
from tests.monitor.cli.test_daemon import DRIFTD, Daemon, daemon
from tests.monitor.harness import Heard, listener

PATIENCE_SECONDS = 60
NOTHING_STORED = "driftd: nothing can be stored"


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as found:
        yield found


def until(condition: Callable[[], object]) -> None:
    """Poll what another process does; a test that waits for it for a minute has failed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        threading.Event().wait(0.05)


def put_baseline(served: Daemon) -> None:
    media = "application/octet-stream"
    status, _ = served.ask("PUT", "/v1/models/credit/versions/1/baseline", encode_baseline(BASELINE), media)
    assert status == 200


def post(served: Daemon, key: str, rows: int = 400) -> tuple[int, Any]:
    values = frames.rows(len(key), rows)
    body = {
        "id": key,
        "model_version": "1",
        "ts": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
        "columns": {
            "temp": values["temp"].astype(float).round(1).tolist(),
            "carrier": values["carrier"].tolist(),
        },
        "confidence": values["confidence"].astype(float).round(2).tolist(),
    }
    return served.ask("POST", "/v1/models/credit/predictions", json.dumps(body).encode())


def told(heard: Heard) -> list[tuple[str, str]]:
    return [(body["status"], body["driftd"]["title"]) for body in heard.bodies()]


@contextlib.contextmanager
def failing_fsync(process: int) -> Iterator[None]:
    """Every fsync of the process fails with EIO while the block lasts, as on a dying disk."""
    strace = require_program("strace")
    command = [
        strace,
        "-f",
        "-p",
        str(process),
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:error=EIO",
    ]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"this system does not let processes be traced: {line.strip()}")
        drain = threading.Thread(target=_drain, args=(tracer.stderr,), daemon=True)
        drain.start()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        tracer.stderr.close()


def _drain(stream: IO[str]) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for _ in stream:
            pass


@contextlib.contextmanager
def limited_files(process: int, wal: Path) -> Iterator[None]:
    """No file of the process may grow, as under a quota."""
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))


def refused_and_told(served: Daemon, heard: Heard, key: str, rows: int) -> None:
    """While the store fails: no batch is acknowledged, and the receiver hears of it once."""
    before = len(heard.posts)

    def refused() -> bool:
        status, _ = post(served, key, rows)
        assert status == 503
        return len(heard.posts) > before

    until(refused)
    for _ in range(5):
        assert post(served, key, rows)[0] == 503
    assert told(heard)[before:] == [("firing", NOTHING_STORED)]
    assert served.ask("GET", "/readyz")[0] == 503


def healed(served: Daemon, heard: Heard, key: str, rows: int) -> int:
    """The same process takes the very batch, and says that it is over; returns rows accepted."""
    before = len(heard.posts)
    status, answer = post(served, key, rows)
    assert (status, answer["duplicate"]) == (200, False)
    until(lambda: len(heard.posts) > before)
    assert told(heard)[before:] == [("resolved", NOTHING_STORED)]
    until(lambda: served.ask("GET", "/readyz")[0] == 200)
    return int(answer["accepted"])


def test_failing_fsyncs_and_files_that_may_not_grow(tmp_path: Path, heard: Heard) -> None:
    config = telling(tmp_path, heard.url)
    # And its log goes nowhere, all the time.
    launcher = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *driven())
    acknowledged = {}
    with daemon(tmp_path, config, launcher) as served:
        put_baseline(served)
        status, answer = post(served, "before")
        assert status == 200
        acknowledged["before"] = answer["accepted"]
        with failing_fsync(served.process.pid):
            refused_and_told(served, heard, "after-fsync", 400)
        acknowledged["after-fsync"] = healed(served, heard, "after-fsync", 400)
        with limited_files(served.process.pid, tmp_path / "state" / "driftd.db-wal"):
            refused_and_told(served, heard, "after-quota", 60_000)
        acknowledged["after-quota"] = healed(served, heard, "after-quota", 60_000)
        assert len({headers["webhook-id"] for headers, _ in heard.posts}) == len(heard.posts) == 4
        assert served.stop()[0] == 0
    check(tmp_path, tmp_path / "state", acknowledged)


def test_a_disk_that_others_fill(tmp_path: Path, heard: Heard) -> None:
    unshare = require_program("unshare")
    if subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no mount namespaces for users")
    config = telling(tmp_path, heard.url)
    state = tmp_path / "state"
    state.mkdir()
    # Its stderr is closed, all the time.
    mount = 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@" 2>&-'
    with daemon(tmp_path, config, (unshare, "-rm", "sh", "-c", mount, str(state), *driven())) as served:
        inside = Path(f"/proc/{served.process.pid}/root{state}")
        put_baseline(served)
        assert post(served, "before")[0] == 200
        filler = inside / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        assert os.statvfs(inside).f_bavail == 0
        refused_and_told(served, heard, "after", 4000)
        filler.unlink()
        healed(served, heard, "after", 4000)
        # With the last megabyte free it is not taken either: what alerts need is kept for them.
        free = os.statvfs(inside)
        filler.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - 512 * 1024))
        status, answer = post(served, "kept", 400)
        assert status == 503
        assert "kept for alerts" in answer["detail"]
        until(lambda: len(heard.posts) == 3)
        [alert] = served.ask("GET", "/v1/alerts")[1]["alerts"]
        assert (alert["kind"], alert["state"]) == ("storage_failing", "firing")
        filler.unlink()
        healed(served, heard, "kept", 400)
        assert len({headers["webhook-id"] for headers, _ in heard.posts}) == len(heard.posts) == 4
        assert served.stop()[0] == 0


def test_a_database_that_must_not_be_opened_ends_the_start_in_one_line(tmp_path: Path, heard: Heard) -> None:
    config = telling(tmp_path, heard.url)
    database = tmp_path / "state" / "driftd.db"
    database.parent.mkdir()
    database.write_bytes(os.urandom(100_000))
    before = database.read_bytes()
    refused = subprocess.run(
        [DRIFTD, "serve", "--config", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"driftd: {database}: not an SQLite database")
    assert database.read_bytes() == before
