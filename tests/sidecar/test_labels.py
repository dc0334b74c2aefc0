"""Labels: what is taken, what is refused and counted, and that they are in no books of predictions."""

import json
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import MonitoredSession, PredictionLogger, Response, Stats
from driftd_sidecar._kind import Kind
from driftd_sidecar._labels import LabelLog
from driftd_sidecar._notices import Notices
from driftd_sidecar._spool import Frame, Spool
from tests.sidecar import onnx_bytes
from tests.sidecar.edge_fakes import EdgeBench, EdgeDaemon
from tests.sidecar.fakes import FakeTransport, Sent, close, ok
from tests.sidecar.test_shipping import Bench

MEBIBYTE = 1 << 20
PATHS = {kind: f"http://daemon/v1/models/m/{kind}" for kind in Kind}


class LabelBench(Bench):
    """A shipper without a thread that also takes labels."""

    def __init__(self, *answers: Response | Exception, **options: Any) -> None:
        super().__init__(*answers, **options)
        self.labels = LabelLog(
            buffer=self.buffer, notices=self.notices, clock=self.clock.wall_ns, joined=True
        )

    def label(self, request_id: Any, labels: Any, time_ns: Any = None) -> None:
        self.labels.log(request_id, labels, time_ns)

    def sent_to(self, kind: Kind) -> list[Sent]:
        return [sent for sent in self.transport.sent if sent.url == PATHS[kind]]

    def check_books(self) -> None:
        super().check_books()
        check_labels(self.buffer.stats())


def check_labels(stats: Stats) -> None:
    assert stats.labels_seen == stats.labels_sent + stats.labels_pending + stats.labels_dropped
    assert min(stats.labels_sent, stats.labels_pending, stats.labels_dropped) >= 0


def books(stats: Stats) -> tuple[int, int, int, int]:
    return stats.labels_seen, stats.labels_sent, stats.labels_pending, stats.labels_dropped


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        yield caplog


def test_labels_travel_by_request_id_to_an_address_of_their_own() -> None:
    bench = LabelBench()
    times = [1_767_225_600_000_000_000, 1_767_225_600_000_000_001]
    bench.label(["r-1", "r-2"], {"late": [1, 0], "minutes": np.array([[31.5], [-2.0]], np.float32)}, times)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert sent.url == PATHS[Kind.LABELS]
    assert list(sent.header) == ["id", "model_version", "parameters", "inputs", "outputs"]
    assert sent.header["model_version"] == "v7"
    assert sent.parameters == {"driftd": 1, "sent_at": "2026-01-01T00:00:00.900000Z"}
    assert [(each["name"], each["datatype"], each["shape"]) for each in sent.header["inputs"]] == [
        ("driftd.ts", "INT64", [2]),
        ("driftd.id", "BYTES", [2]),
    ]
    assert [(each["name"], each["datatype"], each["shape"]) for each in sent.header["outputs"]] == [
        ("late", "INT64", [2]),
        ("minutes", "FP32", [2]),
    ]
    assert sent.inputs["driftd.ts"].tolist() == times
    assert sent.inputs["driftd.id"] == ["r-1", "r-2"]
    assert sent.outputs["late"].tolist() == [1, 0]
    assert sent.outputs["minutes"].tolist() == [31.5, -2.0]
    assert sent.headers == {
        "Authorization": "Bearer t",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": sent.headers["Inference-Header-Content-Length"],
        "Idempotency-Key": sent.header["id"],
        "Date": sent.headers["Date"],
    }
    assert books(bench.buffer.stats()) == (2, 2, 0, 0)


@pytest.mark.parametrize(
    ("ids", "labels", "datatype", "found"),
    [
        ("r", 1, "INT64", [1]),
        ("r", 0.5, "FP64", [0.5]),
        ("r", "late", "BYTES", ["late"]),
        (b"r", True, "BOOL", [True]),
        ("r", [True], "BOOL", [True]),
        ("r", [[3]], "INT64", [3]),
        (["r"], np.float16(0.5), "FP16", [0.5]),
        (["r", "s"], ["on time", None], "BYTES", ["on time", ""]),
        (np.array(["r", "s"]), np.array(["a", "b"]), "BYTES", ["a", "b"]),
        (("r", 7), np.array([[1], [2]], np.uint8), "UINT8", [1, 2]),
    ],
)  # fmt: skip
def test_values_alone_are_of_the_prediction(ids: Any, labels: Any, datatype: str, found: list[Any]) -> None:
    bench = LabelBench()
    now = bench.clock.wall_ns()
    bench.label(ids, labels)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    (output,) = sent.header["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", datatype, [len(found)])
    assert list(sent.outputs["prediction"]) == found
    assert sent.inputs["driftd.ts"].tolist() == [now] * len(found)


@pytest.mark.parametrize("time", [5, np.datetime64(5, "ns"), np.array([5, 5]), [5, 5]], ids=str)
def test_a_time_is_one_for_all_or_one_for_each(time: Any) -> None:
    bench = LabelBench()
    bench.label(["r", "s"], [1, 2], time)
    bench.run(1.0)
    assert bench.transport.sent[0].inputs["driftd.ts"].tolist() == [5, 5]


