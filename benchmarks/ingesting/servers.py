"""Server processes: started, waited for, measured through /proc, stopped."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.ingesting.bodies import MODEL, VERSION, Body
from benchmarks.ingesting.client import Answers, Load
from detectors.codec import encode_baseline
from detectors.counts import Baseline

PATH: Final = f"/v1/models/{MODEL}/predictions"
_ROOT: Final = Path(__file__).resolve().parents[2]
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A load without the server it is for."""

    requests: int
    prefix: str
    connections: int = 16
    rate: float | None = None
    seconds: float | None = None
    path: str = PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A process that listens on `port` and keeps its rows in `database`."""

    process: subprocess.Popen[bytes]
    port: int
    database: Path

    def cpu_seconds(self) -> float:
        """What all its threads have used so far, in user and system mode."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def resident_bytes(self) -> int:
        """Its resident memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def disk_bytes(self) -> int:
        """The database, its log included."""
        return sum(file.stat().st_size for file in self.database.parent.glob(f"{self.database.name}*"))

    def query(self, sql: str) -> int:
        """One number, read beside the server."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as conn:
            return int(conn.execute(sql).fetchone()[0])

    def send(self, body: Body, folder: Path, load: Plan) -> Answers:
        """Run the client process to its end."""
        return json_answers(self.start_client(body, folder, load))

    def start_client(self, body: Body, folder: Path, load: Plan) -> subprocess.Popen[bytes]:
        """Start the client process."""
        file = folder / f"{load.prefix}.body"
        file.write_bytes(body.data)
        whole = Load(
            port=self.port,
            path=load.path,
            headers=body.headers,
            body=str(file),
            requests=load.requests,
            connections=load.connections,
            prefix=load.prefix,
            rate=load.rate,
            seconds=load.seconds,
        )
        client = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ingesting.client"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert client.stdin is not None
        client.stdin.write(json.dumps(asdict(whole)).encode())
        client.stdin.close()
        client.stdin = None
        return client

    def drain(self) -> None:
        """Wait until every committed batch is folded."""
        self.until(lambda: self.query("SELECT count(*) FROM batches WHERE folded = 0") == 0, "the fold")

    @staticmethod
    def until(true: Callable[[], bool], what: str) -> None:
        """Wait for something; RuntimeError that names it after two minutes."""
        _until(true, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a daemon is configured beyond its address."""

    storage: Mapping[str, str] = field(default_factory=dict)
    model: str = ""


def json_answers(client: subprocess.Popen[bytes]) -> Answers:
    """What a client process says at its end."""
    output, _ = client.communicate()
    if client.returncode:
        raise RuntimeError(f"the client ended with {client.returncode}")
    return Answers(**json.loads(output))


@contextlib.contextmanager
def daemon(folder: Path, baselines: Mapping[str, Baseline], setting: Setting) -> Iterator[Server]:
    """`driftd serve` on a new state directory, with a baseline per model."""
    port = _free_port()
    state = folder / "state"
    lines = ["[server]", f'bind = "127.0.0.1:{port}"', "[storage]", f'state_dir = "{state}"']
    lines += [f'{name} = "{value}"' for name, value in setting.storage.items()]
    config = folder / "driftd.toml"
    config.write_text("\n".join([*lines, setting.model]) + "\n", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("driftd")), "--config", str(config), "serve"]
    with _running(command, folder) as process:
        _until(lambda: _answers(port, "/readyz"), "the daemon")
        for model, baseline in baselines.items():
            _put(port, f"/v1/models/{model}/versions/{VERSION}/baseline", encode_baseline(baseline))
        yield Server(process=process, port=port, database=state / "driftd.db")


@contextlib.contextmanager
def naive(folder: Path) -> Iterator[Server]:
    """The naive server on a new database."""
    port, database = _free_port(), folder / "naive.db"
    command = [sys.executable, "-m", "benchmarks.ingesting.naive", str(port), str(database)]
    with _running(command, folder) as process:
        _until(lambda: _answers(port, "/openapi.json"), "the naive server")
        yield Server(process=process, port=port, database=database)


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not get ready within {_PATIENCE_SECONDS:g} s")
        time.sleep(0.05)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _put(port: int, path: str, data: bytes) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request, timeout=30):
        pass


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
