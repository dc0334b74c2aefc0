"""Labels on their way: books of their own, a pace of their own, and the spool."""

import json
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import PredictionLogger, Response
from driftd_sidecar._calls import capture
from driftd_sidecar._kind import Kind
from driftd_sidecar._notices import Notices
from driftd_sidecar._spool import Frame, Spool
from tests.sidecar.edge_fakes import EdgeBench, EdgeDaemon
from tests.sidecar.fakes import FakeTransport, Sent, close, ok
from tests.sidecar.label_fakes import MEBIBYTE, PATHS, LabelBench, books, down, spooling


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        yield caplog


def test_the_books_of_predictions_do_not_contain_labels() -> None:
    bench = LabelBench(Response(status=404), Response(status=404))
    bench.log(10)
    bench.label(["a", "b", ""], [1, 2, 3])
    bench.run(1.0)  # both are given up
    bench.log(20)
    bench.label("c", 4)
    bench.run(1.0)
    told = [sent.parameters for sent in bench.sent_to(Kind.PREDICTIONS)][-1]
    assert (told["seen"], told["kept"], told["dropped"]) == (30, 20, 10)
    stats = bench.buffer.stats()
    assert (stats.seen, stats.kept, stats.dropped, stats.sent) == (30, 20, 10, 20)
    assert (stats.gave_up, stats.errors, stats.overflowed, stats.rejected) == (10, 0, 0, 0)
    assert books(stats) == (4, 1, 0, 3)
    bench.check_books()


def test_labels_alone_tell_nothing_of_what_predictions_lost() -> None:
    bench = LabelBench()
    bench.buffer.count_error(5, admitted=False)
    bench.buffer.count_failed_inference()
    bench.label("a", 1)
    bench.run(1.0)
    assert set(bench.transport.sent[0].parameters) == {"driftd", "sent_at"}
    bench.log(1)
    bench.run(1.0)
    told = bench.transport.sent[1].parameters
    assert (told["seen"], told["dropped"], told["failed_inferences"]) == (6, 5, 1)


@pytest.mark.parametrize("failure", [OSError("down"), *(Response(status=code) for code in (408, 429, 503))])
def test_a_transient_failure_sends_the_same_bytes_to_the_same_address(failure: Response | Exception) -> None:
    bench = LabelBench(failure, failure)
    bench.label(["a", "b"], [1, 2])
    bench.run(5.0)
    assert len({(sent.url, sent.body, sent.headers["Idempotency-Key"]) for sent in bench.transport.sent}) == 1
    stats = bench.buffer.stats()
    assert (stats.retries, stats.batches) == (2, 1)
    assert books(stats) == (2, 2, 0, 0)


def test_a_refusal_is_counted_and_said_once_in_the_words_of_the_daemon(
    warnings: pytest.LogCaptureFixture,
) -> None:
    bench = LabelBench()
    refusal = Response(
        status=422, body=b'{"status": 422, "detail": "labels_mature_after is off for\\nthis model"}'
    )
    bench.transport.always = lambda sent: ok() if sent.url == PATHS[Kind.PREDICTIONS] else refusal
    for number in range(3):
        bench.label([f"a-{number}", f"b-{number}"], [1, 2])
        bench.log(1)
        bench.run(1.0)
    bench.transport.always = lambda _: Response(status=422, body=b"[]")
    bench.log(1)
    bench.run(1.0)
    assert [each.getMessage() for each in warnings.records] == [
        "a batch of 2 labels is given up: HTTP 422: labels_mature_after is off for this model",
        "a batch of 1 rows is given up: HTTP 422",
    ]
    assert books(bench.buffer.stats()) == (6, 0, 0, 6)
    assert (bench.buffer.stats().sent, bench.buffer.stats().dropped) == (3, 1)


