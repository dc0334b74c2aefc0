"""The ingest endpoint over ASGI: what is answered, and what is stored after the answer."""

import gzip
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import zstandard

from monitor.api.intake import IngestLimits
from monitor.api.ports import QueueFullError, StorageUnavailableError
from monitor.ingest.times import DAY
from tests.monitor.api.asgi import URL, Daemon, MemoryPort
from tests.monitor.ingest.bodies import GOOD, NOW, columns_body, oip_binary_body, oip_json_body, rows_body
from tests.monitor.ingest.test_arrow import stream, table

OK = {"errors": [], "warnings": [], "duplicate": False}
BODY = rows_body([GOOD], id="b1")


@pytest.fixture
def daemon() -> Any:
    made = Daemon()
    yield made
    made.intake.close()


def pointers(answer: Any) -> list[str]:
    return [error["pointer"] for error in answer.json().get("errors", [])]


def test_all_four_formats_are_taken_and_stored(daemon: Daemon) -> None:
    binary, header = oip_binary_body([GOOD])
    answers = [
        daemon.post(rows_body([GOOD])),
        daemon.post(columns_body([GOOD])),
        daemon.post(oip_json_body([GOOD]), content_type="application/json; charset=UTF-8"),
        daemon.post(
            binary, content_type="application/octet-stream", inference_header_content_length=str(header)
        ),
        daemon.post(binary, content_type="application/json", inference_header_content_length=str(header)),
        daemon.post(binary, content_type="-", inference_header_content_length=str(header)),
    ]
    for number, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == OK | {
            "id": f"anon-{number}",
            "accepted": 1,
            "rejected": 0,
            "idempotent": False,
        }
    assert [batch.rows for batch in daemon.port.stored.values()] == [1] * 6


def test_arrow_is_taken_as_stream_and_as_file(daemon: Daemon) -> None:
    tab = table([GOOD, dict(GOOD) | {"note": "\x00"}])
    wire = stream(tab)
    answer = daemon.post(wire, content_type="application/vnd.apache.arrow.stream", idempotency_key="a1")
    assert (answer.status_code, answer.json()["accepted"], pointers(answer)) == (200, 1, ["/columns/note/1"])
    again = daemon.post(
        gzip.compress(wire),
        content_type="application/vnd.apache.arrow.stream",
        content_encoding="gzip",
        idempotency_key="a1",
    )
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    bare = stream(tab.replace_schema_metadata(None), file=True)
    file = {"content_type": "application/vnd.apache.arrow.file"}
    assert daemon.post(bare, **file, driftd_model_version="3").json()["accepted"] == 1
    refused = daemon.post(bare, **file)
    assert (refused.status_code, pointers(refused)) == (422, ["/metadata/driftd.model_version"])
    assert daemon.post(bare, **file, driftd_model_version="").status_code == 400
    assert daemon.post(wire, **file).status_code == 400


