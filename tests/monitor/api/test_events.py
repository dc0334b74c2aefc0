"""KServe's events over the whole application: in any order, once, and on disk before the 200."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.ingest.batch import decode_payload
from monitor.ingest.frame import frame
from storage import batches, models, panes
from storage.engine import Connection
from tests.monitor.api.kserve import (
    COLUMNS,
    EVENT_ID,
    INSTANCES,
    V1_REQUEST,
    V1_RESPONSE,
    V2_REQUEST,
    V2_RESPONSE,
    headers,
    iris,
)
from tests.monitor.harness import START, Harness, harness

URL = "/v1/models/sklearn-iris/cloudevents"
TIME = f"{START:%Y-%m-%dT%H:%M:%S}.0789529Z"
TIME_NS = int(START.timestamp()) * 10**9 + 78_952_900
BASELINE = iris()
BODIES = {
    "V1": {"request": V1_REQUEST, "response": V1_RESPONSE},
    "V2": {"request": V2_REQUEST, "response": V2_RESPONSE},
}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as found:
        found.put_baseline(BASELINE, "sklearn-iris", "v1.0.0")
        yield found


def send(made: Harness, half: str, body: bytes, url: str = URL, **more: str) -> tuple[int, dict[str, Any]]:
    answer = made.ask("POST", url, body, headers=headers(half, **{"time": TIME} | more))
    assert answer.headers["content-type"] in ("application/json", "application/problem+json")
    return answer.status, json.loads(answer.body)


def stored(made: Harness) -> list[tuple[str, Mapping[str, list[Any]], list[int]]]:
    with made.service.database.read() as conn:
        found = batches.unfolded(conn, limit=10)
    taken = [decode_payload(row.payload) for row in found]
    return [
        (
            row.batch_key,
            {name: array.tolist() for name, array in frame([batch], BASELINE).items()},
            batch.times_ns.tolist(),
        )
        for row, batch in zip(found, taken, strict=True)
    ]


def rows_of(made: Harness, table: str) -> int:
    with made.service.database.read() as conn:
        return int(conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


EXPECTED = {
    name: np.array([row[position] for row in INSTANCES], np.float32).tolist()
    for position, name in enumerate(COLUMNS)
}


@pytest.mark.parametrize("order", [("request", "response"), ("response", "request")])
@pytest.mark.parametrize("protocol", ["V1", "V2"])
@pytest.mark.parametrize("url", [URL, "/v1/cloudevents"])
def test_a_request_and_its_response_are_one_batch_in_either_order(
    made: Harness, order: tuple[str, str], protocol: str, url: str
) -> None:
    first, second = order
    assert send(made, first, BODIES[protocol][first], url) == (
        200,
        {"id": EVENT_ID, "paired": False, "duplicate": False},
    )
    assert (rows_of(made, "event_halves"), rows_of(made, "batches")) == (1, 0)
    status, answer = send(made, second, BODIES[protocol][second], url)
    assert (status, answer["id"], answer["accepted"], answer["paired"]) == (200, EVENT_ID, 2, True)
    assert answer["errors"] == answer["warnings"] == []
    assert (rows_of(made, "event_halves"), made.service.halves.waiting_bytes) == (0, 0)
    classes = {"V1": ["1", "1"], "V2": ["1", "2"]}[protocol]
    assert stored(made) == [(EVENT_ID, EXPECTED | {"class": classes}, [TIME_NS] * 2)]


def test_the_first_half_survives_the_death_of_the_daemon(tmp_path: Path) -> None:
    with harness(tmp_path) as before:
        before.put_baseline(BASELINE, "sklearn-iris", "v1.0.0")
        assert send(before, "request", V1_REQUEST)[0] == 200
    with harness(tmp_path) as after:
        assert after.service.halves.waiting_bytes == len(V1_REQUEST)
        assert send(after, "response", V1_RESPONSE)[1]["accepted"] == 2
        assert len(stored(after)) == 1


def test_events_sent_again_change_nothing(made: Harness) -> None:
    for half, body, paired in (
        ("request", V1_REQUEST, False),
        ("request", V1_REQUEST, False),
        ("response", V1_RESPONSE, True),
    ):
        assert send(made, half, body)[1]["paired"] is paired
    for half, body in (("request", V1_REQUEST), ("response", V1_RESPONSE)):
        assert send(made, half, body) == (200, {"id": EVENT_ID, "paired": False, "duplicate": True})
    assert (rows_of(made, "batches"), rows_of(made, "event_halves")) == (1, 0)


def test_another_request_under_one_id_is_refused(made: Harness) -> None:
    assert send(made, "request", V1_REQUEST)[0] == 200
    assert send(made, "request", V2_REQUEST)[0] == 422
    assert send(made, "response", V1_RESPONSE)[1]["accepted"] == 2


def test_binary_tensors_are_found_behind_the_json(made: Harness) -> None:
    """Neither event carries Inference-Header-Content-Length: the logger passes no header on."""
    values = np.array(INSTANCES, dtype="<f4").tobytes()
    classes = np.array([1, 1], dtype="<i8").tobytes()
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    outcome = {"name": "predict", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    request = json.dumps({"inputs": [tensor]}).encode() + values
    response = json.dumps({"model_version": "v1.0.0", "outputs": [outcome]}).encode() + classes
    assert send(made, "response", response)[0] == 200
    assert send(made, "request", request)[1]["accepted"] == 2
    assert stored(made)[0][1] == EXPECTED | {"class": ["1", "1"]}
    # One half binary, the other not.
    assert send(made, "request", request, ce_id="b2")[0] == 200
    assert send(made, "response", V2_RESPONSE, ce_id="b2")[1]["accepted"] == 2


def test_structured_events_are_taken_too(made: Harness) -> None:
    for half, data in (
        ("request", {"data": json.loads(V1_REQUEST)}),
        ("response", {"data_base64": base64.b64encode(V1_RESPONSE).decode()}),
    ):
        event = {
            "specversion": "1.0",
            "id": EVENT_ID,
            "type": f"org.kubeflow.serving.inference.{half}",
            "source": "http://localhost:9081/",
            "time": TIME,
            "inferenceservicename": "sklearn-iris",
            "traceparent": "00",
        } | data
        answer = made.ask(
            "POST",
            "/v1/cloudevents",
            json.dumps(event).encode(),
            headers={"Content-Type": "application/cloudevents+json; charset=utf-8"},
        )
        assert answer.status == 200, answer.body
    assert stored(made)[0][1] == EXPECTED | {"class": ["1", "1"]}


def test_named_instances_and_nested_predictions(made: Harness) -> None:
    request = json.dumps({"instances": [dict(zip(COLUMNS, row, strict=True)) for row in INSTANCES]}).encode()
    assert send(made, "request", gzip.compress(request), content_encoding="gzip")[0] == 200
    assert send(made, "response", b'{"predictions": [[1], [1]]}')[1]["accepted"] == 2
    # 1.0 of a one-element list is the class 1.
    assert stored(made)[0][1] == EXPECTED | {"class": ["1", "1"]}


def test_which_version_answered(made: Harness) -> None:
    made.put_baseline(BASELINE, "sklearn-iris", "v2")
    assert send(made, "request", V1_REQUEST)[0] == 200
    status, answer = send(made, "response", V1_RESPONSE)
    assert (status, answer["errors"][0]["pointer"]) == (422, "/model_version")
    for half, body in (("request", V1_REQUEST), ("response", V1_RESPONSE)):
        assert send(made, half, body, f"{URL}?model_version=v2", ce_id="e2")[0] == 200
    with made.service.database.read() as conn:
        found = batches.unfolded(conn, limit=10)
    assert [decode_payload(row.payload).model_version for row in found] == ["v2"]
    assert send(made, "request", V1_REQUEST, f"{URL}?version=v2", ce_id="e3")[0] == 400


REFUSED: list[tuple[str, str, bytes, dict[str, str], int]] = [
    ("no JSON", "request", b"{", {}, 400),
    ("empty", "request", b"", {}, 400),
    ("an array", "request", b"[]", {}, 422),
    ("neither protocol", "request", b'{"rows": []}', {}, 422),
    ("both protocols", "request", b'{"instances": [], "inputs": []}', {}, 422),
    ("a response as a request", "request", V1_RESPONSE, {}, 422),
    ("duplicate key", "request", b'{"instances": [1], "instances": [2]}', {}, 400),
    ("duplicate key beside", "request", b'{"a": {"b": 1}, "a": 2, "instances": [2]}', {}, 400),
    ("byte order mark", "request", b"\xef\xbb\xbf" + V1_REQUEST, {}, 400),
    ("deep", "request", b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400),
    ("bytes behind V1", "request", V1_REQUEST + b"\x00\x01", {}, 400),
    ("no id", "request", V1_REQUEST, {"ce_id": "-"}, 400),
    ("empty id", "request", V1_REQUEST, {"ce_id": ""}, 400),
    ("reserved id", "request", V1_REQUEST, {"ce_id": "anon-1"}, 422),
    ("NUL in the id", "request", V1_REQUEST, {"ce_id": "a%00"}, 422),
    ("endless id", "request", V1_REQUEST, {"ce_id": "a" * 300}, 422),
    ("no type", "request", V1_REQUEST, {"ce_type": "-"}, 400),
    ("another type", "request", V1_REQUEST, {"ce_type": "com.example.order"}, 422),
    ("no version", "request", V1_REQUEST, {"ce_specversion": "-"}, 400),
    ("version 0.1", "request", V1_REQUEST, {"ce_specversion": "0.1"}, 400),
    ("naive time", "request", V1_REQUEST, {"ce_time": "2026-03-01T00:00:00"}, 422),
    ("year 9999", "request", V1_REQUEST, {"ce_time": "9999-12-31T23:59:59Z"}, 422),
    ("a transformer", "request", V1_REQUEST, {"ce_component": "transformer"}, 422),
    ("unknown encoding", "request", V1_REQUEST, {"content_encoding": "br"}, 415),
    ("broken gzip", "request", V1_REQUEST, {"content_encoding": "gzip"}, 400),
    ("gzip bomb", "request", gzip.compress(bytes(100 * 2**20), 1), {"content_encoding": "gzip"}, 413),
]


def test_what_is_no_half_is_refused_before_it_is_kept(made: Harness) -> None:
    for what, half, body, changes, status in REFUSED:
        assert send(made, half, body, **changes)[0] == status, what
    assert rows_of(made, "event_halves") == 0
    assert send(made, "request", V1_REQUEST, "/v1/models/other/cloudevents")[0] == 404
    assert send(made, "request", V1_REQUEST, "/v1/cloudevents", ce_inferenceservicename="other")[0] == 404
    assert send(made, "request", V1_REQUEST, "/v1/cloudevents", ce_inferenceservicename="-")[0] == 422
    assert rows_of(made, "event_halves") == 0


PAIRS: list[tuple[str, bytes, bytes]] = [
    ("fewer predictions", V1_REQUEST, b'{"predictions": [1]}'),
    ("too few values", b'{"instances": [[1, 2]]}', b'{"predictions": [1]}'),
    ("two protocols", V1_REQUEST, V2_RESPONSE),
    ("no good row", b'{"instances": [["x", 1, 2, 3]]}', b'{"predictions": [1]}'),
    ("nested prediction", b'{"instances": [[0, 1, 2, 3]]}', b'{"predictions": [[[1]]]}'),
    ("duplicate feature", b'{"instances": [{"a": 1, "a": 2}]}', b'{"predictions": [1]}'),
    ("no array", b'{"instances": 3}', b'{"predictions": [1]}'),
    ("two rows for one", V2_REQUEST, V2_RESPONSE.replace(b'"shape": [2]', b'"shape": [1]')),
]


def test_a_pair_that_is_no_batch_is_refused_and_its_first_half_counted_as_lost(made: Harness) -> None:
    for number, (what, request, response) in enumerate(PAIRS):
        assert send(made, "request", request, ce_id=str(number))[0] == 200, what
        assert send(made, "response", response, ce_id=str(number))[0] in (400, 422), what
    assert rows_of(made, "batches") == 0
    counted = made.ask("GET", "/metrics").body.decode()
    assert f'driftd_event_halves_lost_total{{half="pair"}} {len(PAIRS)}.0' in counted


def test_a_half_whose_partner_never_comes_is_given_up_counted_and_told_of(made: Harness) -> None:
    for number in range(12):
        assert send(made, "request", V1_REQUEST, ce_id=f"r{number}")[0] == 200
    made.clock.advance_to(START + timedelta(minutes=9))
    assert made.service.halves.expire() == 0
    made.clock.advance_to(START + timedelta(minutes=11))
    assert made.service.halves.expire() == 12
    assert made.service.halves.waiting_bytes == 0
    counted = made.ask("GET", "/metrics").body.decode()
    assert 'driftd_event_halves_lost_total{half="request"} 12.0' in counted
    status, answer = send(made, "response", V1_RESPONSE, ce_id="r3")
    assert (status, "given up" in answer["detail"]) == (422, True)
    made.service.pipeline.run_once()
    told = made.json("GET", "/v1/alerts")["alerts"]
    assert [(alert["kind"], alert["severity"]) for alert in told] == [("monitoring_loss", "warning")]
    assert "12 requests and 0 responses" in json.dumps(told)
    # It is over an hour later, and forgotten a day later.
    made.clock.advance_to(START + timedelta(hours=2))
    made.service.pipeline.run_once()
    assert [alert["state"] for alert in made.json("GET", "/v1/alerts")["alerts"]] == ["resolved"]
    made.clock.advance_to(START + timedelta(hours=25))
    made.service.halves.expire()
    assert rows_of(made, "event_halves") == 0


def test_halves_that_wait_are_bounded_in_bytes(tmp_path: Path) -> None:
    with harness(tmp_path, storage='event_bytes = "160B"') as made:
        made.put_baseline(BASELINE, "sklearn-iris", "v1.0.0")
        assert [send(made, "request", V1_REQUEST, ce_id=key)[0] for key in "abc"] == [200, 200, 429]
        # What completes a half needs no room, and makes some.
        assert send(made, "response", V1_RESPONSE, ce_id="a")[0] == 200
        assert send(made, "request", V1_REQUEST, ce_id="c")[0] == 200


def _registered(conn: Connection) -> None:
    model = models.ensure_model(conn, "sklearn-iris", now=START)
    models.ensure_version(conn, model.id, "1", now=START)


def test_a_token_may_come_in_the_url_and_must_be_for_the_model(tmp_path: Path) -> None:
    """Go's client turns https://any:TOKEN@host/ into HTTP Basic; the logger cannot send a header of ours."""
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("iris-only", "other-only")}
    tokens = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = ["ingest:{model}"]\n'
        for (name, digest), model in zip(digests.items(), ("sklearn-iris", "other"), strict=True)
    )
    with harness(tmp_path, tokens) as made:
        made.service.database.write(_registered).result()
        made.service.catalog.reload()
        for given, status in (("any:iris-only", 200), ("any:other-only", 403), ("any:wrong", 401), ("", 401)):
            basic = "Basic " + base64.b64encode(given.encode()).decode()
            for url in (URL, "/v1/cloudevents"):
                assert send(made, "request", V1_REQUEST, url, authorization=basic)[0] == status, given
        assert send(made, "request", V1_REQUEST, authorization="Bearer iris-only")[0] == 200
        # Whether a model exists is told to nobody who may not send to it.
        unknown = "/v1/models/unknown/cloudevents"
        assert send(made, "request", V1_REQUEST, unknown, authorization="Bearer iris-only")[0] == 403


@pytest.mark.parametrize("halves", [("request", "response"), ("response", "request")])
def test_a_pair_is_counted_where_no_rows_are_kept(tmp_path: Path, halves: tuple[str, str]) -> None:
    with harness(tmp_path, "keep_rows = false") as made:
        made.put_baseline(BASELINE, "sklearn-iris", "v1.0.0")
        send(made, halves[0], BODIES["V2"][halves[0]])
        assert send(made, halves[1], BODIES["V2"][halves[1]])[1]["accepted"] == 2
        assert rows_of(made, "event_halves") == 0
        again = send(made, halves[1], BODIES["V2"][halves[1]])[1]
        assert again["duplicate"]
        made.service.pipeline.run_once()
        with made.service.database.read() as conn:
            assert [pane.rows for pane in panes.window(conn, 1, "", BASELINE.pane_seconds, 0, 2**40)] == [2]
        assert rows_of(made, "payloads") == 0