def test_what_the_caller_does_next_does_not_matter() -> None:
    bench = LabelBench()
    ids, times = ["r", "s"], np.array([5, 6])
    values = {"a": np.array([1.0, 2.0]), "b": np.array(["x", "y"], object), "c": [True, False]}
    bench.label(ids, values, times)
    ids[0], times[0], values["a"][0], values["b"][0], values["c"][0] = "changed", 0, 9.0, "changed", False  # type: ignore[index]
    values.clear()
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert (sent.inputs["driftd.id"], sent.inputs["driftd.ts"].tolist()) == (["r", "s"], [5, 6])
    assert {name: list(found) for name, found in sent.outputs.items()} == {
        "a": [1.0, 2.0],
        "b": ["x", "y"],
        "c": [True, False],
    }


def test_labels_of_many_calls_share_a_batch() -> None:
    bench = LabelBench()
    for number in range(50):
        bench.label(f"r-{number}", number)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert sent.inputs["driftd.id"] == [f"r-{number}" for number in range(50)]
    assert sent.outputs["prediction"].tolist() == list(range(50))


def test_a_thousand_labels_do_not_wait_for_the_second_nor_for_predictions() -> None:
    bench = LabelBench()
    bench.log(999)
    bench.label([f"r-{number}" for number in range(999)], np.arange(999))
    bench.shipper.step()
    assert bench.transport.sent == []
    bench.label("r-999", 999)
    bench.shipper.step()
    assert [sent.url for sent in bench.transport.sent] == [PATHS[Kind.LABELS]]
    assert bench.transport.rows == 1000


def test_a_call_of_very_many_labels_is_sent_in_bodies_of_a_megabyte() -> None:
    bench = LabelBench()
    ids = [f"request-{number:09d}" for number in range(50_000)]
    bench.label(ids, np.arange(50_000))
    bench.run(3.0)
    assert len(bench.transport.sent) > 1
    assert max(len(sent.body) for sent in bench.transport.sent) < 1.1 * MEBIBYTE
    assert [each for sent in bench.transport.sent for each in sent.inputs["driftd.id"]] == ids
    assert books(bench.buffer.stats()) == (50_000, 50_000, 0, 0)


def test_long_texts_are_cut_by_their_bytes() -> None:
    bench = LabelBench()
    bench.label([f"r-{number}" for number in range(1000)], ["x" * 10_000] * 1000)
    bench.run(20.0)
    assert max(len(sent.body) for sent in bench.transport.sent) < 1.2 * MEBIBYTE
    assert sum(sent.rows for sent in bench.transport.sent) == 1000


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.zeros((2, 2)), r"its shape \(2, 2\)"),
        (np.zeros((1, 2)), r"its shape \(1, 2\)"),
        ([1, 2, 3], "one value for each request id, 2 here"),
        (1, r"its shape \(\) has not one value"),
        ([{"a": 0.5}, {"a": 0.25}], "a mapping is no label"),
        ({"a": 0.5}, "a mapping is no label"),
        ([[1], [2, 3]], "inhomogeneous"),
        (np.array([1j, 2j]), "no datatype for complex128"),
        ([object(), object()], "a object has no text of its own"),
    ],
)
def test_a_column_that_is_no_labels_is_left_out_and_named_once(
    warnings: pytest.LogCaptureFixture, value: Any, why: str
) -> None:
    bench = LabelBench()
    for _ in range(2):
        bench.label(["r", "s"], {"late": [1, 0], "other": value})
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert (sent.rows, list(sent.outputs)) == (4, ["late"])
    assert len(warnings.records) == 1
    assert warnings.records[0].getMessage().startswith("labels of 'other' are not shipped: ")
    assert re.search(why, warnings.text)
    bench.label(["r", "s"], value if not isinstance(value, dict) else {"other": value})
    bench.run(1.0)
    assert books(bench.buffer.stats()) == (6, 4, 0, 2)
    assert "there is no column with a value for each request id" in warnings.text


def test_a_reserved_name_is_no_column(warnings: pytest.LogCaptureFixture) -> None:
    bench = LabelBench()
    bench.label("r", {"driftd.id": "other", "late": 1})
    bench.run(1.0)
    assert list(bench.transport.sent[0].outputs) == ["late"]
    assert "reserved" in warnings.text