def test_labels_the_daemon_calls_invalid_are_counted_apart(warnings: pytest.LogCaptureFixture) -> None:
    bench = LabelBench(ok(accepted=1, rejected=2), ok(rejected=5))
    bench.label(["a", "b", "c"], [1, 2, 3])
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.labels_sent, stats.labels_rejected, stats.rejected) == (3, 2, 0)
    assert "rejected 2 labels" in warnings.text
    bench.log(10)
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.labels_rejected, stats.rejected) == (2, 5)
    assert "rejected 5 rows" in warnings.text


def test_labels_that_cannot_be_encoded_are_in_their_own_books(warnings: pytest.LogCaptureFixture) -> None:
    bench = LabelBench()
    (call,) = capture({}, {"late": np.ones(3)}, time_ns=1, request_id=["too", "few"])
    bench.buffer.offer(bench.labels._lane, (call,))
    bench.log(1)
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (books(stats), stats.seen, stats.errors) == ((3, 0, 0, 3), 1, 0)
    assert "labels are dropped, not encodable" in warnings.text


def test_labels_are_never_thinned_and_go_only_when_nothing_fits(warnings: pytest.LogCaptureFixture) -> None:
    bench = LabelBench(buffer_bytes=MEBIBYTE)
    for number in range(200):
        bench.log(1)
        bench.label(f"r-{number}", number)
    assert books(bench.buffer.stats()) == (200, 0, 200, 0)
    before = bench.buffer.stats().pending_bytes
    assert before < MEBIBYTE // 2
    bench.buffer.recharge(int(0.8 * MEBIBYTE) - before)  # where predictions are kept with probability 1/4
    for number in range(50):
        bench.log(1)
        bench.label(f"s-{number}", number)
    stats = bench.buffer.stats()
    assert books(stats) == (250, 0, 250, 0)
    assert stats.sampled_out > 20
    bench.label([f"t-{number}" for number in range(20_000)], np.arange(20_000))
    stats = bench.buffer.stats()
    assert 1000 <= stats.labels_dropped < 20_000
    assert stats.labels_dropped % 100 == 0  # by pieces, not all of them for one that is too many
    assert stats.overflowed == 0
    assert "labels are dropped: the buffer is full" in warnings.text
    bench.check_books()


@pytest.mark.parametrize("stuck", list(Kind))
@pytest.mark.parametrize(
    "answer", [Response(status=503), Response(status=429, headers={"Retry-After": "300"})], ids=["503", "429"]
)
def test_one_kind_that_is_not_taken_does_not_hold_up_the_other(stuck: Kind, answer: Response) -> None:
    (other,) = set(Kind) - {stuck}
    bench = LabelBench()
    bench.transport.always = lambda sent: answer if sent.url == PATHS[stuck] else ok()
    for number in range(20):
        bench.log(1)
        bench.label(f"r-{number}", number)
        bench.run(1.0)
    assert sum(sent.rows for sent in bench.sent_to(other)) == 20
    assert len({sent.body for sent in bench.sent_to(stuck)}) == 1
    bench.transport.always = lambda _: ok()
    bench.run(301.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.labels_sent, stats.pending, stats.labels_pending) == (20, 20, 0, 0)
    assert stats.pending_bytes == 0


def test_what_happened_first_is_told_first_when_the_daemon_answers_again() -> None:
    bench, alone = LabelBench(), LabelBench()
    for each in (bench, alone):
        each.transport.always = down
    for number in range(60):
        for each in (bench, alone):
            each.log(1, value=number)
        bench.label(f"r-{number}", number)
        for each in (bench, alone):
            each.run(1.0)
    assert (
        5 < len(bench.transport.sent) <= len(alone.transport.sent) + 1
    )  # no more attempts than without labels
    bench.transport.sent.clear()
    bench.transport.always = lambda _: ok()
    bench.run(40.0)
    told = [
        int(sent.outputs["prediction"][0] if "/labels" in sent.url else sent.inputs["x"][0, 0])
        for sent in bench.transport.sent
    ]
    assert told == sorted(told)
    assert [sent.url for sent in bench.transport.sent] == [PATHS[kind] for kind in Kind] * 60


