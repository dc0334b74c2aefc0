"""Baselines of an ONNX model: its signature decides dtypes and order, its own answers are profiled."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.frame import derive_confidence
from monitor.training import BuildResult, TrainingError, TrainingOptions, build
from tests.sidecar.onnx_bytes import BOOL, FLOAT, INT64, STRING, classifier, floats, model, node

onnxruntime = pytest.importorskip("onnxruntime")
ROWS = 500
COLUMNS = '["a", "b", "c"]'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(rng.normal(size=(ROWS, 3)).round(3), columns=["c", "a", "b"])
    frame["truth"] = rng.integers(0, 2, ROWS)
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def save(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "model.onnx").write_bytes(data)
    return tmp_path / "model.onnx"


def made(table: Path, artefact: Path, **options: object) -> BuildResult:
    return build(
        TrainingOptions(model="m", files=(table,), artefact=artefact, cells_per_chunk=1, **options)  # type: ignore[arg-type]  # any option
    )


def answers(artefact: Path, table: Path) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: the model run once over the whole table, as its owner would."""
    rows = pd.read_csv(table)[["a", "b", "c"]].to_numpy(np.float32)
    session = onnxruntime.InferenceSession(str(artefact), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"features": rows})
    return label, probabilities


def test_the_model_is_run_over_the_training_rows(tmp_path: Path, table: Path) -> None:
    artefact = save(
        tmp_path, classifier(3, 2, metadata={"driftd.columns.features": COLUMNS, "version": "7.1"})
    )
    result = made(table, artefact)
    baseline = result.baseline
    assert [(c.name, c.role, c.dtype) for c in result.columns] == [
        ("a", ColumnRole.FEATURE, "float32"),
        ("b", ColumnRole.FEATURE, "float32"),
        ("c", ColumnRole.FEATURE, "float32"),
        ("prediction", ColumnRole.PREDICTION, "int64"),
        ("confidence", ColumnRole.CONFIDENCE, "float32"),
    ]
    label, probabilities = answers(artefact, table)
    prediction, confidence = baseline.columns[3:]
    assert isinstance(prediction, CategoricalColumn)
    counted = baseline.profile.counts[baseline.layout.slices[3]][: len(prediction.categories)]
    assert dict(zip(map(int, prediction.categories), counted.tolist(), strict=True)) == {
        int(k): int(n) for k, n in zip(*np.unique(label, return_counts=True), strict=True)
    }
    assert isinstance(confidence, NumericColumn)
    derived = derive_confidence("probabilities", probabilities)
    assert confidence.cuts.tolist() == np.unique(derived).astype(np.float64).tolist()
    assert baseline.confidence is not None
    assert (baseline.confidence.kind, baseline.confidence.tensor) == ("probabilities", "probabilities")
    assert [(t.name, t.datatype, t.kind, t.columns) for t in baseline.tensors] == [
        ("features", "FP32", "input", ("a", "b", "c")),
        ("label", "INT64", "output", ("prediction",)),
    ]
    assert result.artefact_sha256 == hashlib.sha256(artefact.read_bytes()).hexdigest()
    assert result.version == "7.1"
    assert "left out: truth" in "\n".join(result.warnings)
    assert os.environ["ORT_DISABLE_TELEMETRY"]


def test_columns_can_be_named_by_hand_and_the_version_is_the_sidecars(tmp_path: Path, table: Path) -> None:
    artefact = save(tmp_path, classifier(3, 2))
    with pytest.raises(TrainingError, match=r"--tensor features=COLUMN"):
        made(table, artefact)
    result = made(table, artefact, tensors={"features": ("a", "b", "c")})
    assert result.version == f"sha256:{hashlib.sha256(artefact.read_bytes()).hexdigest()[:12]}"
    assert made(table, artefact, tensors={"features": ("a", "b", "c")}, version="x").version == "x"


def test_predictions_of_the_file_are_kept_where_they_are_named(tmp_path: Path, table: Path) -> None:
    artefact = save(tmp_path, classifier(3, 2, metadata={"driftd.columns.features": COLUMNS}))
    result = made(table, artefact, prediction="truth")
    by_name = {column.name: column for column in result.columns}
    assert by_name["prediction"].source == "truth"
    assert by_name["confidence"].source == "probabilities"


