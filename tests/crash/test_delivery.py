"""kill -9 between deciding and telling: every transition arrives, under one id, in order, whenever the daemon died."""

import contextlib
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from alerts.receivers.registry import build
from detectors.codec import encode_baseline
from storage import alerts, outbox
from storage.alerts import AlertRow
from storage.engine import Connection, Database
from storage.outbox import NotificationRow
from storage.tables import transitions
from tests.alerts.samples import message, settings
from tests.crash.driver import DELIVERY, NOWHERE
from tests.crash.lives import RANDOM, driven, perhaps_dead_at_start, telling
from tests.monitor import frames
from tests.monitor.cli.test_daemon import Daemon, daemon
from tests.monitor.harness import Heard, listener

BASELINE = encode_baseline(frames.baseline())
TIMEOUT = 'timeout = "1s"\n'


class Trouble(threading.Thread):
    """Makes incidents and ends them until the daemon is gone: versions without a baseline, then with one."""

    def __init__(self, served: Daemon, name: str) -> None:
        super().__init__(daemon=True)
        self._served, self._name = served, name

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for number in range(1000):
                self._one(f"{self._name}-{number % 4}", f"{self._name}-{number}")

    def _one(self, model: str, version: str) -> None:
        batch = {
            "id": version,
            "model_version": version,
            "ts": datetime.now(UTC).isoformat(),
            "columns": {"temp": [1.0], "carrier": ["UA"]},
        }
        self._served.ask("POST", f"/v1/models/{model}/predictions", json.dumps(batch).encode())
        threading.Event().wait(0.15)  # not for anything: incidents of the world last a while
        self._served.ask(
            "PUT", f"/v1/models/{model}/versions/{version}/baseline", BASELINE, "application/octet-stream"
        )


def launcher(death: str, rng: random.Random) -> Sequence[str | Path]:
    return driven(NOWHERE if death == RANDOM else death, rng.randint(1, 5))


def killed_rounds(tmp_path: Path, heard: Heard, rounds: int, seed: int) -> None:
    """Kill a daemon that has much to tell at every point in turn, and let it finish once."""
    config = telling(tmp_path, heard.url, TIMEOUT)
    rng = random.Random(seed)
    deaths = [*DELIVERY, RANDOM]
    for number in range(rounds):
        if number % len(deaths) == 0:
            rng.shuffle(deaths)
        death = deaths[number % len(deaths)]
        with perhaps_dead_at_start():
            one_life(tmp_path, config, death, rng, f"r{number}")
    with daemon(tmp_path, config, driven()) as served:
        while any(r["waiting"] for r in served.ask("GET", "/v1/status")[1]["receivers"]):
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0


def one_life(tmp_path: Path, config: Path, death: str, rng: random.Random, name: str) -> None:
    with daemon(tmp_path, config, launcher(death, rng)) as served:
        trouble = Trouble(served, name)
        trouble.start()
        if death == RANDOM:
            threading.Event().wait(rng.uniform(0.1, 1.5))
            served.process.send_signal(signal.SIGKILL)
        assert served.process.wait(60) == -signal.SIGKILL, death
        trouble.join(30)


def check(state: Path, heard: Heard, deaths: int) -> int:
    """What was promised; returns how many messages arrived."""
    ids = [headers["webhook-id"] for headers, _ in heard.posts]
    with Database.open(state) as database, database.read() as conn:
        rows = outbox.list_notifications(conn, limit=100_000)[::-1]
        fired = set(
            conn.execute(select(transitions.c.alert_id).where(transitions.c.to_state == "firing")).scalars()
        )
        ended = {row.id for row in alerts.list_alerts(conn, state="resolved", limit=100_000)}
        told = {alert for row in rows for alert in row.alert_ids}
        unnamed = alerts.get_many(conn, sorted(fired - told))
    assert {row.status for row in rows} <= {"sent", "dropped"}
    assert {row.id for row in rows if row.status == "sent"} == set(ids)
    assert len(ids) - len(set(ids)) <= deaths
    assert one_body_per_id(heard)
    sent = [row for row in rows if row.status == "sent"]
    assert in_order(sent, ids)
    # Every alert that fired was told; but where one look finds that a version has its baseline and that the next one
    # waits for its own, the incident goes on and people know of it already: another version is no news.
    assert all(known_firing(sent, alert) for alert in unnamed)
    for said in by_group(sent):
        # A firing may be followed by another (one more version), a resolve only ever follows a firing.
        kinds = [row.kind for row in said]
        assert kinds[0] == "firing"
        assert ("resolved", "resolved") not in pairwise(kinds)
        if all(alert in ended for row in said for alert in row.alert_ids):
            assert kinds[-1] == "resolved"
    return len(ids)


