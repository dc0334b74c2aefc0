"""Labels: what is taken, in which form it travels, and what is refused and counted."""

import logging
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import MonitoredSession, PredictionLogger, Response
from driftd_sidecar._kind import Kind
from tests.sidecar import onnx_bytes
from tests.sidecar.edge_fakes import EdgeDaemon
from tests.sidecar.fakes import FakeTransport, close
from tests.sidecar.label_fakes import MEBIBYTE, PATHS, LabelBench, books


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
