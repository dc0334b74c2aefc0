"""Whatever bytes and headers come, in every format: an answer that is foreseen, problem+json where it refuses, never a 500."""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.api.inprocess import InProcessReply
from storage import performances
from tests.monitor import frames, labelled
from tests.monitor.api.asgi import Daemon
from tests.monitor.api.kserve import V1_REQUEST, V1_RESPONSE, V2_REQUEST, V2_RESPONSE, headers, iris
from tests.monitor.harness import START, Harness, harness
from tests.monitor.ingest.bodies import (
    BASELINE,
    GOOD,
    NOW,
    columns_body,
    oip_binary_body,
    oip_json_body,
    rows_body,
)
from tests.monitor.ingest.counts_bodies import body as counts_body
from tests.monitor.ingest.counts_bodies import pane
from tests.monitor.ingest.test_arrow import stream, table
from tests.monitor.ingest.test_labels import tensors

BINARY, HEADER = oip_binary_body([GOOD, GOOD])
ARROW = "application/vnd.apache.arrow."
JSON = {"content-type": "application/json"}
COUNTS = {"content-type": "application/vnd.driftd.counts+json"}
COUNTED = {
    "amount": np.array([99.5, np.nan]), "age": np.array([30, 40]), "vip": np.array([True, False]),
    "city": np.array(["Oslo", "X"], object), "note": np.array(["a", "bb"], object),
    "score": np.array([0.1, 0.2]), "sure": np.array([0.6, np.inf]),
}  # fmt: skip
SEEDS: list[tuple[bytes, dict[str, str]]] = [
    (rows_body([GOOD, GOOD], id="b", parameters={"ts": 1}), JSON),
    (columns_body([GOOD, GOOD], ts=["2026-03-01T11:00:00Z"] * 2, tags={"a": ["x", None]}), JSON),
    (oip_json_body([GOOD, GOOD]), JSON),
    (BINARY, {"content-type": "application/octet-stream", "inference-header-content-length": str(HEADER)}),
    (stream(table([GOOD, GOOD]), compression="lz4"), {"content-type": ARROW + "stream"}),
    (stream(table([GOOD]), file=True), {"content-type": ARROW + "file"}),
    (
        json.dumps(
            counts_body(BASELINE, [pane(BASELINE, COUNTED, NOW // 10**9)], model_version="3")
        ).encode(),
        COUNTS,
    ),
]
TOKENS = (
    b"null", b"NaN", b"1e999", b"-0", b"[]", b"{}", b'""', b"true", b"9" * 400, b"\\u0000", b"\\ud800", b'"rows"', b'"id"',
    b'"ts"', b'"inputs"', b"\xff", b"\x00", b"[" * 2000, b'{"a":' * 2000, b"1" * 5000, b",", b":", b'"', b"\\",
)  # fmt: skip
ODD = st.sampled_from(
    [
        ("content-type", "text/plain"), ("content-type", "application/json; charset=utf-16"), ("content-type", ARROW + "stream"),
        ("content-type", "application/octet-stream"), ("content-encoding", "gzip"), ("content-encoding", "zstd"),
        ("content-encoding", "br"), ("idempotency-key", '"'), ("idempotency-key", "é"), ("idempotency-key", "k" * 300),
        ("inference-header-content-length", "0"), ("inference-header-content-length", "-1"),
        ("inference-header-content-length", "7"), ("driftd-model-version", "\x01"), ("content-length", "7"),
    ]
)  # fmt: skip
PACKS: Sequence[Callable[[bytes], bytes]] = (bytes, bytes, gzip.compress, zstandard.compress)
FORESEEN = {200, 400, 409, 413, 415, 422, 429}


@st.composite
def mangled(draw: st.DrawFn, body: bytes) -> bytes:
    """A good body with a few bytes changed, pieces cut out, repeated or replaced, perhaps compressed."""
    for _ in range(draw(st.integers(0, 4))):
        if not body:
            break
        at = draw(st.integers(0, len(body) - 1))
        end = min(len(body), at + draw(st.integers(1, 12)))
        piece = draw(st.sampled_from((*TOKENS, b"", body[at:end] * 2)) | st.binary(max_size=4))
        body = body[:at] + piece + body[end:]
    pack = draw(st.sampled_from(PACKS))
    return pack(body)


def check(status: int, media: str, content: bytes) -> None:
    assert status in FORESEEN, content
    found = json.loads(content)
    if status != 200:
        assert media == "application/problem+json"
        assert found["status"] == status


DAEMON = Daemon()


@settings(max_examples=400)
@given(st.data())
def test_predictions_are_taken_or_refused_whatever_they_are(data: st.DataObject) -> None:
    body, named = data.draw(st.sampled_from(SEEDS))
    changes = data.draw(st.lists(ODD, max_size=2))
    sent = list((named | dict(changes)).items())
    answer = DAEMON.request("POST", "/v1/models/credit/predictions", data.draw(mangled(body)), sent)
    check(answer.status_code, answer.headers["content-type"], answer.content)
    assert DAEMON.intake.inflight_bytes == 0


def test_labels_are_taken_or_refused_whatever_they_are(tmp_path_factory: Any) -> None:
    with harness(tmp_path_factory.mktemp("fuzz"), 'labels_mature_after = "2h"') as made:
        made.put_baseline(labelled.baseline())
        made.service.pipeline.run_once()
        labelled.predict(made, ["a", "b"], late=[1, 0], delay=[0.5, 1.5])
        _fuzz_labels(made)
        # What was taken can be met, whatever it is.
        made.clock.advance(timedelta(hours=3))
        made.service.pipeline.run_once()
        with made.service.database.read() as conn:
            found = performances.list_rows(conn, [1], start=0, end=2**40)
        assert {row.rows for row in found} == {2}


def _fuzz_labels(made: Harness) -> None:
    columns = {labelled.LATE: [1, "0"], labelled.DELAY: [0.5, None]}
    ts = [f"{START:%Y-%m-%dT%H:%M:%SZ}", None]
    body = json.dumps({"id": "b", "ids": ["a", "b"], "ts": ts, "columns": columns}).encode()
    late = np.array([1, 0], np.int64)
    binary, header = tensors({"driftd.id": ["a", "b"], labelled.LATE: late, labelled.DELAY: ["1", "2"]})
    oip = {"content-type": "application/octet-stream", "inference-header-content-length": str(header)}

    @settings(max_examples=200)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        sent, named = data.draw(st.sampled_from([(body, JSON), (binary, oip)]))
        changes = dict(data.draw(st.lists(ODD, max_size=1)))
        answer = made.ask(
            "POST", "/v1/models/m/labels", data.draw(mangled(sent)), headers=dict(named) | changes
        )
        check(answer.status, answer.headers["content-type"], answer.body)

    fuzz()


def test_events_are_taken_or_refused_whatever_they_are(tmp_path_factory: Any) -> None:
    with harness(tmp_path_factory.mktemp("fuzz")) as made:
        made.put_baseline(iris(), "sklearn-iris", "v1.0.0")
        made.put_baseline(frames.baseline(), "m")
        _fuzz_events(made)


def _fuzz_events(made: Harness) -> None:
    numbers = iter(range(10**6))

    @settings(max_examples=150)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        """Two halves under one id: each is kept, joined or refused."""
        event_id = str(next(numbers))
        for half, bodies in (("request", (V1_REQUEST, V2_REQUEST)), ("response", (V1_RESPONSE, V2_RESPONSE))):
            body = data.draw(mangled(data.draw(st.sampled_from(bodies))))
            changes = {n.replace("-", "_"): v for n, v in data.draw(st.lists(ODD, max_size=1)) if v.isascii()}
            named = headers(half, event_id=event_id, time=f"{START:%Y-%m-%dT%H:%M:%SZ}", **changes)
            if data.draw(st.booleans()):
                wrapped = {name[3:]: value for name, value in named.items() if name.startswith("ce-")}
                body = json.dumps(wrapped | {"data_base64": base64.b64encode(body).decode()}).encode()
                named = {"content-type": "application/cloudevents+json"}
            answer: InProcessReply = made.ask("POST", "/v1/cloudevents", body, headers=named)
            check(answer.status, answer.headers["content-type"], answer.body)

    fuzz()
