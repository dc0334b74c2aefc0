"""kill -9 under load: what was acknowledged is there, once, whenever the daemon died."""

import contextlib
import json
import random
import signal
import threading
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, text

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import Profile, profile_rows
from monitor.ingest.batch import decode_payload
from monitor.ingest.frame import frame
from storage import batches, panes
from storage.engine import Connection, Database
from storage.tables import batches as batch_table
from storage.tables import payloads
from tests.monitor import frames
from tests.monitor.cli.test_daemon import Daemon, daemon, free_port

BASELINE = frames.baseline()
CONFIG = """
[server]
bind = "127.0.0.1:{port}"

[storage]
state_dir = "{state}"
"""
CLIENTS = 4


class Client(threading.Thread):
    """Posts batches until the daemon is gone; every id it got a 200 for is in `acknowledged`."""

    def __init__(self, served: Daemon, name: str, start: datetime) -> None:
        super().__init__(daemon=True)
        self._served, self._name, self._start = served, name, start
        self.acknowledged: dict[str, int] = {}

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for number in range(10_000):
                key = f"{self._name}-{number}"
                rows = 1 + number % 40
                status, answer = self._served.ask(
                    "POST", "/v1/models/credit/predictions", self._body(key, number, rows)
                )
                if status == 200:
                    self.acknowledged[key] = answer["accepted"]

    def _body(self, key: str, number: int, rows: int) -> bytes:
        values = frames.rows(number, rows)
        at = self._start + timedelta(seconds=number)
        body = {
            "id": key,
            "model_version": "1",
            "ts": at.isoformat(),
            "columns": {
                "temp": values["temp"].astype(float).round(1).tolist(),
                "carrier": values["carrier"].tolist(),
            },
            "confidence": values["confidence"].astype(float).round(2).tolist(),
        }
        return json.dumps(body).encode()


def killed_rounds(tmp_path: Path, rounds: int, seed: int) -> dict[str, int]:
    """Kill a loaded daemon `rounds` times; what all clients were acknowledged, by batch id."""
    port = free_port()
    config = tmp_path / "driftd.toml"
    config.write_text(CONFIG.format(port=port, state=tmp_path / "state"))
    rng = random.Random(seed)
    acknowledged: dict[str, int] = {}
    start = datetime.now(UTC) - timedelta(hours=1)
    for number in range(rounds):
        with daemon(tmp_path, config) as served:
            if number == 0:
                path = "/v1/models/credit/versions/1/baseline"
                media = "application/octet-stream"
                assert served.ask("PUT", path, encode_baseline(BASELINE), media)[0] in (200, 201)
            clients = [Client(served, f"r{number}c{client}", start) for client in range(CLIENTS)]
            for client in clients:
                client.start()
            # Not a wait for something to happen: the moment of death is what chance decides.
            threading.Event().wait(rng.uniform(0.05, 1.2))
            served.process.send_signal(signal.SIGKILL)
            served.process.wait(10)
            for client in clients:
                client.join(30)
                acknowledged |= client.acknowledged
    return acknowledged


def check(tmp_path: Path, acknowledged: dict[str, int]) -> None:
    """Every acknowledged batch is stored once; after one quiet start the counts equal a recount from raw rows."""
    with daemon(tmp_path, tmp_path / "driftd.toml") as served:
        while served.ask("GET", "/v1/status")[1]["waiting_batches"]:
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0
    with Database.open(tmp_path / "state") as database, database.read() as conn:
        assert conn.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        query = select(batch_table.c.batch_key, batch_table.c.accepted)
        stored = {row.batch_key: row.accepted for row in conn.execute(query)}
        assert {key: stored.get(key) for key in acknowledged} == acknowledged
        assert conn.execute(select(func.count()).select_from(batch_table)).scalar_one() == len(stored)
        counted = [
            decode_profile(BASELINE.layout, row.profile) for row in panes.window(conn, 1, "", 60, 0, 2**40)
        ]
        recount = _recount(conn)
    folded = Profile.merge([Profile.zeros(BASELINE.layout), *counted])
    assert folded.rows == sum(stored.values()) == recount.rows
    assert np.array_equal(folded.counts, recount.counts)


def _recount(conn: Connection) -> Profile:
    """Counts of every stored payload, none through a pane."""
    parts = [Profile.zeros(BASELINE.layout)]
    for (batch_id,) in conn.execute(select(payloads.c.batch_id)):
        batch = decode_payload(batches.get(conn, batch_id).payload)
        parts.append(profile_rows(BASELINE, frame([batch], BASELINE)))
    return Profile.merge(parts)


def test_nothing_acknowledged_is_lost_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    acknowledged = killed_rounds(tmp_path, rounds=4, seed=1)
    assert len(acknowledged) > 20
    check(tmp_path, acknowledged)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills(tmp_path: Path) -> None:
    acknowledged = killed_rounds(tmp_path, rounds=100, seed=2)
    check(tmp_path, acknowledged)
