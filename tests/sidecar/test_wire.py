"""The envelope against files written by hand, and its pieces against their specifications."""

import json
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._ids import uuid7
from driftd_sidecar._labels import LabelLog
from driftd_sidecar._notices import Notices
from driftd_sidecar._wire import Envelope, Table, Tensor, Told, encode, encode_text, rfc3339
from tests.sidecar.fakes import Sent

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> tuple[dict[str, Any], bytes]:
    """What a golden body holds, and the body."""
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8")), (GOLDEN / f"{name}.bin").read_bytes()


def golden_table() -> Table:
    nan, inf = float("nan"), float("inf")
    (call,) = capture(
        {
            "features": np.array([[0.5, -1.25], [nan, 3.0], [inf, -inf]], np.float32),
            "city": np.array(["Zürich", None, "東京"], object),
            "visits": np.array([-1, 0, 2**53 + 1]),
            "member": np.array([True, False, True]),
        },
        {
            "label": np.array([2, 0, 1]),
            "probabilities": np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]], np.float32),
            "half": np.array([[1.5], [-2.0], [65504.0]], np.float16),
            "score": np.array([0.1, 1e300, -0.0]),
        },
        time_ns=np.array([1767225600000000000, 1767225600250000000, 1767225661000000001]),
        request_id=["r-1", "r-2", "r-3"],
        tags={"region": ["eu", "eu", "us"]},
    )
    (table,) = CallRecipe(notices=Notices(), tags={}).tables([(call,)])
    return table


def golden_labels() -> Table:
    buffer = Buffer(1 << 20, rng=random.Random(1), start=lambda: None, wake=lambda: None)
    labels = LabelLog(buffer=buffer, notices=Notices(), clock=lambda: 0, joined=True)
    labels.log(
        ["r-1", "r-2", "bestellung-東"],
        {
            "label": [2, 0, 1],
            "late": np.array([[True], [False], [True]]),
            "minutes": [31.5, float("nan"), -0.0],
            "outcome": ["paid", None, "à payer"],
        },
        np.array([1767312000000000000, 1767312000250000000, 1767312061000000001]),
    )
    cut = buffer.cut(0, since=0, max_rows=1, max_bytes=1, max_age=0, everything=True)
    (table,) = [table for lane, piece in cut for table in lane.recipe.tables(piece.entries)]
    return table


@pytest.mark.parametrize(
    ("name", "table", "day", "books"),
    [
        ("envelope_v1", golden_table, 1, Told(kept=3, dropped=2, sample_rate=0.5)),
        ("labels_v1", golden_labels, 2, None),
    ],
    ids=["predictions", "labels"],
)
def test_the_encoder_writes_the_golden_bytes(
    name: str, table: Callable[[], Table], day: int, books: Told | None
) -> None:
    description, golden_body = golden(name)
    envelope = Envelope(
        id=description["id"],
        model_version=description["model_version"],
        sent_at_ns=int(datetime(2026, 1, day, 0, 1, 1, 500_000, tzinfo=UTC).timestamp() * 1000) * 1_000_000,
        books=books,
    )
    body, header_bytes = encode(table(), envelope)
    assert body == golden_body
    assert str(header_bytes) == description["headers"]["Inference-Header-Content-Length"]


@pytest.mark.parametrize("name", ["envelope_v1", "labels_v1"])
def test_the_golden_description_says_what_the_golden_bytes_hold(name: str) -> None:
    description, body = golden(name)
    sent = Sent("", body, description["headers"])
    assert sent.parameters == description["parameters"]
    for tensor in description["tensors"]:
        found = (sent.inputs if tensor["section"] == "inputs" else sent.outputs)[tensor["name"]]
        if tensor["datatype"] == "BYTES":
            assert found == tensor["values"]
        else:
            assert list(found.shape) == tensor["shape"]
            exact = tensor["datatype"].startswith(("INT", "BOOL"))  # a float cannot stand for every integer
            expected = np.array(tensor["values"], found.dtype if exact else float).astype(found.dtype)
            np.testing.assert_array_equal(found, expected)


def test_text_is_length_prefixed_and_missing_text_is_empty() -> None:
    assert encode_text(["ab", b"c", None, float("nan"), 7]) == (
        b"\x02\0\0\0ab\x01\0\0\0c\0\0\0\0\0\0\0\0\x01\0\0\0007"
    )


def test_numbers_and_truth_values_read_as_the_daemon_writes_categories() -> None:
    values = [True, np.False_, 123.0, np.float64(-2.0), 1.5, np.int8(3), float("inf")]
    sizes = (
        b"\x04\0\0\0true\x05\0\0\0false\x03\0\0\x00123\x02\0\0\0-2\x03\0\0\x001.5\x01\0\0\x003\x03\0\0\0inf"
    )
    assert encode_text(values) == sizes
    with pytest.raises(TypeError, match="dict"):
        encode_text([{}])


def test_a_lone_surrogate_does_not_stop_the_batch() -> None:
    assert encode_text(["\ud800"]) == b"\x01\0\0\0?"


def test_a_table_is_split_between_rows() -> None:
    data = np.arange(20, dtype="<f4")
    tensor = Tensor(name="x", datatype="FP32", tail=(2,), data=data.tobytes())
    pieces = list(Table(rows=10, inputs=(tensor,), outputs=()).split(24))
    assert [piece.rows for piece in pieces] == [3, 3, 3, 1]
    joined = b"".join(piece.inputs[0].data for piece in pieces)
    assert joined == data.tobytes()


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999Z"),
        (1_767_225_600_000_001_000, "2026-01-01T00:00:00.000001Z"),
    ],
)
def test_times_are_rfc3339_and_never_rounded_up(time_ns: int, text: str) -> None:
    assert rfc3339(time_ns) == text


def test_batch_ids_are_uuid7_of_their_millisecond() -> None:
    # RFC 9562, appendix A.6: 2022-02-22T14:22:22.00-05:00 is 0x017F22E279B0 ms.
    text = uuid7(1_645_557_742_000 * 1_000_000)
    parsed = uuid.UUID(text)
    assert text.startswith("017f22e2-79b0-7")
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert len({uuid7(1) for _ in range(1000)}) == 1000
    assert uuid7(5_000_000) < uuid7(6_000_000)