def known_firing(sent: Sequence[NotificationRow], alert: AlertRow) -> bool:
    """Whether the last that was said of the alert's incident, when the alert fired, was that it is on."""
    assert alert.fired_at is not None
    said = [row for row in sent if row.group_key == alert.group_key and row.created_at < alert.fired_at]
    return bool(said) and said[-1].kind == "firing"


def one_body_per_id(heard: Heard) -> bool:
    bodies = Counter((headers["webhook-id"], body) for headers, body in heard.posts)
    return len(bodies) == len({message for message, _ in bodies})


def by_group(rows: Sequence[NotificationRow]) -> Iterator[list[NotificationRow]]:
    for group in {row.group_key for row in rows}:
        yield [row for row in rows if row.group_key == group]


def in_order(rows: Sequence[NotificationRow], ids: Sequence[str]) -> bool:
    """Whether each group's messages arrived in the order in which they were written, repetitions included."""
    place = {row.id: (row.group_key, row.seq) for row in rows}
    last: dict[str, int] = {}
    for sent_id in ids:
        group, seq = place[sent_id]
        if seq < last.get(group, 0):
            return False
        last[group] = seq
    return True


def test_every_transition_is_told_in_order_whenever_the_daemon_dies(tmp_path: Path) -> None:
    rounds = 6
    with listener() as heard:
        killed_rounds(tmp_path, heard, rounds, seed=7)
        assert check(tmp_path / "state", heard, rounds) > rounds


def queue(state: Path, count: int) -> None:
    """As many messages, each of a group of its own, due now."""
    now = datetime.now(UTC)
    rendered = build(settings("webhook", "ops")).render(message())

    def write(conn: Connection) -> None:
        for number in range(count):
            row = outbox.NewNotification(
                id=f"msg_{number:04}",
                receiver="ops",
                group_key=f"group {number}",
                kind="firing",
                severity="critical",
                body=rendered.body,
                content_type=rendered.content_type,
                next_attempt_at=now,
                created_at=now,
            )
            outbox.add(conn, row)

    with Database.open(state) as database:
        database.write(write).result()


def test_a_stop_with_500_queued_drains_to_its_deadline_and_the_rest_comes_after_the_start(
    tmp_path: Path,
) -> None:
    queue(tmp_path / "state", 500)
    with listener() as heard:
        heard.pause = 0.05
        config = telling(tmp_path, heard.url, TIMEOUT)
        config.write_text(config.read_text().replace("[server]", '[server]\nshutdown_timeout = "2s"'))
        with daemon(tmp_path, config) as served:
            while not heard.posts:
                threading.Event().wait(0.01)
            told, asked = len(heard.posts), time.monotonic()
            code, logged = served.stop()
            assert time.monotonic() - asked < 10
        assert code == 0
        assert "Traceback" not in logged
        drained = len(heard.posts)
        assert told + 3 < drained < 400
        heard.pause = 0.0
        with daemon(tmp_path, config) as served:
            while any(r["waiting"] for r in served.ask("GET", "/v1/status")[1]["receivers"]):
                threading.Event().wait(0.1)
            assert served.stop()[0] == 0
        ids = [headers["webhook-id"] for headers, _ in heard.posts]
    assert sorted(ids) == [f"msg_{number:04}" for number in range(500)]  # each of them, and none twice


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_thousand_deaths(tmp_path: Path) -> None:
    with listener() as heard:
        killed_rounds(tmp_path, heard, 1000, seed=8)
        assert check(tmp_path / "state", heard, 1000) > 1000