def test_silence_does_not_shorten_what_the_daemon_asked_for() -> None:
    bench = LabelBench()
    asked = Response(status=429, headers={"Retry-After": "60"})
    bench.transport.always = lambda sent: asked if "/labels" in sent.url else OSError("down")
    bench.label("r", 1)
    bench.run(1.0)
    bench.log(1)
    bench.run(50.0)
    assert len(bench.sent_to(Kind.LABELS)) == 1
    assert len(bench.sent_to(Kind.PREDICTIONS)) > 3
    bench.run(15.0)
    assert len(bench.sent_to(Kind.LABELS)) == 2


def test_labels_that_are_not_taken_make_room_for_others_by_the_oldest_of_their_own() -> None:
    bench = LabelBench(buffer_bytes=MEBIBYTE, batch_bytes=65_536)
    bench.transport.always = lambda sent: Response(status=503) if "/labels" in sent.url else ok()
    for number in range(200):
        bench.log(10)
        bench.label([f"{number:06d}-{row}" for row in range(500)], np.full(500, number))
        bench.run(0.5)
        assert bench.buffer.stats().pending_bytes <= MEBIBYTE
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.seen, stats.sent + stats.sampled_out, stats.gave_up) == (2000, 2000, 0)
    assert stats.labels_dropped > 50_000
    bench.check_books()
    bench.transport.always = lambda _: ok()
    bench.transport.sent.clear()
    bench.run(60.0)
    kept = {value for sent in bench.sent_to(Kind.LABELS)[1:] for value in sent.outputs["prediction"].tolist()}
    # The newest; the first batch, whose answers may have been lost, was kept as well.
    assert 100 < min(kept) < max(kept)
    assert max(kept) > 195
    bench.check_books()
    assert bench.buffer.stats().labels_pending == 0


def test_a_spool_takes_what_is_not_taken_elsewhere_and_nothing_else(tmp_path: Path) -> None:
    bench = spooling(tmp_path)
    bench.transport.always = lambda sent: Response(status=503) if "/labels" in sent.url else ok()
    for number in range(5):
        bench.log(2)
        bench.label(f"r-{number}", number)
        bench.run(1.0)
        assert bench.buffer.stats().spooled == 0
    assert len(list(tmp_path.rglob("*.batch"))) == 5
    assert (bench.buffer.stats().sent, bench.buffer.stats().labels_pending) == (10, 5)


def test_labels_wait_on_disk_and_the_next_process_sends_them_where_they_belong(tmp_path: Path) -> None:
    dead = spooling(tmp_path)
    dead.transport.always = down
    dead.log(3)
    dead.label(["a", "b"], [1, 2])
    dead.run(3.0)
    stats = dead.buffer.stats()
    assert (stats.spooled, stats.pending, stats.labels_spooled) == (3, 3, 2)
    assert books(stats) == (2, 0, 2, 0)
    assert len(list(tmp_path.rglob("*.batch"))) == 2
    dead.shipper._abandon()
    assert books(dead.buffer.stats()) == (2, 0, 2, 0)
    bench = spooling(tmp_path)
    bench.run(5.0)
    assert [(sent.url, sent.rows) for sent in bench.transport.sent] == [
        (PATHS[Kind.PREDICTIONS], 3),
        (PATHS[Kind.LABELS], 2),
    ]
    assert bench.sent_to(Kind.LABELS)[0].inputs["driftd.id"] == ["a", "b"]
    stats = bench.buffer.stats()
    assert (stats.recovered, stats.labels_recovered) == (3, 2)
    assert (stats.seen, stats.sent, books(stats), stats.pending_bytes) == (0, 0, (0, 0, 0, 0), 0)


