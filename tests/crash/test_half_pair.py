"""kill -9 between a request and its response: the half that was acknowledged is there when the other one comes."""

import json
import signal
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from detectors.codec import encode_baseline
from tests.monitor.api.kserve import V1_REQUEST, V1_RESPONSE, headers, iris
from tests.monitor.cli.test_daemon import TOKEN, Daemon, daemon, write_config

EVENTS = 6


def send(served: Daemon, half: str, body: bytes, event_id: str, time: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        named = dict(headers(half, event_id=event_id, time=time)) | {"Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", "/v1/cloudevents", body=body, headers=named)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_an_acknowledged_half_outlives_the_daemon_and_its_pair_is_counted_once(tmp_path: Path) -> None:
    config = write_config(tmp_path, 0)
    time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    halves = [("request", V1_REQUEST), ("response", V1_RESPONSE)]
    with daemon(tmp_path, config) as served:
        path, media = "/v1/models/sklearn-iris/versions/1/baseline", "application/octet-stream"
        assert served.ask("PUT", path, encode_baseline(iris()), media)[0] == 200
        for number in range(EVENTS):
            assert send(served, *halves[number % 2], str(number), time)[0] == 200
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(10)
    with daemon(tmp_path, config) as served:
        for number in range(EVENTS):
            status, answer = send(served, *halves[1 - number % 2], str(number), time)
            assert (status, answer["paired"], answer["accepted"], answer["duplicate"]) == (
                200,
                True,
                2,
                False,
            )
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(10)
    with daemon(tmp_path, config) as served:
        for number in range(EVENTS):
            for half, body in halves:
                assert send(served, half, body, str(number), time)[1]["duplicate"] is True
        assert served.ask("GET", "/v1/status")[0] == 200
        assert served.stop()[0] == 0