def test_a_label_without_a_request_id_is_an_error(warnings: pytest.LogCaptureFixture) -> None:
    bench = LabelBench()
    bench.label(["r", "", None, "s", b"", float("nan")], [1, 2, 3, 4, 5, 6], range(6))
    bench.label("", 7)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert sent.inputs["driftd.id"] == ["r", "s"]
    assert sent.inputs["driftd.ts"].tolist() == [0, 3]
    assert sent.outputs["prediction"].tolist() == [1, 4]
    assert books(bench.buffer.stats()) == (7, 2, 0, 5)
    assert [each.getMessage() for each in warnings.records] == [
        "labels are dropped: their request id is empty"
    ]


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ((["r", "s"], [1, 2], 0.5), 2),
        ((["r", "s"], [1, 2], [1, 2, 3]), 2),
        ((["r", object()], [1, 2]), 2),
        ((7, 1), 1),
        ((None, None), 1),
        ((["r", "s"], {3: [1, 2]}), 2),
        ((["r", "s"], {}), 2),
    ],
)
def test_misuse_costs_its_own_labels_and_never_raises(
    warnings: pytest.LogCaptureFixture, arguments: Any, rows: int
) -> None:
    bench = LabelBench()
    bench.label(*arguments)
    bench.label("good", 1)
    bench.run(1.0)
    assert bench.transport.sent[0].inputs["driftd.id"] == ["good"]
    assert books(bench.buffer.stats()) == (1 + rows, 1, 0, rows)
    assert "labels are dropped" in warnings.text


def test_no_labels_are_nothing() -> None:
    bench = LabelBench()
    bench.label([], [])
    bench.run(1.0)
    assert bench.transport.sent == []
    assert books(bench.buffer.stats()) == (0, 0, 0, 0)


# Their books, and those of the predictions.


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
    bench = LabelBench(ok(accepted=1, rejected=2))
    bench.label(["a", "b", "c"], [1, 2, 3])
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.labels_sent, stats.labels_rejected, stats.rejected) == (3, 2, 0)
    assert "rejected 2 labels" in warnings.text


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


def test_a_flush_waits_for_labels() -> None:
    transport = FakeTransport()
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    with PredictionLogger(transport=transport, flush_seconds=60, **options) as logger:
        logger.log_labels(["a", "b"], [1, 2])
        assert logger.flush(10)
        assert books(logger.stats()) == (2, 2, 0, 0)
        transport.always = lambda _: Response(status=422)
        logger.log_labels("c", 3)
        assert not logger.flush(10)
    assert books(logger.stats()) == (3, 2, 0, 1)
    assert {sent.url for sent in transport.sent} == {"http://127.0.0.1:1/v1/models/m/labels"}


def test_a_closed_logger_drops_labels_and_counts_them() -> None:
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    down = FakeTransport()
    down.always = lambda _: OSError("down")
    logger = PredictionLogger(transport=down, **options)
    logger.log_labels("a", 1)
    assert not logger.flush(0.05)
    close(logger, 0.05)
    logger.log_labels(["b", "c"], [1, 2])
    assert logger.flush(0.05)  # nothing waits any more
    assert books(logger.stats()) == (3, 0, 0, 3)
    assert logger.stats().seen == 0


def test_a_clock_that_raises_costs_labels_not_the_caller() -> None:
    def broken() -> int:
        raise RuntimeError("no clock")

    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    with PredictionLogger(transport=FakeTransport(), clock=broken, **options) as logger:
        logger.log_labels(["a", "b"], [1, 2])
        logger.log_labels("c", 3, time_ns=5)
    assert books(logger.stats()) == (3, 1, 0, 2)


def test_a_session_takes_labels_by_the_ids_of_its_calls() -> None:
    transport = FakeTransport()
    options: dict[str, Any] = {"endpoint": "http://127.0.0.1:1", "transport": transport}
    with MonitoredSession(onnx_bytes.classifier(), model="m", version="1", **options) as session:
        features = np.ones((2, 30), np.float32)
        session.run_tagged(None, {"features": features}, request_id=["a", "b"])
        session.log_labels(["a", "b"], {"label": [0, 1]}, time_ns=7)
        assert session.flush(10)
    by_url = {sent.url.rsplit("/", 1)[1]: sent for sent in transport.sent}
    assert by_url["predictions"].inputs["driftd.id"] == by_url["labels"].inputs["driftd.id"] == ["a", "b"]
    assert by_url["labels"].outputs["label"].tolist() == [0, 1]
    assert by_url["labels"].inputs["driftd.ts"].tolist() == [7, 7]


def test_in_edge_mode_labels_are_dropped_counted_and_said_once(warnings: pytest.LogCaptureFixture) -> None:
    daemon = EdgeDaemon(None)
    options: dict[str, Any] = {"endpoint": "http://127.0.0.1:1", "transport": daemon}
    with PredictionLogger(model="m", version="v7", mode="edge", **options) as logger:
        logger.log_labels(["a", "b"], [1, 2])
        logger.log_labels("c", 3)
        assert logger.flush(10)
    assert books(logger.stats()) == (3, 0, 0, 3)
    assert [each.getMessage() for each in warnings.records] == [
        "labels are dropped: in edge mode no rows reach the daemon that they could be joined to"
    ]
    assert daemon.taken == []


# In the spool.


def down(_: Any) -> Exception:
    return OSError("down")


def spooling(folder: Path, **options: Any) -> LabelBench:
    return LabelBench(spool=Spool(folder, 1 << 24, Notices()), **options)


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
