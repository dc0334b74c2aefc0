"""The endpoint of labels as a client sees it: what is answered, and what is stored after the answer."""

import asyncio
import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from starlette.applications import Starlette

from monitor import labelling
from monitor.api.application import create_app
from monitor.api.auth import Authenticator, Token
from monitor.api.inprocess import InProcessReply, ask
from monitor.api.intake import IngestLimits, Intake
from monitor.api.labels import LabelsEndpoint
from monitor.api.problem import EXCEPTION_HANDLERS
from storage import labels
from storage.errors import StorageFull
from storage.labels import PUT_AT_ONCE
from tests.monitor.api.asgi import Daemon
from tests.monitor.harness import Harness, harness
from tests.monitor.ingest.test_labels import tensors
from tests.monitor.labelled import LATE, baseline

URL = "/v1/models/m/labels"
BODY = {"id": "b1", "ids": ["a", "b"], "columns": {LATE: [1, 0]}}
RAW = json.dumps(BODY).encode()
JSON = {"content-type": "application/json"}


@contextmanager
def opened(tmp_path: Path, storage: str = "") -> Iterator[Harness]:
    with harness(tmp_path, 'labels_mature_after = "2h"', storage=storage) as made:
        made.put_baseline(baseline())
        yield made


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Harness]:
    with opened(tmp_path) as made:
        yield made


def stored(found: Harness, ids: list[str]) -> Mapping[tuple[str, str], str]:
    model = found.service.catalog.model("m")
    assert model is not None
    with found.service.database.read() as conn:
        return labels.of_requests(conn, model.model_id, ids)


def told(reply: InProcessReply) -> tuple[int, Any]:
    if reply.status != 200:
        assert reply.headers["content-type"] == "application/problem+json"
    return reply.status, json.loads(reply.body)


def test_labels_are_stored_before_the_answer(found: Harness) -> None:
    status, answer = told(found.ask("POST", URL, BODY))
    assert (status, answer) == (
        200,
        {"id": "b1", "accepted": 2, "rejected": 0, "errors": [], "warnings": []},
    )
    assert stored(found, ["a", "b"]) == {("a", LATE): "1", ("b", LATE): "0"}


def test_binary_and_compressed_bodies_are_the_same(found: Harness) -> None:
    binary, header = tensors({"driftd.id": ["c", "d"], LATE: np.array([1, 0], np.int64)})
    oip = {"content-type": "application/octet-stream", "inference-header-content-length": str(header)}
    for body, headers in (
        (binary, oip),
        (gzip.compress(RAW), JSON | {"content-encoding": "gzip"}),
        (zstandard.compress(RAW), JSON | {"content-encoding": "zstd"}),
        (zstandard.compress(binary), oip | {"content-encoding": "zstd"}),
    ):
        status, answer = told(found.ask("POST", URL, body, headers=headers))
        assert (status, answer["accepted"]) == (200, 2), answer
    assert stored(found, list("abcd")) == {(i, LATE): v for i, v in zip("abcd", "1010", strict=True)}


def app_with(found: Harness, tokens: list[Token]) -> Starlette:
    return create_app(found.service, authenticator=Authenticator(lambda: tokens))


def test_labels_need_the_scope_of_their_model(found: Harness) -> None:
    scopes = {"mine": "ingest:m", "any": "ingest:*", "other": "ingest:other", "reader": "read"}
    app = app_with(
        found,
        [
            Token(name=name, digest=hashlib.sha256(name.encode()).digest(), scopes=frozenset({scope}))
            for name, scope in scopes.items()
        ],
    )

    def answer(token: str | None, target: str = URL) -> int:
        bearer = {} if token is None else {"authorization": f"Bearer {token}"}
        return ask(app, "POST", target, body=RAW, headers=JSON | bearer).status

    assert [answer(t) for t in (None, "wrong", "reader", "other")] == [401, 401, 403, 403]
    assert stored(found, ["a", "b"]) == {}
    assert [answer(t) for t in ("mine", "any")] == [200, 200]
    # Whether a model exists is nobody's business who may not send to it.
    assert answer("mine", "/v1/models/other/labels") == 403
    assert answer("any", "/v1/models/other/labels") == 404


