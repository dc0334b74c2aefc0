"""Frames: confidence rules, and what a batch without a fitting column becomes."""

import json

import numpy as np
import pytest
from scipy.special import expit, softmax

from detectors.profile import ColumnData, ConfidenceRule, TensorMap, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.batch import Batch, Tensor
from monitor.ingest.frame import derive_confidence, frame, transposed
from monitor.ingest.schema import VersionHandle
from tests.monitor.ingest.bodies import (
    BASELINE,
    GOOD,
    PENDING,
    baseline,
    binary,
    columns_body,
    matrix,
    rows_body,
    take,
)

LOGITS = np.array([[1.0, 2.0, -3.0], [800.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=np.float32)


def test_softmax_is_scipys_and_does_not_overflow() -> None:
    expected = softmax(LOGITS.astype(np.float64), axis=1).max(axis=1)
    np.testing.assert_allclose(derive_confidence("softmax", LOGITS), expected, rtol=1e-14)
    single = LOGITS[:, :1]
    p = expit(single[:, 0].astype(np.float64))
    np.testing.assert_allclose(derive_confidence("softmax", single), np.maximum(p, 1 - p), rtol=1e-14)


@pytest.mark.parametrize("kind", ["probabilities", "positive_probability", "softmax", "given"])
def test_a_missing_output_is_a_missing_confidence(kind: str) -> None:
    assert np.isnan(derive_confidence(kind, np.array([[np.nan]]))[0])


@pytest.mark.parametrize(
    ("kind", "outputs", "expected"),
    [
        ("probabilities", [[0.25, 0.75], [0.5, 0.5]], [0.75, 0.5]),
        ("positive_probability", [[0.25], [0.75]], [0.75, 0.75]),
        ("given", [[0.625], [1.0]], [0.625, 1.0]),
        ("softmax", [[0.0, 0.0], [0.0, 0.0]], [0.5, 0.5]),
    ],
)
def test_the_baselines_rule_derives_the_confidence(
    kind: str, outputs: list[list[float]], expected: list[float]
) -> None:
    rule = ConfidenceRule(kind=kind, tensor="probs")  # type: ignore[arg-type]  # parametrised literal
    version = VersionHandle(version_id=1, version="3", baseline=baseline(rule))
    assert version.baseline is not None
    inputs = [
        matrix(np.full(2, value, dtype=code), name, datatype)
        for name, value, code, datatype in (
            ("amount", 1, "<f4", "FP32"), ("age", 3, "<i8", "INT64"), ("vip", 1, "?", "BOOL")
        )
    ]  # fmt: skip
    text = b"\x01\x00\x00\x00x" * 2
    inputs += [
        ({"name": name, "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}}, text)
        for name in ("city", "note")
    ]
    probs = matrix(np.array(outputs, dtype="<f4"), "probs")
    header = {"model_version": "3", "inputs": [entry for entry, _ in inputs], "outputs": [probs[0]]}
    outcome = take(*binary(header, *(data for _, data in inputs), probs[1]), version=version)
    assert outcome.batch is not None
    found = frame([outcome.batch], version.baseline)
    assert found["sure"].tolist() == expected
    assert [warning.detail for warning in outcome.warnings] == [
        "nothing gives the prediction column 'score'; it counts as missing"
    ]


def test_a_pending_batch_that_does_not_fit_its_later_baseline_counts_as_missing() -> None:
    body = {
        "model_version": "4",
        "columns": {"amount": ["12.5", "x"], "city": [1, 2.5], "note": [3, 4], "age": [1, None]},
    }
    batch = take(json.dumps(body).encode(), version=PENDING).batch
    assert batch is not None
    found = frame([batch], BASELINE)
    np.testing.assert_array_equal(found["amount"], [12.5, np.nan])
    np.testing.assert_array_equal(found["age"], [1, np.nan])
    assert found["city"].tolist() == ["1", "2.5"]
    assert found["note"].tolist() == [None, None]
    assert np.isnan(found["vip"]).all()
    assert profile_rows(BASELINE, found).rows == 2


def test_big_identifiers_beside_nulls_keep_every_digit() -> None:
    body = {"model_version": "4", "columns": {"city": [2**53 + 1, None]}}
    batch = take(json.dumps(body).encode(), version=PENDING).batch
    assert batch is not None
    assert frame([batch], BASELINE)["city"].tolist() == [str(2**53 + 1), None]


def test_numbers_beyond_the_columns_dtype_are_infinite_and_kept() -> None:
    batch = take(rows_body([dict(GOOD) | {"amount": 1e300}])).batch
    assert batch is not None
    assert frame([batch], BASELINE)["amount"].tolist() == [np.inf]


def test_another_baseline_fingerprint_is_a_warning() -> None:
    outcome = take(columns_body([GOOD], parameters={"baseline_fingerprint": "00"}))
    assert [warning.pointer for warning in outcome.warnings] == ["/parameters/baseline_fingerprint"]


def test_batches_of_any_layout_are_framed_in_their_order() -> None:
    bodies = [
        rows_body([GOOD]),
        rows_body([GOOD, {**GOOD, "prediction": 0}]),
        columns_body([GOOD]),
        rows_body([GOOD]),
    ]
    batches = [batch for body in bodies if (batch := take(body).batch) is not None]
    assert len(batches) == len(bodies)
    whole = frame(batches, BASELINE)
    for name, column in whole.items():
        apart = np.concatenate([frame([batch], BASELINE)[name] for batch in batches])
        assert column.tolist() == apart.tolist(), name


def test_a_wide_tensor_keeps_every_value_in_its_column() -> None:
    rows = np.arange(600 * 3, dtype=np.float32).reshape(600, 3)
    np.testing.assert_array_equal(transposed([rows]), rows.T)
    np.testing.assert_array_equal(transposed([rows[:1], rows[1:300], rows[300:]]), rows.T)


def test_wide_tensors_of_many_batches_are_taken_apart_by_column() -> None:
    rng = np.random.default_rng(4)
    training = {
        "x": rng.normal(size=200),
        "kind": rng.integers(0, 3, 200).astype(object),
        "sure": rng.random(200),
    }
    kinds = {"x": ColumnType.NUMERIC, "kind": ColumnType.CATEGORICAL, "sure": ColumnType.NUMERIC}
    made = build_baseline(
        [
            ColumnData(
                name=name,
                role=ColumnRole.CONFIDENCE if name == "sure" else ColumnRole.FEATURE,
                type=kind,
                dtype="float64",
                values=training[name],
            )
            for name, kind in kinds.items()
        ],
        60,
        [TensorMap(name="features", datatype="FP64", kind="input", columns=("x", "", "kind"))],
        ConfidenceRule(kind="probabilities", tensor="probs"),
        "test",
    )
    parts = []
    for rows in (1, 300, 7):
        features = rng.integers(0, 4, (rows, 3)).astype(np.float64)
        probs = rng.random((rows, 2))
        tensors = tuple(
            Tensor(name=name, datatype="FP64", shape=array.shape, data=array.tobytes())
            for name, array in (("features", features), ("probs", probs))
        )
        batch = Batch(
            id=None, model_version="1", parameters={}, rows=rows, times_ns=np.zeros(rows, dtype=np.int64),
            tensors=tensors, tags={}, row_ids=None, body_sha256="",
        )  # fmt: skip
        parts.append((batch, features, probs))
    found = frame([batch for batch, _, _ in parts], made)
    features, probs = (np.concatenate([part[at] for part in parts]) for at in (1, 2))
    np.testing.assert_array_equal(found["x"], features[:, 0])
    assert found["kind"].tolist() == [f"{value:g}" for value in features[:, 2]]
    np.testing.assert_array_equal(found["sure"], probs.max(axis=1))