def test_logits_become_confidence_by_softmax(tmp_path: Path, table: Path) -> None:
    logits = model(
        [
            node("MatMul", ["features", "W"], ["scores"]),
            node("ArgMax", ["scores"], ["label"], {"axis": 1, "keepdims": 0}),
        ],
        [("features", FLOAT, ["N", 3])],
        [("label", INT64, ["N"]), ("scores", FLOAT, ["N", 2])],
        constants=[floats("W", [3, 2], [1, -1, 0.5, 2, -0.5, 1])],
        metadata={"driftd.columns.features": COLUMNS},
    )
    result = made(table, save(tmp_path, logits))
    assert result.baseline.confidence is not None
    assert (result.baseline.confidence.kind, result.baseline.confidence.tensor) == ("softmax", "scores")


def test_one_input_per_column_with_text_and_booleans(tmp_path: Path) -> None:
    artefact = save(
        tmp_path,
        model(
            [
                node("Identity", ["age"], ["score"]),
                node("Identity", ["zip"], ["zip_out"]),
                node("Not", ["flag"], ["flag_out"]),
            ],
            [("age", FLOAT, ["N", 1]), ("zip", STRING, ["N"]), ("flag", BOOL, ["N", 1])],
            [("score", FLOAT, ["N", 1])],
        ),
    )
    frame = pd.DataFrame(
        {"age": [0.5, 1.5, None, 2.5] * 50, "zip": [10, 20] * 100, "flag": [True, False] * 100}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = made(tmp_path / "t.csv", artefact)
    assert [(c.name, c.type, c.dtype, c.missing) for c in result.columns] == [
        ("age", ColumnType.NUMERIC, "float32", 50),
        ("zip", ColumnType.CATEGORICAL, "string", 0),  # a string input: 10 is a name here, not a number
        ("flag", ColumnType.BOOLEAN, "bool", 0),
        ("prediction", ColumnType.NUMERIC, "float32", 50),
    ]
    assert [t.datatype for t in result.baseline.tensors] == ["FP32", "BYTES", "BOOL", "FP32"]


@pytest.mark.parametrize(
    ("metadata", "tensors", "complaint"),
    [
        ({"driftd.columns.features": "a,b"}, {}, "no JSON list of column names"),
        ({"driftd.columns.features": '["a", "b"]'}, {}, "has 3 columns, but 2 are named: a, b"),
        ({"driftd.columns.features": '["a", "b", "a"]'}, {}, "'a' feeds two places"),
        ({"driftd.columns.features": '["a", "b", "d"]'}, {}, "no column 'd'"),
        ({"driftd.columns.features": '["a", "b", ""]'}, {}, "position 2 of input 'features' has no column"),
        ({}, {"feature": ("a", "b", "c")}, "no input 'feature'; it has features"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(
    tmp_path: Path, table: Path, metadata: dict[str, str], tensors: dict[str, tuple[str, ...]], complaint: str
) -> None:
    with pytest.raises(TrainingError, match=complaint):
        made(table, save(tmp_path, classifier(3, 2, metadata=metadata)), tensors=tensors)


def test_what_is_no_model_is_refused(tmp_path: Path, table: Path) -> None:
    with pytest.raises(TrainingError, match=r"model\.onnx: not a model that onnxruntime can load"):
        made(table, save(tmp_path, b"no model"))
    with pytest.raises(TrainingError, match=r"gone\.onnx: No such file"):
        made(table, tmp_path / "gone.onnx")
    picture = model(
        [node("Identity", ["x"], ["y"])], [("x", FLOAT, ["N", 3, 8, 8])], [("y", FLOAT, ["N", 3, 8, 8])]
    )
    with pytest.raises(TrainingError, match=r"shape \['N', 3, 8, 8\]; rows of a table are needed"):
        made(table, save(tmp_path, picture))


def test_a_model_that_cannot_take_missing_values_says_so(tmp_path: Path) -> None:
    artefact = save(
        tmp_path, model([node("Identity", ["n"], ["y"])], [("n", INT64, ["N"])], [("y", INT64, ["N"])])
    )
    (tmp_path / "t.csv").write_text("n\n" + "1\n" * 200 + "NA\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"rows 1 to 201: column 'n' has missing values.*int64 input"):
        made(tmp_path / "t.csv", artefact)


def test_the_demo_model_builds(tmp_path: Path) -> None:
    assets = Path(__file__).parents[3] / "monitor" / "demo" / "assets"
    result = made(assets / "training.csv.gz", assets / "late_arrival.onnx")
    assert result.artefact_sha256 == hashlib.sha256((assets / "late_arrival.onnx").read_bytes()).hexdigest()
    assert {"prediction", "confidence", "temp"} <= {column.name for column in result.columns}
