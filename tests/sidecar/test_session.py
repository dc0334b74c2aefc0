"""MonitoredSession against real models: the outputs are untouched, the rows arrive, nothing of ours is raised."""

import gc
import hashlib
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.datasets import get_example

from driftd_sidecar import MonitoredSession
from tests.sidecar import onnx_bytes
from tests.sidecar.fakes import FakeTransport

IRIS = get_example("logreg_iris.onnx")
ROWS = np.array([[0.1, 5.0], [2.0, 0.3], [7.0, 7.0]], np.float32)


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def options(transport: FakeTransport) -> dict[str, Any]:
    return {"model": "m", "endpoint": "http://127.0.0.1:1", "transport": transport, "flush_seconds": 0.05}


def joined(transport: FakeTransport, section: str, name: str) -> Any:
    return np.concatenate([getattr(sent, section)[name] for sent in transport.sent])


def test_outputs_are_bit_identical_with_and_without_the_sidecar(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    for source, name in (
        (onnx_bytes.classifier(), "features"),
        (get_example("mul_1.onnx"), "X"),
        (IRIS, "float_input"),
    ):
        bare = onnxruntime.InferenceSession(source)
        with MonitoredSession(source, **options) as monitored:
            width = bare.get_inputs()[0].shape[1]
            for _ in range(20):
                feed = {name: rng.normal(size=(3, width)).astype(np.float32)}
                for names in (None, [output.name for output in bare.get_outputs()]):
                    expected, found = bare.run(names, feed), monitored.run(names, feed)
                    assert len(expected) == len(found)
                    for one, other in zip(expected, found, strict=True):
                        assert type(one) is type(other)
                        if isinstance(one, np.ndarray):
                            assert one.dtype == other.dtype
                            assert one.tobytes() == other.tobytes()
                        else:
                            assert one == other


def test_rows_arrive_as_the_model_saw_them(options: dict[str, Any], transport: FakeTransport) -> None:
    rng = np.random.default_rng(6)
    ticks = iter(range(10**6))
    calls: list[tuple[Any, list[Any]]] = []
    with MonitoredSession(onnx_bytes.classifier(), clock=lambda: next(ticks), **options) as session:
        for count in (1, 1, 64, 0, 1, 7) * 20:
            features = rng.normal(size=(count, 30)).astype(np.float32)
            calls.append((features.copy(), session.run(None, {"features": features})))
            calls[-1] = (calls[-1][0], [each.copy() for each in calls[-1][1]])
            features[:] = -1  # the caller reuses its array at once
        assert session.flush(10)
        stats = session.stats()
    assert stats.seen == stats.sent == transport.rows == 20 * 74
    np.testing.assert_array_equal(
        joined(transport, "inputs", "features"), np.concatenate([x for x, _ in calls])
    )
    np.testing.assert_array_equal(
        joined(transport, "outputs", "label"), np.concatenate([y[0] for _, y in calls])
    )
    np.testing.assert_array_equal(
        joined(transport, "outputs", "probabilities"), np.concatenate([y[1] for _, y in calls])
    )
    times = joined(transport, "inputs", "driftd.ts")
    assert times.tolist() == [i for i, (x, _) in enumerate(calls) for _ in range(len(x))]


@pytest.mark.parametrize(
    "features",
    [
        np.asfortranarray(np.arange(60, dtype=np.float32).reshape(2, 30)),
        np.arange(120, dtype=np.float32).reshape(2, 60)[:, ::2],
        np.ma.masked_less(np.arange(60, dtype=np.float32).reshape(2, 30), 5),
        onnxruntime.OrtValue.ortvalue_from_numpy(np.arange(60, dtype=np.float32).reshape(2, 30)),
        np.arange(60, dtype=np.float32).reshape(2, 30).tolist(),
    ],
    ids=["fortran", "strided", "masked", "OrtValue", "list"],
)
def test_every_kind_of_input_that_the_session_takes(
    options: dict[str, Any], transport: FakeTransport, features: Any
) -> None:
    plain = np.array(features.numpy() if hasattr(features, "numpy") else getattr(features, "data", features))
    expected = (
        np.array(features, np.float32) if isinstance(features, np.ndarray) else plain.astype(np.float32)
    )
    with MonitoredSession(onnx_bytes.classifier(), **options) as session:
        session.run(None, {"features": features})
    (sent,) = transport.sent
    assert sent.header["inputs"][1]["datatype"] == "FP32"
    np.testing.assert_array_equal(sent.inputs["features"], expected)


@pytest.mark.parametrize(
    ("element", "values", "datatype"),
    [
        (onnx_bytes.BOOL, np.array([[True, False]]), "BOOL"),
        (onnx_bytes.INT64, np.array([[2**60, -1]]), "INT64"),
        (onnx_bytes.DOUBLE, np.array([[0.1, -0.0]]), "FP64"),
        (onnx_bytes.FLOAT16, np.array([[1.5, 65504]], np.float16), "FP16"),
        (onnx_bytes.STRING, np.array([["Zürich", ""]], object), "BYTES"),
    ],
    ids=["bool", "int64", "double", "float16", "string"],
)
def test_every_element_type(
    options: dict[str, Any], transport: FakeTransport, element: int, values: Any, datatype: str
) -> None:
    with MonitoredSession(onnx_bytes.identity(element, ["N", 2]), **options) as session:
        session.run(None, {"x": values})
    (sent,) = transport.sent
    for section in (sent.inputs["x"], sent.outputs["y"]):
        assert np.array(section).ravel().tolist() == values.ravel().tolist()
    assert [each["datatype"] for each in sent.header["outputs"]] == [datatype]


def test_a_zipmap_arrives_as_a_probability_tensor(options: dict[str, Any], transport: FakeTransport) -> None:
    with MonitoredSession(IRIS, **options) as session:
        for _ in range(4):
            labels, maps = session.run(None, {"float_input": ROWS})
            expected = np.array([[row[key] for key in sorted(row)] for row in maps], np.float32)
            maps[0].clear()  # the caller may do what it likes with its dicts
    np.testing.assert_array_equal(joined(transport, "outputs", "probabilities"), np.tile(expected, (4, 1)))
    np.testing.assert_array_equal(joined(transport, "outputs", "label"), np.tile(labels, 4))


def test_several_inputs_and_a_subset_of_outputs(options: dict[str, Any], transport: FakeTransport) -> None:
    source = onnx_bytes.model(
        [onnx_bytes.node("Add", ["a", "b"], ["sum"]), onnx_bytes.node("Sub", ["a", "b"], ["difference"])],
        [("a", onnx_bytes.FLOAT, ["N", 2]), ("b", onnx_bytes.FLOAT, ["N", 2])],
        [("sum", onnx_bytes.FLOAT, ["N", 2]), ("difference", onnx_bytes.FLOAT, ["N", 2])],
    )
    feed = {"b": ROWS * 2, "a": ROWS}
    with MonitoredSession(source, **options) as session:
        session.run(["difference"], feed)
        session.flush(10)
        session.run(["difference", "sum"], feed)
        session.flush(10)
        session.run([], feed)
    subset, swapped, everything = transport.sent
    assert [list(sent.outputs) for sent in transport.sent] == [
        ["difference"], ["difference", "sum"], ["sum", "difference"],
    ]  # fmt: skip
    for sent in (subset, swapped, everything):
        np.testing.assert_array_equal(sent.inputs["a"], ROWS)
        np.testing.assert_array_equal(sent.inputs["b"], ROWS * 2)
        np.testing.assert_array_equal(sent.outputs["difference"], -ROWS)
    np.testing.assert_array_equal(everything.outputs["sum"], ROWS * 3)


def test_a_model_that_fixes_no_shape_is_captured_too(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    with MonitoredSession(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", "F"]), **options) as session:
        session.run(None, {"x": ROWS})
        session.run(None, {"x": ROWS[:, :1]})
    shapes = sorted(sent.inputs["x"].shape for sent in transport.sent)
    assert shapes == [(3, 1), (3, 2)]


def test_run_async_is_captured_when_the_results_arrive(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    arrived: list[Any] = []
    done = threading.Event()

    def callback(results: Any, data: Any, error: str) -> None:
        arrived.append((results, data, error))
        done.set()

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = 2
    with MonitoredSession(onnx_bytes.classifier(), sess_options=threads, **options) as session:
        session.run_async(None, {"features": np.ones((2, 30), np.float32)}, callback, "mine")
        assert done.wait(20)
    (results, data, error) = arrived[0]
    assert (data, error) == ("mine", "")
    np.testing.assert_array_equal(joined(transport, "outputs", "probabilities"), results[1])


def test_run_with_ort_values_is_captured_in_host_memory(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    with MonitoredSession(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]), **options) as session:
        value = onnxruntime.OrtValue.ortvalue_from_numpy(ROWS)
        (result,) = session.run_with_ort_values(None, {"x": value})
        np.testing.assert_array_equal(result.numpy(), ROWS)
    np.testing.assert_array_equal(joined(transport, "outputs", "y"), ROWS)


def test_io_binding_works_and_says_once_that_it_is_not_seen(
    options: dict[str, Any], transport: FakeTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with MonitoredSession(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]), **options) as session:
        for _ in range(3):
            binding = session.io_binding()
            binding.bind_cpu_input("x", ROWS)
            binding.bind_output("y")
            session.run_with_iobinding(binding)
            np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], ROWS)
    assert session.stats().unseen_calls == 3
    assert [each.getMessage().split(":")[0] for each in caplog.records] == ["run_with_iobinding"]
    assert transport.sent == []