def test_labels_are_not_written_to_disk_for_an_outage_that_is_over(tmp_path: Path) -> None:
    bench = spooling(tmp_path)
    bench.transport.always = down
    bench.log(1)
    bench.run(5.0)
    bench.transport.always = lambda _: ok()
    bench.run(31.0)
    assert bench.buffer.stats().sent == 1

    def on_disk(_: Sent) -> Response:
        assert list(tmp_path.rglob("*.batch")) == []
        return ok()

    bench.transport.always = on_disk
    bench.label("a", 1)
    bench.run(1.0)
    assert books(bench.buffer.stats()) == (1, 1, 0, 0)


def test_a_flush_after_the_end_is_false_while_labels_wait_on_disk(tmp_path: Path) -> None:
    transport = FakeTransport()
    transport.always = down
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    logger = PredictionLogger(transport=transport, spool_dir=tmp_path, **options)
    logger.log_labels(["a", "b"], [1, 2])
    close(logger, 0.05)
    assert books(logger.stats()) == (2, 0, 2, 0)
    assert not logger.flush(0.05)


def test_a_file_of_the_version_before_holds_predictions(tmp_path: Path) -> None:
    bench = spooling(tmp_path)
    bench.transport.always = down
    bench.log(3)
    bench.run(3.0)
    (path,) = tmp_path.rglob("*.batch")
    path.write_bytes(without_kind(path.read_bytes()))
    bench.transport.always = lambda _: ok()
    bench.run(40.0)
    assert {sent.url for sent in bench.transport.sent} == {PATHS[Kind.PREDICTIONS]}
    assert bench.buffer.stats().sent == 3


def without_kind(raw: bytes) -> bytes:
    """The file as it was written before there were kinds: magic, two lengths, CRC-32, JSON, body."""
    magic, meta_bytes, body_bytes, _ = struct.unpack_from("<8sIQI", raw)
    meta, body = json.loads(raw[24 : 24 + meta_bytes]), raw[24 + meta_bytes :]
    assert meta.pop("kind") == "predictions"
    written = json.dumps(meta).encode()
    return struct.pack("<8sIQI", magic, len(written), body_bytes, zlib.crc32(written + body)) + written + body


def test_a_file_of_a_kind_not_known_yet_is_set_aside(tmp_path: Path) -> None:
    class Later(str):
        __slots__ = ()

    spool = Spool(tmp_path, 1 << 20, Notices())
    kind: Any = Later("explanations")
    path = spool.write(Frame(id="id-1", rows=1, header_bytes=2, body=b"{}", kind=kind))
    assert path is not None
    assert spool.read(path) is None
    assert [each.suffix for each in tmp_path.rglob("id-1*")] == [".corrupt"]


def test_a_forked_child_leaves_labels_to_its_parent() -> None:
    bench = LabelBench()
    bench.transport.always = down
    bench.label("a", 1)
    bench.run(2.0)
    bench.label("b", 2)
    bench.shipper.reset_after_fork()
    assert books(bench.buffer.stats()) == (0, 0, 0, 0)
    bench.transport.sent.clear()
    bench.transport.always = lambda _: ok()
    bench.label("c", 3)
    bench.run(2.0)
    assert [sent.inputs["driftd.id"] for sent in bench.transport.sent] == [["c"]]


def test_an_edge_process_sends_the_labels_that_a_dead_one_left(tmp_path: Path) -> None:
    dead = spooling(tmp_path)
    dead.transport.always = down
    dead.label("a", 1)
    dead.run(3.0)
    dead.shipper._abandon()
    sent: list[str] = []

    class Daemon(EdgeDaemon):
        def send(self, url: str, body: bytes, headers: Any, timeout: float) -> Response:
            sent.append(url)
            return ok()

    bench = EdgeBench(Daemon(None), spool=Spool(tmp_path, 1 << 24, Notices()))
    bench.run(3.0)
    assert sent == ["http://daemon/labels"]
    assert bench.buffer.stats().labels_recovered == 1