def test_without_pyarrow_arrow_is_415_and_the_answer_names_the_extra(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    answer = daemon.post(stream(table([GOOD])), content_type="application/vnd.apache.arrow.stream")
    assert answer.status_code == 415
    assert "driftd[arrow]" in answer.json()["detail"]


def test_good_rows_are_stored_and_bad_ones_named(daemon: Daemon) -> None:
    answer = daemon.post(rows_body([GOOD, dict(GOOD) | {"age": "old"}, GOOD], id="b1"))
    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
    assert pointers(answer) == ["/rows/1/features/age"]
    assert daemon.port.stored["b1"].rows == 2


def test_nothing_accepted_is_422_and_nothing_is_stored(daemon: Daemon) -> None:
    answer = daemon.post(rows_body([dict(GOOD) | {"age": "old"}], id="b1"))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem == {
        "type": "about:blank",
        "title": problem["title"],
        "status": 422,
        "detail": "none of the 1 rows can be taken",
        "accepted": 0,
        "rejected": 1,
        "warnings": [],
        "errors": [{"pointer": "/rows/0/features/age", "detail": "expected a number or null, got text"}],
    }
    assert daemon.port.stored == {}


def test_a_retry_is_a_duplicate_and_another_body_a_conflict(daemon: Daemon) -> None:
    assert daemon.post(BODY).json() == OK | {"id": "b1", "accepted": 1, "rejected": 0, "idempotent": True}
    again = daemon.post(BODY)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    # Compressed or not, it is the same body.
    assert daemon.post(gzip.compress(BODY), content_encoding="gzip").json()["duplicate"] is True
    other = daemon.post(rows_body([GOOD, GOOD], id="b1"))
    assert (other.status_code, other.headers["content-type"]) == (422, "application/problem+json")
    assert len(daemon.port.stored) == 1


def test_a_retry_whose_rows_have_become_too_old_is_still_a_duplicate(daemon: Daemon) -> None:
    body = rows_body([dict(GOOD) | {"ts": NOW}], id="b1")
    assert daemon.post(body).json()["accepted"] == 1
    daemon.port.watermark = NOW + 2 * DAY
    late = daemon.post(body)
    assert (late.status_code, late.json()["duplicate"], late.json()["accepted"]) == (200, True, 1)
    assert daemon.post(rows_body([dict(GOOD) | {"ts": NOW}], id="b2")).status_code == 422


def test_the_idempotency_key_is_the_batch_id(daemon: Daemon) -> None:
    plain = rows_body([GOOD])
    assert daemon.post(plain, idempotency_key="k1").json()["id"] == "k1"
    assert daemon.post(plain, idempotency_key='"k1"').json()["duplicate"] is True
    assert daemon.post(BODY, idempotency_key="b1").status_code == 200
    assert daemon.post(BODY, idempotency_key="b2").status_code == 400
    assert daemon.post(plain, idempotency_key="").status_code == 400
    assert daemon.post(plain, idempotency_key="é").status_code == 400
    assert daemon.post(plain, idempotency_key="anon-1").status_code == 422
    assert list(daemon.port.stored) == ["k1", "b1"]


def test_an_unknown_version_is_kept_pending_its_baseline_within_a_bound(daemon: Daemon) -> None:
    answer = daemon.post(rows_body([GOOD], model_version="9", id="b9"))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert daemon.port.versions["9"].baseline is None
    assert daemon.port.stored["b9"].model_version == "9"
    large = rows_body([GOOD] * 800, model_version="10")
    assert daemon.post(large).json()["accepted"] == 800
    refused = daemon.post(rows_body([GOOD], model_version="11"))
    assert (refused.status_code, refused.json()["detail"]) == (422, "credit has 3 versions already")


HEADERS: list[tuple[dict[str, str], int]] = [
    ({"content_type": "-"}, 415),
    ({"content_type": "text/plain"}, 415),
    ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ({"content_type": "application/json; charset=utf-16"}, 415),
    ({"content_type": "application/octet-stream"}, 400),
    ({"inference_header_content_length": "12x"}, 400),
    ({"inference_header_content_length": "-1"}, 400),
    ({"inference_header_content_length": "+5"}, 400),
    ({"inference_header_content_length": "0_2"}, 400),
    ({"inference_header_content_length": "0"}, 400),
    ({"inference_header_content_length": "99999"}, 400),
    ({"inference_header_content_length": "9" * 400}, 400),
    ({"content_encoding": "br"}, 415),
    ({"content_encoding": "gzip, gzip"}, 415),
    ({"content_encoding": "gzip"}, 400),
    ({"content_encoding": "zstd"}, 400),
    ({"content_length": "-1"}, 400),
    ({"content_length": "+2"}, 400),
    ({"content_length": "0_2"}, 400),
    ({"content_length": "5"}, 400),
    ({"content_length": "99999999"}, 413),
]


@pytest.mark.parametrize(("headers", "status"), HEADERS)
def test_headers_that_lie_or_ask_too_much(daemon: Daemon, headers: dict[str, str], status: int) -> None:
    answer = daemon.post(BODY, **headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert daemon.port.stored == {}


def test_two_different_lengths_are_refused(daemon: Daemon) -> None:
    headers = [
        ("content-type", "application/json"),
        ("content-length", "3"),
        ("content-length", str(len(BODY))),
    ]
    assert daemon.request("POST", URL, BODY, headers).status_code == 400


BODIES: list[tuple[bytes, int, list[str]]] = [
    (b"", 400, []),
    (b"{", 400, []),
    (BODY.replace(b"44", b"NaN"), 400, []),
    (BODY.replace(b'"age"', b'"amount"'), 400, []),
    (b"[" * 60_000, 400, []),
    (b'{"model_version":"3","rows":' + b"[" * 90_000 + b"}", 400, []),
    (b"\xff\xfe", 400, []),
    (b"[]", 400, []),
    (b"{}", 422, ["/model_version"]),
    (BODY.replace(b"44", b"1e999"), 422, ["/rows/0/features/age"]),
    (BODY.replace(b"44", str(2**63).encode()), 422, ["/rows/0/features/age"]),
    (BODY.replace(b"Oslo", b"\\u0000"), 422, ["/rows/0/features/city"]),
    (BODY.replace(b"Oslo", b"\\ud800"), 422, ["/rows/0/features/city"]),
    (BODY.replace(b'"b1"', b'"\\ud800"'), 422, ["/id"]),
    (rows_body([dict(GOOD) | {"ts": "2026-03-01T11:00:00"}]), 422, ["/rows/0/ts"]),
    (rows_body([dict(GOOD) | {"ts": "9999-01-01T00:00:00Z"}]), 422, ["/rows/0/ts"]),
    (columns_body([GOOD]).replace(b"[44]", b"[44, 1]"), 422, ["/columns/age"]),
]


@pytest.mark.parametrize(("body", "status", "places"), BODIES)
def test_bad_bodies_have_their_status_and_places(
    daemon: Daemon, body: bytes, status: int, places: list[str]
) -> None:
    answer = daemon.post(body)
    assert (answer.status_code, pointers(answer)) == (status, places)
    assert daemon.port.stored == {}
    assert daemon.intake.inflight_bytes == 0


async def chunks(count: int, size: int, sent: list[int]) -> AsyncIterator[bytes]:
    for _ in range(count):
        sent.append(size)
        yield b" " * size


def test_a_chunked_body_is_cut_off_at_the_limit() -> None:
    daemon = Daemon(limits=IngestLimits(wire_bytes=10_000))
    sent: list[int] = []
    answer = daemon.post(chunks(1000, 1000, sent))
    assert answer.status_code == 413
    assert len(sent) < 20
    assert daemon.intake.inflight_bytes == 0


def test_compressed_bodies_are_taken_and_bombs_refused(daemon: Daemon) -> None:
    for number, (encoding, body) in enumerate(
        (("gzip", gzip.compress(BODY)), ("zstd", zstandard.compress(BODY)))
    ):
        answer = daemon.post(body, content_encoding=encoding, idempotency_key="b1")
        assert (answer.status_code, answer.json()["duplicate"]) == (200, number == 1)
    bomb = gzip.compress(bytes(200 * 2**20), 1)
    assert daemon.post(bomb, content_encoding="gzip").status_code == 413


def test_a_full_queue_is_429_and_lost_storage_503() -> None:
    for error, status in ((QueueFullError("full", 7), 429), (StorageUnavailableError("disk full", 7), 503)):
        for port in (MemoryPort(fail=error), MemoryPort(fail_later=error)):
            answer = Daemon(port).post(BODY)
            assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
            assert answer.json()["detail"] in ("full", "disk full")


def test_too_many_bytes_in_flight_are_429() -> None:
    daemon = Daemon(limits=IngestLimits(inflight_bytes=100))
    answer = daemon.post(BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert daemon.intake.inflight_bytes == 0


def test_small_and_large_bodies_give_the_same_answers() -> None:
    bodies = [BODY, rows_body([GOOD, dict(GOOD) | {"age": "x"}]), b"{", columns_body([GOOD] * 50)]
    inline, threaded = Daemon(), Daemon(limits=replace(IngestLimits(), inline_bytes=0))
    for body in bodies:
        first, second = inline.post(body), threaded.post(body)
        assert (first.status_code, first.json()) == (second.status_code, second.json())
    threaded.intake.close()


def test_a_body_that_never_ends_is_given_up() -> None:
    async def drip() -> AsyncIterator[bytes]:
        import asyncio

        yield b"{"
        await asyncio.Event().wait()

    daemon = Daemon(limits=IngestLimits(read_seconds=0.01))
    answer = daemon.post(drip())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    assert daemon.intake.inflight_bytes == 0


def test_a_client_that_goes_away_leaves_nothing() -> None:
    import asyncio

    daemon = Daemon()
    sent: list[Any] = []
    messages = iter(
        [{"type": "http.request", "body": BODY[:50], "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1), "server": None,
        "scheme": "http", "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(daemon.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert daemon.port.stored == {}
    assert daemon.intake.inflight_bytes == 0


def test_long_texts_of_the_sender_are_cut_in_answers(daemon: Daemon) -> None:
    body = json.dumps({"model_version": "3", "rows": [{"features": {}, "k" * 50_000: 1}]}).encode()
    answer = daemon.post(body)
    assert answer.status_code == 422
    assert len(answer.content) < 3000
