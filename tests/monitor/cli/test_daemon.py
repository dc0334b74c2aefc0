"""The installed daemon as a process: it says where it listens, stores, stops cleanly, and remembers."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from detectors.codec import encode_baseline
from tests.monitor import frames
from tests.ports import reserved_port

DRIFTD = Path(sys.executable).with_name("driftd")
TOKEN = "all-may-pass"


class Daemon:
    """A running `driftd serve`, and how to speak to it."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def ask(
        self, method: str, path: str, body: bytes = b"", media: str = "application/json"
    ) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": media}
            connection.request(method, path, body=body, headers=headers)
            reply = connection.getresponse()
            assert reply.headers.get("Server") is None
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what was logged after READY."""
        self.process.send_signal(by)
        _, logged = self.process.communicate(timeout=30)
        return self.process.returncode, logged


class DiedAtStart(Exception):
    """The process ended before it was ready; its exit code, and what it said."""


def _ready(manager: socket.socket, process: "subprocess.Popen[str]") -> str:
    """What the daemon says of itself once it is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            return manager.recv(4096).decode()
        if process.poll() is not None:
            assert process.stderr is not None
            raise DiedAtStart(process.returncode, process.stderr.read())
    raise TimeoutError("it never became ready")


@contextmanager
def launched(
    tmp_path: Path, config: Path, launcher: Sequence[str | Path] = (DRIFTD, "serve")
) -> Iterator[Callable[[], Daemon]]:
    """A daemon that starts; the function waits until it has said READY=1 to the service manager, which is us."""
    address = str(tmp_path / "notify")
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(0.05)
        process = subprocess.Popen(
            [*launcher, "--config", config],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NOTIFY_SOCKET": address},
        )

        def started() -> Daemon:
            ready = _ready(manager, process)
            assert ready.startswith("READY=1\n")
            found = re.search(r"http://127\.0\.0\.1:(\d+)$", ready)
            assert found is not None
            return Daemon(process, int(found[1]))

        try:
            yield started
        finally:
            process.kill()
            process.wait(10)
            if process.stderr is not None:
                process.stderr.close()


@contextmanager
def daemon(
    tmp_path: Path, config: Path, launcher: Sequence[str | Path] = (DRIFTD, "serve")
) -> Iterator[Daemon]:
    """A daemon that has started."""
    with launched(tmp_path, config, launcher) as started:
        yield started()


def write_config(tmp_path: Path, port: int) -> Path:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    path = tmp_path / "driftd.toml"
    path.write_text(
        f"""
        [server]
        bind = "127.0.0.1:{port}"
        [storage]
        state_dir = "state"
        [[auth.tokens]]
        name = "all"
        sha256 = "{digest}"
        scopes = ["read", "operate", "ingest:*"]
        """
    )
    (tmp_path / "token").write_text(TOKEN + "\n")
    return path


def command(config: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [DRIFTD, *arguments, "--config", config, "--token-file", config.with_name("token")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_daemon_starts_stores_stops_and_remembers(tmp_path: Path) -> None:
    config = write_config(tmp_path, reserved_port())
    now = datetime.now(UTC).isoformat()
    batch = {
        "id": "b1",
        "model_version": "1",
        "ts": now,
        "columns": {"temp": [1.0] * 5, "carrier": ["UA"] * 5},
    }
    body = json.dumps(batch).encode()
    with daemon(tmp_path, config) as running:
        baseline = encode_baseline(frames.baseline())
        path = "/v1/models/m/versions/1/baseline"
        assert running.ask("PUT", path, baseline, "application/octet-stream")[0] == 200
        status, answer = running.ask("POST", "/v1/models/m/predictions", body)
        assert (status, answer["accepted"], answer["duplicate"]) == (200, 5, False)
        assert running.ask("GET", "/readyz") == (200, {"ok": True, "reasons": []})
        # The commands find the daemon at its address, because it holds the state directory.
        told = command(config, "status", "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["running"] is True
        listed = command(config, "baseline", "list", "--json")
        assert [b["model"] for b in json.loads(listed.stdout)] == ["m"]
        (tmp_path / "token").write_text("wrong\n")
        refused = command(config, "status")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
        assert "unknown or revoked" in refused.stderr
        code, logged = running.stop()
        assert code == 0
        assert re.search(rf"listens on http://127\.0\.0\.1:{running.port} \(process \d+\)", logged)
        assert logged.splitlines()[-1].endswith("driftd: stopped")
        assert "Traceback" not in logged
    with daemon(tmp_path, config) as running:
        status, answer = running.ask("POST", "/v1/models/m/predictions", body)
        assert (status, answer["duplicate"], answer["accepted"]) == (200, True, 5)
        model = running.ask("GET", "/v1/models/m")[1]["model"]
        assert model["last_arrival_at"] is not None
        assert running.stop(signal.SIGINT)[0] == 0


def test_a_second_daemon_is_refused_in_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path, 0)
    with daemon(tmp_path, config) as running:
        again = subprocess.run(
            [DRIFTD, "--config", config, "serve"], capture_output=True, text=True, timeout=60, check=False
        )
        assert again.returncode == 1
        assert again.stderr == (
            f"driftd: {tmp_path}/state: in use by another driftd (process {running.process.pid}): "
            "stop it, or choose another state directory\n"
        )
        busy = write_config(tmp_path, running.port)
        taken = subprocess.run(
            [DRIFTD, "serve", "--config", busy], capture_output=True, text=True, timeout=60, check=False
        )
        assert taken.returncode == 1
        assert "cannot listen there: Address already in use" in taken.stderr
        assert running.stop()[0] == 0


def test_a_running_daemon_reads_its_configuration_again_when_asked_or_hung_up_on(tmp_path: Path) -> None:
    config = write_config(tmp_path, reserved_port())
    good = config.read_text()
    receiver = '[receivers.hook]\ntype = "webhook"\nurl = "https://hook.example/x"\n'
    with daemon(tmp_path, config) as running:
        config.write_text(good + receiver + '[log]\nlevel = "debug"\n')
        told = command(config, "reload", "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout) == {"changed": ["receivers"], "needs_restart": ["log.level"]}
        config.write_text(good + receiver + "[nonsense]\n")
        running.process.send_signal(signal.SIGHUP)
        for _ in range(20):  # so many answers take longer than the thread that reads the file
            status, answer = running.ask("GET", "/v1/status")
        assert status == 200
        assert [found["name"] for found in answer["receivers"]] == ["hook"]
        code, logged = running.stop()
    assert code == 0
    assert "the configuration was not reloaded, the old one stays" in logged
    assert "nonsense: no such key" in logged
