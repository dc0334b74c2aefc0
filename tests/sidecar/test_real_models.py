"""Models that other people made: the same bits with and without the sidecar, and the rows as they were."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.datasets import get_example

from driftd_sidecar import MonitoredSession, Stats
from tests.components import require_models
from tests.sidecar.fakes import FakeTransport
from tests.sidecar.published import same_bits, values

DEMO = Path(__file__).parents[2] / "monitor" / "demo" / "assets" / "late_arrival.onnx"
EXAMPLES = ["logreg_iris.onnx", "mul_1.onnx", "sigmoid.onnx"]
MADE = [
    "logistic_zipmap", "logistic_plain", "forest_multiclass", "forest_text_labels", "forest_regression",
    "multi_label", "text_columns",
]  # fmt: skip
Feed = dict[str, Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models that skl2onnx makes."""
    folder = tmp_path_factory.mktemp("made")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("make_models.py")), str(folder)]
    subprocess.run(command, check=True, timeout=240, env={"PYTHONPATH": str(require_models())})
    return folder


@cache
def quiet() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def try_on(
    source: str, feeds: Callable[[Any, np.random.Generator], list[Feed]], **options: Any
) -> tuple[FakeTransport, Stats, list[tuple[Feed, dict[str, Any]]]]:
    """Runs all feeds with and without the sidecar; what was shipped, the books, and the calls."""
    bare = onnxruntime.InferenceSession(source, quiet())
    names = [output.name for output in bare.get_outputs()]
    transport, calls = FakeTransport(), []
    with MonitoredSession(
        source, sess_options=quiet(), model="m", version="1", endpoint="http://127.0.0.1:1", transport=transport,
        **options,
    ) as monitored:  # fmt: skip
        for feed in feeds(bare, np.random.default_rng(3)):
            expected, found = bare.run(None, feed), monitored.run(None, feed)
            assert same_bits(expected, found)
            assert same_bits(bare.run(names[-1:], feed), monitored.run(names[-1:], feed))
            calls.append((feed, dict(zip(names, expected, strict=True))))
        stats = monitored.stats()
    return transport, stats, calls


def some_rows(session: Any, rng: np.random.Generator) -> list[Feed]:
    """One row, several, one."""
    return [
        {each.name: values(each.type, each.shape, rows, rng) for each in session.get_inputs()}
        for rows in (1, 5, 1)
    ]


def check_rows(transport: FakeTransport, calls: list[tuple[Feed, dict[str, Any]]]) -> None:
    """Every tensor of the calls was shipped, with the values that it had."""
    for section, place in (("inputs", 0), ("outputs", 1)):
        for name in calls[0][place]:
            sent = [each for each in transport.sent if name in getattr(each, section)]
            assert sent, f"{name} was not shipped"
            found = [
                value for each in sent for value in np.asarray(getattr(each, section)[name]).ravel().tolist()
            ]
            expected = [value for call in calls for value in flat(call[place][name])]
            # Each call was made twice, the second time for its last output alone.
            assert sorted(map(str, found)) == sorted(map(str, expected * (len(found) // len(expected))))


def flat(value: Any) -> list[Any]:
    """As the wire has it: a ZipMap by sorted keys, as float32."""
    if isinstance(value, list):
        return [float(np.float32(row[key])) for row in value for key in sorted(row)]
    return list(np.asarray(value).ravel().tolist())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_models_inside_onnxruntime(name: str) -> None:
    transport, stats, calls = try_on(get_example(name), some_rows)
    assert stats.errors == stats.dropped == stats.failed_inferences == 0
    check_rows(transport, calls)


def test_the_model_of_the_demo() -> None:
    transport, stats, calls = try_on(str(DEMO), some_rows)
    assert stats.seen == 14
    check_rows(transport, calls)


@pytest.mark.parametrize("name", MADE)
def test_the_models_that_skl2onnx_makes(made: Path, name: str) -> None:
    transport, stats, calls = try_on(str(made / f"{name}.onnx"), some_rows)
    assert stats.seen == 14
    check_rows(transport, calls)


def test_magika_tells_file_types_apart() -> None:
    path = require_models() / "magika" / "models" / "standard_v3_3" / "model.onnx"
    transport, stats, calls = try_on(str(path), some_rows)
    assert stats.seen == 14
    check_rows(transport, calls)


def test_silero_vad_carries_its_state_from_call_to_call() -> None:
    path = str(require_models() / "silero_vad" / "data" / "silero_vad.onnx")
    rng = np.random.default_rng(4)
    bare = onnxruntime.InferenceSession(path, quiet())
    transport = FakeTransport()
    rate = np.array(16_000, np.int64)
    options: dict[str, Any] = {"model": "vad", "version": "1", "endpoint": "http://127.0.0.1:1"}
    states = [np.zeros((2, 1, 128), np.float32)] * 2
    heard: list[Any] = []
    with MonitoredSession(path, sess_options=quiet(), transport=transport, **options) as monitored:
        for _ in range(12):
            sound = rng.normal(scale=0.1, size=(1, 576)).astype(np.float32)
            expected = bare.run(None, {"input": sound, "state": states[0], "sr": rate})
            found = monitored.run(None, {"input": sound, "state": states[1], "sr": rate})
            assert same_bits(list(expected), list(found))
            states = [expected[1], found[1]]
            heard.append((sound, expected[0]))
        stats = monitored.stats()
    assert stats.seen == 12
    assert stats.errors == 0
    np.testing.assert_array_equal(
        np.concatenate([sent.inputs["input"] for sent in transport.sent]),
        np.concatenate([x for x, _ in heard]),
    )
    np.testing.assert_array_equal(
        np.concatenate([sent.outputs["output"] for sent in transport.sent]),
        np.concatenate([y for _, y in heard]),
    )
    assert all("state" not in sent.inputs for sent in transport.sent)  # (2, 1, 128): not one entry per row


@pytest.mark.parametrize("name", ["resnet50", "squeezenet"])
def test_images_do_not_flood_the_network(name: str) -> None:
    path = require_models() / "onnx" / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    # The first image overdraws what is set aside for wide tensors, for a week.
    transport, stats, calls = try_on(str(path), some_rows, wide_bytes_per_second=1)
    image = 3 * 224 * 224 * 4
    (pixels,) = calls[0][0]
    assert stats.seen == stats.kept == 6
    with_image = [sent for sent in transport.sent if pixels in sent.inputs]
    assert sum(sent.rows for sent in with_image) == 1
    assert sum(len(sent.body) for sent in transport.sent) < image + 60_000
    np.testing.assert_array_equal(with_image[0].inputs[pixels], calls[0][0][pixels])
    (output,) = calls[0][1]
    assert sum(len(sent.outputs[output]) for sent in transport.sent) == 6


def test_no_model_of_onnxs_own_suite_breaks() -> None:
    """Every operator test that onnx ships: sequences, scalars, odd ranks, several inputs and outputs."""
    data = require_models() / "onnx" / "backend" / "test" / "data"
    tried = 0
    for path in sorted(data.glob("*/test_*/model.onnx")):
        try:
            bare = onnxruntime.InferenceSession(str(path), quiet())
            feed = some_rows(bare, np.random.default_rng(5))[0]
            bare.run(None, feed)
        except Exception:  # a model that onnxruntime itself does not run on such values
            continue
        _, stats, _ = try_on(str(path), lambda _session, _rng, feed=feed: [feed])  # type: ignore[misc]
        assert stats.errors == 0, path
        assert stats.seen > 0, path
        tried += 1
    assert tried > 60
