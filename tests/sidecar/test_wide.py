"""Images and long texts: a uniform sample of rows takes them along, every row ships the rest."""

import random
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import MonitoredSession, PredictionLogger
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._notices import Notices
from driftd_sidecar._wide import Allowance, WideLimits
from tests.sidecar import onnx_bytes
from tests.sidecar.fakes import Clock, FakeTransport, read_tensor

ROW_BYTES = 64


def allowance(per_second: int, clock: Clock) -> Allowance:
    limits = WideLimits(row_bytes=ROW_BYTES, bytes_per_second=per_second)
    return Allowance(limits, rng=random.Random(5), monotonic=clock.monotonic)


def test_the_bandwidth_is_kept_over_time_and_no_row_waits_for_ever() -> None:
    clock = Clock()
    wide = allowance(1000, clock)
    drawn = 0
    for _ in range(1000):
        drawn += len(wide.draw(1, 2500.0))  # a row larger than a second's worth
        clock.forward(0.1)
    assert 38 <= drawn <= 42  # 100 s at 1000 bytes a second
    clock.forward(10_000)
    assert len(wide.draw(100, 100.0)) == 100  # ten seconds' worth at most
    assert wide.draw(1, 1.0) == ()


def test_nothing_set_aside_means_none() -> None:
    clock = Clock()
    wide = allowance(0, clock)
    clock.forward(100)
    assert wide.draw(5, 100.0) == ()


def test_rows_are_drawn_uniformly() -> None:
    clock = Clock()
    wide = allowance(1000, clock)
    counts = np.zeros(10)
    for _ in range(4000):
        clock.forward(0.3)  # room for three of ten rows
        counts[list(wide.draw(10, 100.0))] += 1
    # Binomial(4000, 0.3): four standard deviations are 116.
    assert np.abs(counts - 1200).max() < 116


def shipped(wide: Allowance, **options: Any) -> list[tuple[int, dict[str, Any]]]:
    """Rows and decoded tensors of each call that one call becomes."""
    images = np.arange(4 * 50, dtype=np.float32).reshape(4, 50)
    names = np.array(["a", "b", "c", "d" * 10], object)
    calls = capture(
        {"image": images, "size": np.arange(4), "state": np.zeros((2, 4))},
        {"label": names, "p": [{"no": 0.25, "yes": value} for value in (0.1, 0.2, 0.3, 0.4)]},
        time_ns=np.arange(4), request_id=["r0", "r1", "r2", "r3"], tags={"region": "eu"}, wide=wide, **options,
    )  # fmt: skip
    found: list[tuple[int, dict[str, Any]]] = []
    for call in calls:
        (table,) = CallRecipe(notices=Notices(), tags={}).tables([(call,)])
        tensors = {
            tensor.name: np.array(read_tensor(tensor.datatype, [table.rows, *tensor.tail], tensor.data))
            for tensor in (*table.inputs, *table.outputs)
        }
        found.append((table.rows, tensors))
    return found


def test_one_call_becomes_two_that_hold_each_row_once() -> None:
    clock = Clock()
    wide = allowance(450, clock)  # two rows of 200 bytes
    (some, with_image), (rest, without) = shipped(wide)
    assert (some, rest) == (2, 2)
    rows = with_image["size"].tolist()
    np.testing.assert_array_equal(with_image["image"], np.arange(200, dtype=np.float32).reshape(4, 50)[rows])
    assert "image" not in without
    for found in (with_image, without):
        sizes = found["size"].tolist()
        assert found["driftd.ts"].tolist() == sizes
        assert found["driftd.id"].tolist() == [f"r{size}" for size in sizes]
        assert found["driftd.tag.region"].tolist() == ["eu", "eu"]
        assert found["label"].tolist() == [["a", "b", "c", "d" * 10][size] for size in sizes]
        np.testing.assert_allclose(found["p"][:, 1], [0.1 * (size + 1) for size in sizes], rtol=1e-6)
        assert "state" not in found
    assert sorted(rows + without["size"].tolist()) == [0, 1, 2, 3]


def test_all_rows_or_none() -> None:
    clock = Clock()
    ((rows, tensors),) = shipped(allowance(10_000, clock))
    assert (rows, "image" in tensors) == (4, True)
    ((rows, tensors),) = shipped(allowance(0, clock))
    assert (rows, "image" in tensors) == (4, False)


def test_long_texts_are_wide_and_count_with_their_length() -> None:
    clock = Clock()
    texts = np.array(["x" * 1000, "y" * 1000], object)
    (call,) = capture({"text": texts, "n": np.arange(2)}, {}, time_ns=1, wide=allowance(0, clock))
    assert list(call.inputs) == ["n"]
    (call,) = capture({"text": texts}, {}, time_ns=1)
    assert call.cost > 2000
    (call,) = capture({"text": np.array(["x" * 1000, None, 3], object)}, {}, time_ns=1)
    assert call.cost > 1000


@pytest.mark.parametrize("shape", [["N", 3, 8, 8], ["N", "length"]], ids=["fixed", "open"])
def test_a_session_ships_everything_but_the_pixels(shape: list[Any]) -> None:
    source = onnx_bytes.model(
        [onnx_bytes.node("Identity", ["small"], ["y"]), onnx_bytes.node("Identity", ["image"], ["z"])],
        [("small", onnx_bytes.FLOAT, ["N", 1]), ("image", onnx_bytes.FLOAT, shape)],
        [("y", onnx_bytes.FLOAT, ["N", 1]), ("z", onnx_bytes.FLOAT, shape)],
    )
    transport = FakeTransport()
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    sizes = [size if isinstance(size, int) else 192 for size in shape[1:]]
    image = np.ones((5, *sizes), np.float32)
    with MonitoredSession(
        source, transport=transport, wide_row_bytes=500, wide_bytes_per_second=0, **options
    ) as session:
        small = np.arange(5, dtype=np.float32).reshape(5, 1)
        session.run(None, {"small": small, "image": image})
        stats = session.stats()
    assert (stats.seen, stats.errors) == (5, 0)
    (sent,) = transport.sent
    np.testing.assert_array_equal(sent.inputs["small"], small)
    assert (list(sent.outputs), "image" in sent.inputs) == (["y"], False)


def test_values_that_are_no_tensor_cost_only_themselves(caplog: pytest.LogCaptureFixture) -> None:
    transport = FakeTransport()
    with PredictionLogger(
        model="m", version="1", endpoint="http://127.0.0.1:1", transport=transport
    ) as logger:
        ragged = [np.zeros((1, 2)), np.zeros((1, 3))]  # a sequence output
        logger.log({"x": np.ones(2), "words": [["a"], ["b", "c"]]}, {"sequence": ragged, "one": {"a": 1.0}})
    (sent,) = transport.sent
    assert (list(sent.inputs), list(sent.outputs)) == (["driftd.ts", "x"], [])
    assert logger.stats().errors == 0
    assert {record.getMessage().split("'")[1] for record in caplog.records} == {"words", "sequence", "one"}