def test_everything_else_is_the_sessions_own(options: dict[str, Any]) -> None:
    real = onnxruntime.InferenceSession(IRIS)
    with MonitoredSession(real, version="1", **options) as session:
        assert session.get_providers() == real.get_providers()
        assert session.get_inputs()[0].name == "float_input"
        assert session.get_modelmeta().producer_name == "OnnxMLTools"
        with pytest.raises(AttributeError):
            session.no_such_thing  # noqa: B018
        session.run(output_names=None, input_feed={"float_input": ROWS}, run_options=onnxruntime.RunOptions())
    assert session.run(None, {"float_input": ROWS})  # closed: it goes on serving
    assert session.stats().overflowed == 3


def test_code_that_asks_for_an_inference_session_is_content(options: dict[str, Any]) -> None:
    with MonitoredSession(onnx_bytes.classifier(), **options) as session:
        assert isinstance(session, onnxruntime.InferenceSession)
        assert isinstance(session, MonitoredSession)
        assert type(session) is MonitoredSession
        nested = MonitoredSession(session, version="2", **options)
        assert len(nested.run(None, {"features": np.ones((2, 30), np.float32)})) == 2
        nested.close()
        assert nested.stats().sent == session.stats().seen == 2


def test_a_tagged_run_brings_ids_and_tags(options: dict[str, Any], transport: FakeTransport) -> None:
    features = np.ones((2, 30), np.float32)
    bare = onnxruntime.InferenceSession(onnx_bytes.classifier())
    with MonitoredSession(bare, version="1", **options) as session:
        found = session.run_tagged(None, {"features": features}, request_id=["a", "b"], tags={"region": "eu"})
        session.flush(10)
        (label,) = session.run_tagged(["label"], {"features": features}, request_id="c")
        with pytest.raises(Exception, match="Got invalid dimensions"):
            session.run_tagged(None, {"features": features[:, :3]})
        stats = session.stats()
    for one, other in zip(bare.run(None, {"features": features}), found, strict=True):
        assert one.tobytes() == other.tobytes()
    assert label.tobytes() == found[0].tobytes()
    first, second = transport.sent
    assert first.inputs["driftd.id"] == ["a", "b"]
    assert first.inputs["driftd.tag.region"] == ["eu", "eu"]
    assert (second.inputs["driftd.id"], list(second.outputs)) == (["c", "c"], ["label"])
    assert (stats.seen, stats.failed_inferences) == (4, 1)