def test_an_unknown_model_and_one_without_labels_are_told_apart(tmp_path: Path) -> None:
    with harness(tmp_path) as made:
        made.put_baseline(baseline())
        status, answer = told(made.ask("POST", "/v1/models/nobody/labels", BODY))
        assert (status, "no model 'nobody' is registered" in answer["detail"]) == (404, True)
        status, answer = told(made.ask("POST", URL, BODY))
        assert (status, "labels_mature_after is off" in answer["detail"]) == (422, True)


@pytest.mark.parametrize(
    "media",
    ["application/vnd.apache.arrow.stream", "application/vnd.driftd.counts+json", "text/csv"],
)
def test_formats_that_cannot_hold_labels_are_415(found: Harness, media: str) -> None:
    assert told(found.ask("POST", URL, RAW, headers={"content-type": media}))[0] == 415


def test_the_idempotency_key_is_the_id_of_the_body(found: Harness) -> None:
    keyed = JSON | {"idempotency-key": "k1"}
    without = {name: value for name, value in BODY.items() if name != "id"}
    assert told(found.ask("POST", URL, without, headers=keyed))[1]["id"] == "k1"
    assert told(found.ask("POST", URL, without))[1]["id"] is None
    assert told(found.ask("POST", URL, BODY, headers=JSON | {"idempotency-key": "b1"}))[1]["id"] == "b1"
    status, answer = told(found.ask("POST", URL, BODY | {"ids": ["x", "y"]}, headers=keyed))
    assert (status, "Idempotency-Key" in answer["detail"]) == (400, True)
    assert stored(found, ["x", "y"]) == {}


def test_a_bad_row_costs_no_other(found: Harness) -> None:
    status, answer = told(found.ask("POST", URL, {"ids": ["a", "", "c"], "columns": {LATE: [1, 1, None]}}))
    assert (status, answer["accepted"], answer["rejected"]) == (200, 1, 2)
    assert [error["pointer"] for error in answer["errors"]] == ["/ids/1", ""]
    assert stored(found, ["a", "c"]) == {("a", LATE): "1"}


def test_where_no_row_can_be_taken_the_body_is_refused(found: Harness) -> None:
    status, answer = told(found.ask("POST", URL, {"ids": ["", "x" * 201], "columns": {LATE: [1, 0]}}))
    assert (status, answer["accepted"], answer["rejected"]) == (422, 0, 2)
    assert [error["pointer"] for error in answer["errors"]] == ["/ids/0", "/ids/1"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"", b"\xff", b'{"ids": ["a"], "ids": ["b"], "columns": {"late": [1]}}',
     b'{"ids": ["a"], "columns": {"late": [1], "late": [0]}}', b'{"ids": ["a"], "columns": {"late": [NaN]}}'],
)  # fmt: skip
def test_what_is_no_json_is_400(found: Harness, body: bytes) -> None:
    assert told(found.ask("POST", URL, body, headers=JSON))[0] == 400
    assert stored(found, ["a", "b"]) == {}


def endpoint(found: Harness, limits: IngestLimits) -> tuple[Daemon, Intake]:
    """The endpoint alone, with limits of its own, behind a client that can stream."""
    intake = Intake(limits)
    route = LabelsEndpoint(
        found.service.ingestion, found.service.labelling, Authenticator(list), intake
    ).route
    client = Daemon()
    client.app = Starlette(routes=[route], exception_handlers=EXCEPTION_HANDLERS)
    return client, intake


def test_a_body_too_large_is_413_before_and_after_inflating(found: Harness) -> None:
    client, intake = endpoint(found, IngestLimits(wire_bytes=1000, inflated_bytes=2000))
    assert client.post(RAW + b" " * 1000, URL).status_code == 413
    assert client.post(gzip.compress(RAW + b" " * 3000), URL, content_encoding="gzip").status_code == 413
    assert client.post(RAW + b" " * 900, URL).status_code == 200
    assert intake.inflight_bytes == 0
    intake.close()


def test_too_many_bytes_at_once_are_429(found: Harness) -> None:
    client, intake = endpoint(found, IngestLimits(inflight_bytes=10))
    answer = client.post(RAW, URL)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert intake.inflight_bytes == 0
    intake.close()


