"""Bodies of labels: the formats of predictions, and a reason for every row that is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.profile import Baseline, ColumnData, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType
from monitor.ingest import labels
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.elements import encode_elements
from monitor.ingest.envelope import open_labels
from monitor.ingest.errors import IngestError, MalformedError, UnprocessableError
from monitor.ingest.labels import AcceptedLabels, accept_labels, labelled_column, number_of
from tests.monitor.ingest.bodies import binary

NOW = 1_772_323_200_000_000_000
SECOND = 10**9


def baseline() -> Baseline:
    """A feature, a label of two classes, a price and a confidence; the price comes from a tensor of another name."""
    rng = np.random.default_rng(1)
    return build_baseline(
        [
            ColumnData(name="age", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32",
                       values=rng.normal(size=200).astype(np.float32)),
            ColumnData(name="late", role=ColumnRole.PREDICTION, type=ColumnType.CATEGORICAL, dtype="int64",
                       values=rng.integers(0, 2, 200)),
            ColumnData(name="price", role=ColumnRole.PREDICTION, type=ColumnType.NUMERIC, dtype="float32",
                       values=rng.normal(size=200).astype(np.float32)),
            ColumnData(name="confidence", role=ColumnRole.CONFIDENCE, type=ColumnType.NUMERIC, dtype="float32",
                       values=rng.random(200).astype(np.float32)),
        ],
        pane_seconds=60,
        tensors=(TensorMap(name="variable", datatype="FP32", kind="output", columns=("price",)),),
        confidence=None,
        source="test",
    )  # fmt: skip


BASELINE = baseline()


def take(body: dict[str, Any] | bytes, *, header: int | None = None, **options: Any) -> AcceptedLabels:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    opened = open_labels(raw, header, DecodeLimits())
    return accept_labels(
        opened, options.pop("baselines", [BASELINE]), now_ns=NOW, future_ns=300 * SECOND, **options
    )


def tensors(given: dict[str, Any]) -> tuple[bytes, int]:
    """An OIP binary body of arrays and lists of text, and the length of its header."""
    entries, buffers = [], []
    for name, values in given.items():
        text = isinstance(values, list)
        data = encode_elements(value.encode() for value in values) if text else values.tobytes()
        entries.append(
            {
                "name": name,
                "datatype": "BYTES" if text else {"int64": "INT64", "float32": "FP32"}[values.dtype.name],
                "shape": [len(values)] if text else list(values.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
        buffers.append(data)
    return binary({"id": "b", "model_version": "1", "outputs": entries}, *buffers)


def told(accepted: AcceptedLabels) -> list[tuple[str, str, str]]:
    return [(label.request_id, label.column, label.value) for label in accepted.labels]


def test_columns_of_labels_by_request() -> None:
    found = take(
        {"ids": ["a", "b"], "columns": {"late": [1, 0], "price": [2.5, None]}, "ts": [NOW - 5, NOW - 7]}
    )
    assert told(found) == [("a", "late", "1"), ("b", "late", "0"), ("a", "price", "2.5")]
    assert [label.at_ns for label in found.labels] == [NOW - 5, NOW - 7, NOW - 5]
    assert (found.accepted, found.rejected, found.errors) == (2, 0, ())


def test_a_version_may_be_named_and_says_nothing() -> None:
    assert told(take({"model_version": "7", "id": "x", "ids": ["a"], "columns": {"late": [True]}})) == [
        ("a", "late", "true")
    ]


def test_labels_as_binary_tensors_as_the_sidecar_sends_them() -> None:
    body, header = tensors(
        {
            "driftd.ts": np.array([NOW, NOW - SECOND], np.int64),
            "driftd.id": ["a", "b"],
            "late": np.array([1, 0], np.int64),
            "variable": np.array([0.1, np.nan], np.float32),
        }
    )
    found = take(body, header=header)
    assert told(found) == [
        ("a", "late", "1"),
        ("b", "late", "0"),
        ("a", "variable", repr(float(np.float32(0.1)))),
    ]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"rows": []}, "/rows", 'labels come as "ids" with "columns"'),
        ({"columns": {"late": [1]}}, "/ids", "the ids of their requests"),
        ({"ids": ["a"], "columns": {"age": [1]}}, "/columns/age", "no prediction column of this model; they are 'late', 'price'"),
        ({"ids": ["a"], "columns": {"late": [1]}, "confidence": [0.5]}, "/confidence", "no prediction column"),
        ({"ids": ["a"], "columns": {"late": [1]}, "extra": 1}, "/extra", "unknown key"),
        ({"ids": ["a", "b"], "columns": {"late": [1]}}, "/ids", "has 2 values where 'late' has 1"),
    ],
)  # fmt: skip
def test_a_body_that_holds_no_labels_is_refused(body: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(UnprocessableError) as raised:
        take(body)
    assert raised.value.issues[0].pointer == pointer
    assert words in raised.value.issues[0].detail


def test_what_is_no_json_is_malformed() -> None:
    with pytest.raises(MalformedError):
        take(b"[1]")
    with pytest.raises(MalformedError, match="twice"):
        take(b'{"ids": ["a"], "ids": ["b"], "columns": {"late": [1]}}')


def test_a_tensor_with_several_values_a_row_is_no_label() -> None:
    body, header = tensors({"driftd.id": ["a"], "late": np.array([[1, 2]], np.int64)})
    with pytest.raises(UnprocessableError, match="2 values per row"):
        take(body, header=header)
    body, header = tensors({"driftd.id": ["a"]})
    with pytest.raises(IngestError, match="holds no label"):
        take(body, header=header)


@pytest.mark.parametrize(
    ("ids", "columns", "ts", "pointer", "words"),
    [
        (["", "b"], {"late": [1, 1]}, None, "/ids/0", "1 to 200 characters, not 0"),
        (["x" * 201, "b"], {"late": [1, 1]}, None, "/ids/0", "not 201"),
        ([None, "b"], {"late": [1, 1]}, None, "/ids/0", "not 0"),
        (["a", "b"], {"late": [None, 1]}, None, "", "row 0 has no label"),
        (["a", "b"], {"price": ["dear", 1]}, None, "/columns/price/0", "is a number, not 'dear'"),
        (["a", "b"], {"price": ["inf", "1"]}, None, "/columns/price/0", "is a number, not 'inf'"),
        (["a", "b"], {"late": ["x" * 1001, "1"]}, None, "/columns/late/0", "at most 1000 characters"),
        (["a", "b"], {"late": [[1], 1]}, None, "/columns/late/0", "flatten what is nested"),
        (["a", "b"], {"late": [1, 1]}, [NOW + 400 * SECOND, NOW], "/ts/0", "400 s beyond the latest"[4:]),
    ],
)
def test_a_bad_row_costs_itself_alone(
    ids: list[Any], columns: dict[str, Any], ts: Any, pointer: str, words: str
) -> None:
    found = take({"ids": ids, "columns": columns} | ({} if ts is None else {"ts": ts}))
    assert [label.request_id for label in found.labels] == ["b"]
    assert (found.accepted, found.rejected) == (1, 1)
    assert found.errors[0].pointer == pointer
    assert words in found.errors[0].detail


def test_text_with_a_nul_which_postgresql_cannot_hold_is_no_label() -> None:
    body, header = tensors({"driftd.id": ["a", "b"], "late": ["x\x00y", "1"]})
    found = take(body, header=header)
    assert told(found) == [("b", "late", "1")]
    assert found.errors[0].pointer == "/outputs/1/data/0"
    assert "NUL" in found.errors[0].detail


def test_more_labels_than_memory_is_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "LABELS", 4)
    assert take({"ids": ["a", "b"], "columns": {"late": [1, 0], "price": [1, 2]}}).accepted == 2
    with pytest.raises(UnprocessableError, match="at most 4 labels, not 6; send several"):
        take({"ids": ["a", "b", "c"], "columns": {"late": [1, 0, 1], "price": [1, 2, 3]}})


def test_before_there_is_a_baseline_every_name_is_kept() -> None:
    assert told(take({"ids": ["a"], "columns": {"whatever": ["x"]}}, baselines=[])) == [
        ("a", "whatever", "x")
    ]


def test_a_clock_that_is_hours_off_is_corrected_and_said_so() -> None:
    late = NOW - 2 * 3600 * SECOND
    found = take({"ids": ["a"], "columns": {"late": [1]}, "ts": late}, sent_ns=late)
    assert [label.at_ns for label in found.labels] == [NOW]
    assert "2.0 h behind" in found.warnings[0].detail


def test_names_mean_what_they_mean_for_predictions() -> None:
    names = ("late", "variable", "price", "age", "confidence", "prediction")
    assert [labelled_column(BASELINE, name) for name in names] == ["late", "price", "price", None, None, None]
    sole = replace(BASELINE, columns=tuple(c for c in BASELINE.columns if c.name != "price"), tensors=())
    assert labelled_column(sole, "prediction") == "late"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("true", 1.0), ("false", 0.0), ("1e3", 1000.0), ("x", None), ("nan", None), ("-inf", None)],
)
def test_what_is_a_number(text: str, number: float | None) -> None:
    assert number_of(text) == number


def test_the_golden_body_of_labels_is_read() -> None:
    golden = Path(__file__).parents[2] / "golden"
    about = json.loads((golden / "labels_v1.json").read_text())
    body = (golden / "labels_v1.bin").read_bytes()
    found = take(body, header=int(about["headers"]["Inference-Header-Content-Length"]), baselines=[])
    values = {tensor["name"]: tensor["values"] for tensor in about["tensors"]}
    assert found.id == about["id"]
    assert (found.accepted, found.rejected) == (3, 0)
    assert [label.at_ns for label in found.labels if label.column == "label"] == values["driftd.ts"]
    ids = values["driftd.id"]
    assert told(found) == [
        *zip(ids, ["label"] * 3, ["2", "0", "1"], strict=True),
        *zip(ids, ["late"] * 3, ["true", "false", "true"], strict=True),
        (ids[0], "minutes", "31.5"),
        (ids[2], "minutes", "0"),
        (ids[0], "outcome", "paid"),
        (ids[2], "outcome", "à payer"),
    ]