def test_the_sessions_exceptions_pass_unchanged_and_are_counted(options: dict[str, Any]) -> None:
    real = onnxruntime.InferenceSession(onnx_bytes.classifier())
    with MonitoredSession(real, version="1", **options) as session:
        for names, feed in (
            (None, {"features": np.ones((1, 29), np.float32)}),
            (None, {"features": np.ones((1, 30))}),
            (None, {}),
            (["nothing"], {"features": np.ones((1, 30), np.float32)}),
        ):
            with pytest.raises(Exception) as expected:
                real.run(names, feed)
            with pytest.raises(type(expected.value)) as found:
                session.run(names, feed)
            assert str(found.value) == str(expected.value)
        stats = session.stats()
    assert (stats.failed_inferences, stats.seen) == (4, 0)


def test_no_fault_of_ours_reaches_the_caller(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def clock() -> int:
        raise RuntimeError("the clock is broken")

    with MonitoredSession(onnx_bytes.classifier(), clock=clock, **options) as session:
        assert len(session.run(None, {"features": np.ones((4, 30), np.float32)})) == 2
        assert len(session.run(["label"], {"features": np.ones((4, 30), np.float32)})) == 1
        session.log({"x": object()}, {}, time_ns=1)
        session.log(None, None)  # type: ignore[arg-type]  # a caller's mistake must not reach it either
    stats = session.stats()
    assert stats.errors == 4 + 4 + 1
    assert stats.sent == 1  # the row whose only tensor could not travel
    assert "'x' is not shipped: a object has no text of its own" in caplog.text
    assert "the clock is broken" in caplog.text


def test_a_subclass_keeps_its_own_run(options: dict[str, Any], transport: FakeTransport) -> None:
    class Doubling(MonitoredSession):
        def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> list[Any]:
            return [2 * each for each in super().run(output_names, input_feed, run_options)]

    with Doubling(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]), **options) as session:
        np.testing.assert_array_equal(session.run(None, {"x": ROWS})[0], 2 * ROWS)
    np.testing.assert_array_equal(joined(transport, "outputs", "y"), ROWS)