def test_a_client_that_goes_away_leaves_nothing(found: Harness) -> None:
    messages = iter(
        [{"type": "http.request", "body": RAW[:20], "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")], "client": ("127.0.0.1", 1),
        "server": None, "scheme": "http", "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(found.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert stored(found, ["a", "b"]) == {}


def test_a_client_that_goes_away_while_labels_are_written_holds_no_room(found: Harness) -> None:
    """What was queued is written all the same, and the same body may come again."""
    begun, go_on = asyncio.Event(), Future[None]()

    async def post(loop: asyncio.AbstractEventLoop) -> None:
        client, intake = endpoint(found, IngestLimits())
        found.service.database.write(
            lambda _: (loop.call_soon_threadsafe(begun.set), go_on.result(20)), urgent=True
        )
        await begun.wait()
        given = iter([{"type": "http.request", "body": RAW, "more_body": False}])
        scope = {
            "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1), "server": None, "scheme": "http", "root_path": "", "http_version": "1.1",
        }  # fmt: skip

        async def receive() -> Any:
            return next(given)

        async def send(message: Any) -> None:
            raise AssertionError(message)

        asked = asyncio.ensure_future(client.app(scope, receive, send))
        while found.service.database.pending_writes < 2:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        intake.close()

    async def run() -> None:
        try:
            await post(asyncio.get_running_loop())
        finally:
            go_on.set_result(None)

    asyncio.run(run())
    found.service.database.probe()  # which comes after what was queued
    assert stored(found, ["a", "b"]) == {("a", LATE): "1", ("b", LATE): "0"}
    assert found.service.labelling.queued == 0


def test_a_store_that_fails_is_503_and_the_same_body_is_taken_later(
    found: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(labels, "put", full)
        reply = found.ask("POST", URL, BODY)
    status, answer = told(reply)
    assert (status, "the disk is full" in answer["detail"]) == (503, True)
    assert int(reply.headers["retry-after"]) > 0
    with monkeypatch.context() as broken:
        broken.setattr(type(found.service.database), "no_room", property(lambda _: "1 MiB is free"))
        broken.setattr(found.service.database, "_room_checked_at", -math.inf)
        assert told(found.ask("POST", URL, BODY))[0] == 503
    assert stored(found, ["a", "b"]) == {}
    assert told(found.ask("POST", URL, BODY))[0] == 200
    assert found.service.labelling.queued == 0


def body_of(count: int, prefix: str = "r") -> dict[str, Any]:
    return {"ids": [f"{prefix}{n}" for n in range(count)], "columns": {LATE: [1] * count}}


def test_a_long_body_is_written_some_at_a_time(found: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = labels.put

    def put(conn: Any, model_id: int, some: Any, **rest: Any) -> None:
        sizes.append(len(some))
        real(conn, model_id, some, **rest)

    monkeypatch.setattr(labels, "put", put)
    found.json("POST", URL, body_of(2 * PUT_AT_ONCE + 1))
    assert sizes == [PUT_AT_ONCE, PUT_AT_ONCE, 1]
    with found.service.database.read() as conn:
        assert labels.count(conn) == 2 * PUT_AT_ONCE + 1


def test_beyond_the_most_labels_kept_it_is_429_for_a_minute(tmp_path: Path) -> None:
    with opened(tmp_path, "max_labels = 1000") as made:
        made.json("POST", URL, body_of(999))
        reply = made.ask("POST", URL, body_of(2, "x"))
        status, answer = told(reply)
        assert (status, reply.headers["retry-after"]) == (429, "60")
        assert "storage.max_labels" in answer["detail"]
        assert stored(made, ["x0", "x1"]) == {}
        made.json("POST", URL, body_of(1, "x"))


def test_too_many_labels_on_their_way_are_429(found: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "QUEUED_LABELS", 3)
    reply = found.ask("POST", URL, body_of(4))
    assert (told(reply)[0], reply.headers["retry-after"]) == (429, "1")
    found.json("POST", URL, body_of(3))
    found.json("POST", URL, body_of(3))


def test_a_repeated_body_changes_nothing(found: Harness) -> None:
    body = BODY | {"ts": "2026-02-28T12:00:00Z"}
    first = found.json("POST", URL, body)
    found.clock.advance(timedelta(hours=1))
    found.json("POST", URL, {"ids": ["a"], "columns": {LATE: [0]}})
    assert found.json("POST", URL, body) == first
    assert stored(found, ["a", "b"]) == {("a", LATE): "0", ("b", LATE): "0"}
    with found.service.database.read() as conn:
        assert labels.count(conn) == 2
