"""A store that fails: ingest is refused, what is due is sent, somebody is told, and it heals by itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from monitor.facts import FACTS_SECONDS
from storage import engine
from storage.engine import Connection
from storage.errors import StorageError, StorageFull
from tests.monitor import frames
from tests.monitor.harness import START, Harness, Heard, drift_labels, harness, listener

TURN = timedelta(seconds=FACTS_SECONDS)


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as found:
        yield found


@pytest.fixture
def daemon(tmp_path: Path, heard: Heard) -> Iterator[Harness]:
    with harness(tmp_path, '[alerts]\ngroup_wait = "0s"', url=heard.url) as found:
        found.put_baseline(frames.baseline(pane_seconds=900))
        yield found


@contextmanager
def full(daemon: Harness) -> Iterator[None]:
    """No transaction begins, as on a full disk; reading goes on."""

    def refuse(_conn: Connection) -> None:
        raise StorageFull("database or disk is full (SQLITE_FULL)")

    event.listen(daemon.service.database._engine, "begin", refuse)
    try:
        yield
    finally:
        event.remove(daemon.service.database._engine, "begin", refuse)


def turn(daemon: Harness, times: int = 1, by: timedelta = TURN) -> None:
    """What the daemon's threads do each five seconds; `by` leaves rounds out."""
    for _ in range(times):
        daemon.clock.advance(by)
        daemon.service.watch_storage()
        daemon.service.emergency.join(10)
        try:
            daemon.service.pipeline.run_once()
        except StorageError:
            continue
        finally:
            daemon.service.couriers["ops"].run_once()


def post(daemon: Harness, number: int) -> Any:
    body = {
        "id": f"b{number}",
        "model_version": "1",
        "ts": START.isoformat(),
        "columns": {"temp": [1.0], "carrier": ["UA"]},
    }
    return daemon.ask("POST", "/v1/models/m/predictions", body)


def said(heard: Heard) -> list[tuple[str, str]]:
    return [(body["status"], body["driftd"]["title"]) for body in heard.bodies()]


NOTHING_STORED = "driftd: nothing can be stored"


def test_a_full_disk_refuses_sends_tells_and_heals(daemon: Harness, heard: Heard) -> None:
    assert post(daemon, 0).status == 200
    daemon.open_alert(drift_labels())
    with full(daemon):
        reply = post(daemon, 1)
        assert reply.status == 503
        assert reply.headers["retry-after"]
        assert "full" in json.loads(reply.body)["detail"]
        turn(daemon, 5)
        turn(daemon, 60, by=timedelta(minutes=1))
        # The alert that was due is sent, once; that nothing can be stored is told, once; silence is nobody's outage.
        assert said(heard) == [("firing", "m: temp drifted from training"), ("firing", NOTHING_STORED)]
        assert daemon.json("GET", "/readyz", status=503)["reasons"]
        assert daemon.json("GET", "/v1/status")["database"] != "ok"
    turn(daemon, 20)
    assert post(daemon, 1).status == 200
    assert said(heard)[2:] == [("resolved", NOTHING_STORED)]
    turn(daemon, 10, by=timedelta(minutes=1))
    assert len(heard.posts) == 3
    assert daemon.json("GET", "/v1/status")["database"] == "ok"


def test_a_failure_of_a_moment_is_no_alert(daemon: Harness, heard: Heard) -> None:
    with full(daemon):
        assert post(daemon, 1).status == 503
        turn(daemon)
    turn(daemon, 30)
    assert said(heard) == []


def test_it_is_said_again_after_the_repeat_interval(daemon: Harness, heard: Heard) -> None:
    with full(daemon):
        post(daemon, 1)
        turn(daemon, 5)
        turn(daemon, 25, by=timedelta(minutes=10))
    assert said(heard) == [("firing", NOTHING_STORED)] * 2


def test_a_receiver_that_fails_meanwhile_is_tried_again(daemon: Harness, heard: Heard) -> None:
    heard.status = 500
    with full(daemon):
        post(daemon, 1)
        turn(daemon, 4)
        assert {title for _, title in said(heard)} == {NOTHING_STORED}
        heard.status = 200
        turn(daemon, 10)
        tries = len(heard.posts)
        assert 2 <= tries <= 4
        turn(daemon, 10, by=timedelta(minutes=1))
    assert len(heard.posts) == tries
    assert len({headers["webhook-id"] for headers, _ in heard.posts}) == 1


def test_the_last_of_the_disk_is_kept_for_alerts(
    daemon: Harness, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.open_alert(drift_labels())
    monkeypatch.setattr(engine, "RESERVE_BYTES", 2**62)
    monkeypatch.setattr(engine, "RESERVE_SHARE", 1)
    reply = post(daemon, 1)
    assert reply.status == 503
    assert "kept for alerts" in json.loads(reply.body)["detail"]
    turn(daemon, 10)
    assert sorted(said(heard)) == [("firing", NOTHING_STORED), ("firing", "m: temp drifted from training")]
    [alert] = [a for a in daemon.json("GET", "/v1/alerts")["alerts"] if a["kind"] == "storage_failing"]
    assert alert["state"] == "firing"
    monkeypatch.undo()
    turn(daemon, 10, by=timedelta(minutes=1))
    assert post(daemon, 1).status == 200
    assert said(heard)[2:] == [("resolved", NOTHING_STORED)]


def test_a_commit_of_nothing_does_not_make_a_store_whole(daemon: Harness) -> None:
    database = daemon.service.database

    def fail(conn: Connection) -> None:
        conn.exec_driver_sql("CREATE TABLE much (x)")
        conn.exec_driver_sql("PRAGMA max_page_count = 1")
        conn.exec_driver_sql("INSERT INTO much VALUES (zeroblob(1000000))")

    with pytest.raises(StorageFull):
        database.write(fail).result()
    database.write(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one()).result()
    assert not database.healthy
    database.probe()
    assert database.healthy