def test_a_session_that_is_not_onnxruntimes_is_not_trusted_with_shapes(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    class Lenient:
        """Takes float64 where its signature says float32."""

        real = onnxruntime.InferenceSession(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]))

        def run(self, _names: Any, feed: Any, _options: Any = None) -> list[Any]:
            return [feed["x"]]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    with MonitoredSession(Lenient(), version="1", **options) as session:
        session.run(None, {"x": ROWS.astype(np.float64)})
    assert transport.sent[0].header["inputs"][1]["datatype"] == "FP64"


def test_a_session_class_with_a_run_of_its_own_gets_what_the_caller_passed(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    class Scaled(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
        """Names nothing for all outputs, and takes inputs that the model does not."""

        def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
            assert output_names is None
            return super().run(output_names, {"x": input_feed["x"].astype(np.float32)}, run_options)

    real = Scaled(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]))
    patched = onnxruntime.InferenceSession(onnx_bytes.identity(onnx_bytes.FLOAT, ["N", 2]))
    patched.run = real.run
    for source in (real, patched):
        transport.sent.clear()
        with MonitoredSession(source, version="1", **options) as session:
            (found,) = session.run(None, {"x": ROWS.astype(np.float64)})
        np.testing.assert_array_equal(found, ROWS)
        assert transport.sent[0].header["inputs"][1]["datatype"] == "FP64"


def test_the_version_is_given_or_told_by_the_model_or_its_digest(
    options: dict[str, Any], transport: FakeTransport, tmp_path: Path
) -> None:
    plain = onnx_bytes.classifier()
    path = tmp_path / "model.onnx"
    path.write_bytes(plain)
    digest = f"sha256:{hashlib.sha256(plain).hexdigest()[:12]}"
    told = onnx_bytes.classifier(metadata={"version": " 2026-01 "})
    numbered = onnx_bytes.model(
        [onnx_bytes.node("Identity", ["x"], ["y"])],
        [("x", onnx_bytes.FLOAT, ["N", 30])], [("y", onnx_bytes.FLOAT, ["N", 30])], version=4,
    )  # fmt: skip
    real = onnxruntime.InferenceSession(plain)
    for source, given, expected in (
        (told, "mine", "mine"), (told, None, "2026-01"), (numbered, None, "4"),
        (plain, None, digest), (path, None, digest), (str(path), None, digest), (real, None, digest),
    ):  # fmt: skip
        transport.sent.clear()
        with MonitoredSession(source, version=given, **options) as session:
            session.run(None, {session.get_inputs()[0].name: np.ones((1, 30), np.float32)})
        assert transport.sent[0].header["model_version"] == expected


def test_an_existing_session_takes_no_session_arguments(options: dict[str, Any]) -> None:
    real = onnxruntime.InferenceSession(IRIS)
    with pytest.raises(TypeError, match="providers"):
        MonitoredSession(real, providers=["CPUExecutionProvider"], **options)


def test_tags_of_the_session_are_on_every_row(options: dict[str, Any], transport: FakeTransport) -> None:
    with MonitoredSession(onnx_bytes.classifier(), tags={"region": "eu"}, **options) as session:
        session.run(None, {"features": np.ones((3, 30), np.float32)})
    assert transport.sent[0].inputs["driftd.tag.region"] == ["eu"] * 3


def test_a_forgotten_logger_ships_what_it_has_and_ends(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    session = MonitoredSession(onnx_bytes.classifier(), **options)
    session.run(None, {"features": np.ones((3, 30), np.float32)})
    mine = [thread for thread in threading.enumerate() if thread.name == "driftd-sidecar"]
    assert mine
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 10
    for thread in mine:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive()
    assert transport.rows == 3
