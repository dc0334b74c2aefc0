"""A whole daemon without threads: real service, real SQLite, a clock that stands still, the API in this process."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette

from alerts.identity import AlertKind, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from detectors.codec import encode_baseline
from detectors.profile import Baseline
from monitor.api.application import create_app
from monitor.api.inprocess import InProcessReply, ask
from monitor.app import Service
from monitor.clock import ManualClock
from monitor.config import parse
from monitor.episodes import AlertBook
from storage.engine import Connection, Database
from tests.monitor import frames
from tests.states import new_state

START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Heard:
    """What a loopback receiver was sent: headers and bodies, in order.

    `status` and `reply` are what it answers, after `pause` seconds.
    """

    url: str = ""
    status: int = 200
    reply: bytes = b""
    pause: float = 0.0
    posts: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    def bodies(self) -> list[dict[str, Any]]:
        """The bodies as JSON."""
        return [json.loads(body) for _, body in self.posts]


@contextmanager
def listener() -> Iterator[Heard]:
    """An HTTP receiver on loopback."""
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.posts.append((dict(self.headers.items()), body))
            if heard.pause:
                threading.Event().wait(heard.pause)
            self.send_response(heard.status)
            self.send_header("Content-Length", str(len(heard.reply)))
            self.end_headers()
            self.wfile.write(heard.reply)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class says so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    heard.url = f"http://127.0.0.1:{server.server_port}/hook/s3cret-path"
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass(slots=True, kw_only=True)
class Harness:
    """One daemon under test."""

    service: Service
    clock: ManualClock
    app: Starlette
    state_dir: Path

    def ask(
        self, method: str, target: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> InProcessReply:
        """One request; a body that is not bytes goes as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        media = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
        return ask(self.app, method, target, body=raw, headers={**media, **(headers or {})})

    def json(self, method: str, target: str, body: Any = None, *, status: int = 200) -> Any:
        """The decoded answer, whose status must be `status`."""
        reply = self.ask(method, target, body)
        assert reply.status == status, reply.body
        return json.loads(reply.body)

    def put_baseline(self, baseline: Baseline, model: str = "m", version: str = "1") -> Any:
        """Register a baseline over the API."""
        reply = self.ask(
            "PUT",
            f"/v1/models/{model}/versions/{version}/baseline",
            encode_baseline(baseline),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def post_rows(self, seed: int, n: int, at: datetime, *, shift: float = 0.0, spread: int = 300) -> None:
        """Predictions of `spread` seconds from `at` on."""
        values = frames.rows(seed, n, shift=shift)
        start = int(at.timestamp())
        times = [(start + spread * i // n) * 10**9 for i in range(n)]
        columns = {"temp": np.asarray(values["temp"], float).tolist(), "carrier": values["carrier"].tolist()}
        confidence = np.asarray(values["confidence"], float).tolist()
        body = {"model_version": "1", "ts": times, "columns": columns, "confidence": confidence}
        reply = self.ask("POST", "/v1/models/m/predictions", body)
        assert reply.status == 200, reply.body
        assert json.loads(reply.body)["accepted"] == n

    def traffic(self, start: datetime, hours: int, *, shift: float = 0.0, rows: int = 720) -> None:
        """Hours of traffic as it happens: a batch of `rows` at the end of each, then the loop looks."""
        for hour in range(hours):
            at = start + timedelta(hours=hour)
            self.clock.advance_to(max(at + timedelta(hours=1), self.clock.now()))
            self.post_rows(int(at.timestamp()) % 2**31, rows, at, shift=shift, spread=3600)
            self.service.pipeline.run_once()

    def open_alert(self, labels: Mapping[str, str], *, window_seconds: int = 3600) -> int:
        """An alert that fires now, as an evaluation would have stored it."""
        now = self.clock.now()
        with self.service.database.read() as conn:
            book = AlertBook.load(conn, labels.get("model", ""))
        evidence = {
            "detector": "ks",
            "window_seconds": window_seconds,
            "statistic": 0.4,
            "threshold": 0.2,
            "rows": 500,
            "baseline_rows": 4000,
            "evidence": 2.0,
        }
        shown = {"summary": "median 1 → 2", "effect": 2.0, "evidence": evidence}
        book.observe(labels, Condition.TRUE, LifecycleRule(), now, shown)

        def write(conn: Connection) -> None:
            self.service.notifier.announce(conn, book.write(conn, now), now)

        self.service.database.write(write).result()
        opened = book.find(labels)
        assert opened is not None
        assert opened.id is not None
        return opened.id


def drift_labels(column: str = "temp") -> dict[str, str]:
    """The identity of drift of one column of version 1 of model `m`."""
    return alert_labels(AlertKind.FEATURE_DRIFT, "m", "1", "", column)


@contextmanager
def harness(tmp_path: Path, text: str = "", *, url: str = "", storage: str = "") -> Iterator[Harness]:
    """A daemon that is not started, with a webhook receiver `ops` at `url`, quarter-hour panes, and `text` added.

    `storage` is added to the section of that name.
    """
    config = f"""
        [server]
        public_url = "https://drift.example"
        [storage]
        state_dir = "{tmp_path}/state"
        {storage}
        [defaults]
        pane = "15m"
        evidence_block = "15m"
        windows = ["1h", "6h"]
        {text}
    """
    if url:
        config += f'\n[receivers.ops]\ntype = "webhook"\nurl = "{url}"\nallow_private = true\n'
    parsed = parse(config)
    clock = ManualClock(START)
    database = Database.open(new_state(parsed.storage.state_dir))
    service = Service(parsed, database, clock=clock)
    try:
        yield Harness(
            service=service, clock=clock, app=create_app(service), state_dir=parsed.storage.state_dir
        )
    finally:
        service.stop()
