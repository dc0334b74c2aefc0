"""Open Inference Protocol v2: wide and reserved tensors, and what is refused."""

from typing import Any

import numpy as np
import pytest

from detectors.profile import TensorMap
from monitor.ingest.batch import decode_payload, encode_payload
from monitor.ingest.errors import IngestError, MalformedError, UnprocessableError
from monitor.ingest.schema import VersionHandle
from tests.monitor.ingest.bodies import (
    GOOD,
    PENDING,
    baseline,
    binary,
    frame_of,
    matrix,
    oip_binary_body,
    take,
)


def wide_version() -> VersionHandle:
    """A baseline whose numeric features come from one (N, 2) tensor."""
    mapped = TensorMap(name="x", datatype="FP32", kind="input", columns=("amount", "vip"))
    return VersionHandle(version_id=1, version="3", baseline=baseline(tensors=(mapped,)))


def rest(rows: int) -> list[tuple[dict[str, Any], bytes]]:
    texts = b"\x04\x00\x00\x00Oslo" * rows
    entry = {"datatype": "BYTES", "shape": [rows], "parameters": {"binary_data_size": len(texts)}}
    return [
        matrix(np.full(rows, 44, dtype="<i8"), "age", "INT64"),
        ({"name": "city"} | entry, texts),
        ({"name": "note"} | entry, texts),
    ]


def wide_body(
    tensor: tuple[dict[str, Any], bytes], *more: tuple[dict[str, Any], bytes], tail: bytes = b""
) -> tuple[bytes, int]:
    parts = [tensor, *rest(tensor[0]["shape"][0]), *more]
    return binary({"model_version": "3", "inputs": [p[0] for p in parts]}, *(p[1] for p in parts), tail)


def test_a_wide_tensor_is_split_by_the_baseline_and_nan_and_infinity_are_values() -> None:
    values = np.array([[1.5, 1], [np.nan, 0], [np.inf, np.nan]], dtype="<f4")
    version = wide_version()
    found = frame_of(take(*wide_body(matrix(values)), version=version), version.baseline)
    assert found["amount"] == [1.5, None, np.inf]
    assert found["vip"] == [1.0, 0.0, None]
    assert found["score"] == [None] * 3


def test_reserved_tensors_are_times_ids_and_tags() -> None:
    times = [10**9 * 1772366399, 10**9 * 1772366398]
    region = b"\x02\x00\x00\x00eu\xff\xff\xff\xff"
    tag = (
        {
            "name": "driftd.tag.region",
            "datatype": "BYTES",
            "shape": [2],
            "parameters": {"binary_data_size": 10},
        },
        region,
    )
    ids = (
        {"name": "driftd.id", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        region,
    )
    body = wide_body(
        matrix(np.ones((2, 2), dtype="<f4")), matrix(np.array(times), "driftd.ts", "INT64"), tag, ids
    )
    batch = take(*body, version=wide_version()).batch
    assert batch is not None
    again = decode_payload(encode_payload(batch))
    assert again.times_ns.tolist() == times
    assert again.tag_values("region") == ["eu", None]
    assert again.tag_values("country") == [None, None]
    assert again.row_ids is not None
    assert again.row_ids.texts() == ["eu", None]


ONES = np.ones((2, 2), dtype="<f4")
BAD_BINARY: list[tuple[str, tuple[bytes, int], type[IngestError]]] = [
    ("header longer than the body", (wide_body(matrix(ONES))[0], 10**6), MalformedError),
    ("header of no length", (wide_body(matrix(ONES))[0], 0), MalformedError),
    ("header cut", (wide_body(matrix(ONES))[0], 20), MalformedError),
    ("bytes left", wide_body(matrix(ONES), tail=b"1234"), MalformedError),
    ("bytes missing", (wide_body(matrix(ONES))[0][:-1], wide_body(matrix(ONES))[1]), MalformedError),
    (
        "size against shape",
        wide_body((matrix(ONES)[0] | {"shape": [2, 3]}, ONES.tobytes())),
        UnprocessableError,
    ),
    ("width against baseline", wide_body(matrix(np.ones((2, 3), dtype="<f4"))), UnprocessableError),
    (
        "BOOL of 2",
        wide_body(matrix(ONES), matrix(np.array([2, 0], dtype="u1"), "b", "BOOL")),
        UnprocessableError,
    ),
    (
        "cut BYTES",
        wide_body(matrix(ONES), matrix(np.array([1, 1], dtype="<u4"), "t", "BYTES")),
        UnprocessableError,
    ),
    ("times as floats", wide_body(matrix(ONES), matrix(np.ones(2), "driftd.ts", "FP64")), UnprocessableError),
    (
        "tag of another type",
        wide_body(matrix(ONES), matrix(np.ones(2), "driftd.tag.a", "FP64")),
        UnprocessableError,
    ),
    (
        "negative size",
        wide_body((matrix(ONES)[0] | {"parameters": {"binary_data_size": -1}}, b"")),
        UnprocessableError,
    ),
]


@pytest.mark.parametrize(("_", "body", "error"), BAD_BINARY, ids=[case[0] for case in BAD_BINARY])
def test_broken_binary_bodies_are_refused(_: str, body: tuple[bytes, int], error: type[IngestError]) -> None:
    with pytest.raises(error):
        take(*body, version=wide_version())


def test_binary_text_that_is_no_text_rejects_its_row() -> None:
    body, header = oip_binary_body([GOOD, GOOD])
    for bad in (b"Os\xffo", b"Os\x00o"):
        outcome = take(body.replace(b"Oslo", bad, 1), header)
        assert (outcome.accepted, [issue.pointer for issue in outcome.errors]) == (1, ["/inputs/3/data/0"])


@pytest.mark.parametrize(
    ("datatype", "data", "pointer"),
    [
        ("INT8", "[1, 300]", 1),
        ("INT64", "[1, null]", 1),
        ("UINT8", "[-1, 1]", 0),
        ("FP32", '[1, "x"]', 1),
        ("FP32", "[1e999, 1]", 0),
    ],
)
def test_a_bad_element_of_a_json_tensor_rejects_its_row(datatype: str, data: str, pointer: int) -> None:
    tensor = f'{{"name": "x", "shape": [2], "datatype": "{datatype}", "data": {data}}}'
    body = f'{{"model_version": "4", "inputs": [{tensor}]}}'
    outcome = take(body.encode(), version=PENDING)
    assert [issue.pointer for issue in outcome.errors] == [f"/inputs/0/data/{pointer}"]
    assert outcome.accepted == 1


def test_nested_and_flat_tensor_data_are_the_same() -> None:
    def taken(data: str) -> Any:
        tensor = f'{{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": {data}}}'
        body = f'{{"model_version": "4", "inputs": [{tensor}]}}'
        batch = take(body.encode(), version=PENDING).batch
        assert batch is not None
        return batch.tensors[0].array().tolist()

    assert taken("[[1, 2], [3, 4]]") == taken("[1, 2, 3, 4]") == [[1, 2], [3, 4]]
