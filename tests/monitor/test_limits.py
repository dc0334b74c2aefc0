"""Names without end, and one id twice at once: nothing grows, one alert says so, and nothing is decided early."""

import json
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from monitor import ingestion
from monitor.segments import SEGMENTS_PER_BASELINE
from storage.engine import Connection
from tests.monitor import frames
from tests.monitor.harness import START, Harness, harness
from tests.monitor.ingest.test_arrow import stream

URL = "/v1/models/m/predictions"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as found:
        found.put_baseline(frames.baseline(pane_seconds=900))
        yield found


def batch(number: int = 0, version: str = "1", **more: Any) -> dict[str, Any]:
    columns = {"temp": [40.0 + number], "carrier": ["UA"]}
    return {"model_version": version, "ts": START.isoformat(), "columns": columns} | more


def count(made: Harness, query: str) -> int:
    with made.service.database.read() as conn:
        return int(conn.exec_driver_sql(query).scalar_one())


def limit_alerts(made: Harness) -> list[str]:
    found = made.json("GET", "/v1/alerts")["alerts"]
    return [alert["state"] for alert in found if alert["kind"] == "limit_reached"]


def test_an_id_in_flight_is_409_for_another_body_and_a_duplicate_for_the_same(made: Harness) -> None:
    """The writer is held, so that nothing is committed until every request has come."""
    hold, held = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        held.set()
        hold.wait(30)

    with ThreadPoolExecutor(2) as pool:
        blocked = made.service.database.write(wait)
        assert held.wait(30)
        waiting = [pool.submit(made.ask, "POST", URL, batch(1, id="b1")) for _ in range(2)]
        while sum(n for _, n in made.service.ingestion._in_flight.values()) < 2:
            threading.Event().wait(0.01)
        other = made.ask("POST", URL, batch(2, id="b1"))
        assert (other.status, other.headers["retry-after"]) == (409, "1")
        assert other.headers["content-type"] == "application/problem+json"
        hold.set()
        blocked.result()
        answers = [json.loads(future.result().body) for future in waiting]
    assert sorted(answer["duplicate"] for answer in answers) == [False, True]
    # Now it is decided.
    assert made.ask("POST", URL, batch(2, id="b1")).status == 422
    assert made.ask("POST", URL, batch(2, id="b2")).status == 200
    assert made.service.ingestion._in_flight == {}
    assert made.service.ingestion.queued_bytes == 0


def test_a_million_unknown_models_are_404_and_nothing_is_remembered(made: Harness) -> None:
    assert not any(made.service.ingestion.model(f"model-{number}") for number in range(1_000_000))
    for number in range(50):
        assert made.ask("POST", f"/v1/models/warm-{number}/predictions", batch()).status == 404
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            assert made.ask("POST", f"/v1/models/{'m' * 200}{number}/predictions", batch()).status == 404
        assert tracemalloc.get_traced_memory()[0] - before < 64 * 1024
    finally:
        tracemalloc.stop()
    assert count(made, "SELECT count(*) FROM models") == 1
    assert b"mmm" not in made.ask("GET", "/metrics").body


def test_versions_beyond_their_limit_are_refused_and_alerted_once(
    made: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "VERSIONS_PER_MODEL", 5)
    for look in range(3):
        answers = [made.ask("POST", URL, batch(version=f"v{look}-{n}")).status for n in range(10)]
        assert answers.count(200) == (4 if look == 0 else 0)
        assert set(answers) <= {200, 422}
        made.service.pipeline.run_once()
        made.clock.advance_to(made.clock.now() + timedelta(minutes=1))
    assert limit_alerts(made) == ["firing"]
    assert count(made, "SELECT count(*) FROM model_versions") == 5
    made.clock.advance_to(made.clock.now() + timedelta(hours=1))
    made.service.pipeline.run_once()
    assert limit_alerts(made) == ["resolved"]


def test_a_million_category_values_take_no_more_room_than_one(made: Harness) -> None:
    def post(number: int, rows: int = 100_000) -> None:
        words = pa.array([f"carrier-{number}-{row}" for row in range(rows)])
        table = pa.table({"temp": np.full(rows, 40.0, np.float32), "carrier": words})
        headers = {
            "content-type": "application/vnd.apache.arrow.stream",
            "driftd-model-version": "1",
            "idempotency-key": f"words-{number}",
        }
        assert made.ask("POST", URL, stream(table), headers=headers).status == 200
        made.service.pipeline.run_once()

    sizes = "SELECT sum(length(profile)) FROM panes"
    post(0)
    first, rows = count(made, sizes), count(made, "SELECT count(*) FROM panes")
    for number in range(1, 10):
        post(number)
    # Tracing is ten times slower, so it watches the last few.
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        post(10, 10_000)
        assert tracemalloc.get_traced_memory()[0] - before < 256 * 1024
    finally:
        tracemalloc.stop()
    assert (count(made, "SELECT sum(rows) FROM panes"), count(made, "SELECT count(*) FROM panes")) == (
        1_010_000,
        rows,
    )
    # Integers of variable length: larger counts take a few bytes more.
    assert count(made, sizes) < first + 200


def test_tag_values_beyond_the_segments_are_alerted_once(tmp_path: Path) -> None:
    with harness(tmp_path, 'segments = ["region"]') as made:
        made.put_baseline(frames.baseline(pane_seconds=900))
        for look in range(3):
            rows = 400
            body = {
                "model_version": "1",
                "ts": START.isoformat(),
                "columns": {"temp": [40.0] * rows, "carrier": ["UA"] * rows},
                "tags": {"region": [f"r-{look}-{row}" for row in range(rows)]},
            }
            assert made.ask("POST", URL, body).status == 200
            made.service.pipeline.run_once()
            made.clock.advance_to(made.clock.now() + timedelta(minutes=1))
        assert limit_alerts(made) == ["firing"]
        query = "SELECT count(DISTINCT segment) FROM panes WHERE segment != ''"
        assert count(made, query) == SEGMENTS_PER_BASELINE
    # A restart neither resolves nor repeats it: whether values are still left out is not known yet.
    with harness(tmp_path, 'segments = ["region"]') as again:
        again.service.pipeline.run_once()
        assert limit_alerts(again) == ["firing"]
