"""One baseline and one set of rows, written in each of the four formats."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.accept import Accepted, accept
from monitor.ingest.batch import decode_payload, encode_payload
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.elements import encode_elements
from monitor.ingest.envelope import open_body
from monitor.ingest.frame import frame
from monitor.ingest.schema import VersionHandle
from monitor.ingest.times import TimeLimits, parse_time

NOW = parse_time("2026-03-01T12:00:00Z")
Row = Mapping[str, Any]

COLUMNS: Sequence[tuple[str, ColumnType, str]] = (
    ("amount", ColumnType.NUMERIC, "float32"),
    ("age", ColumnType.NUMERIC, "int64"),
    ("vip", ColumnType.BOOLEAN, "bool"),
    ("city", ColumnType.CATEGORICAL, "string"),
    ("note", ColumnType.TEXT, "int64"),
)


def baseline(confidence: ConfidenceRule | None = None, tensors: Sequence[TensorMap] = ()) -> Baseline:
    """A baseline of 200 rows: five features, a prediction and a confidence."""
    rng = np.random.default_rng(7)
    values: dict[str, Any] = {
        "amount": rng.normal(100, 20, 200).astype(np.float32),
        "age": rng.integers(18, 90, 200),
        "vip": rng.random(200) < 0.3,
        "city": np.array(["Oslo", "Rome", "Lima"] * 66 + ["Oslo", "Bern"], dtype=object),
        "note": np.array(["a", "bb", "ccc", "dddd"] * 50, dtype=object),
    }
    columns = [
        ColumnData(name=name, role=ColumnRole.FEATURE, type=kind, dtype=dtype, values=values[name])
        for name, kind, dtype in COLUMNS
    ]
    columns.append(
        ColumnData(
            name="score",
            role=ColumnRole.PREDICTION,
            type=ColumnType.NUMERIC,
            dtype="float64",
            values=rng.random(200),
        )
    )
    columns.append(
        ColumnData(
            name="sure", role=ColumnRole.CONFIDENCE, type=ColumnType.NUMERIC, dtype="float32",
            values=(0.5 + rng.random(200) / 2).astype(np.float32),
        )
    )  # fmt: skip
    return build_baseline(columns, 60, tensors, confidence, "test")


BASELINE = baseline()
VERSION = VersionHandle(version_id=1, version="3", baseline=BASELINE)
PENDING = VersionHandle(version_id=2, version="4", baseline=None)

GOOD: Row = {
    "amount": 101.5,
    "age": 44,
    "vip": True,
    "city": "Oslo",
    "note": "hello",
    "prediction": 0.25,
    "confidence": 0.75,
}


def features(**changes: Any) -> dict[str, Any]:
    return {name: GOOD[name] for name, _, _ in COLUMNS} | changes


def take(
    body: bytes, header: int | None = None, version: VersionHandle = VERSION, watermark: int | None = None
) -> Accepted:
    """Everything between the inflated body and storage."""
    opened = open_body(body, header, DecodeLimits())
    return accept(decode_body(opened, version.baseline), version, NOW, watermark, TimeLimits())


def rows_body(rows: Sequence[Row], **more: Any) -> bytes:
    wire = [
        {"features": {name: row[name] for name, _, _ in COLUMNS}}
        | {key: row[key] for key in ("prediction", "confidence", "ts") if key in row}
        for row in rows
    ]
    return json.dumps({"model_version": "3", "rows": wire} | more).encode()


def columns_body(rows: Sequence[Row], **more: Any) -> bytes:
    wire: dict[str, Any] = {
        "model_version": "3",
        "columns": {name: [row[name] for row in rows] for name, _, _ in COLUMNS},
        "prediction": [row["prediction"] for row in rows],
        "confidence": [row["confidence"] for row in rows],
    }
    return json.dumps(wire | more).encode()


_OIP = {
    "amount": "FP32",
    "age": "FP64",
    "vip": "FP32",
    "city": "BYTES",
    "note": "BYTES",
    "prediction": "FP64",
    "confidence": "FP32",
}


def oip_json_body(rows: Sequence[Row]) -> bytes:
    def number(value: Any) -> Any:
        return float(value) if isinstance(value, bool) else value

    entries = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [number(row[name]) for row in rows]}
        for name, kind in _OIP.items()
    ]
    return json.dumps({"model_version": "3", "inputs": entries[:5], "outputs": entries[5:]}).encode()


def oip_binary_body(rows: Sequence[Row]) -> tuple[bytes, int]:
    """The body and the length of its header."""
    buffers: list[bytes] = []
    entries = []
    for name, kind in _OIP.items():
        values = [row[name] for row in rows]
        if kind == "BYTES":
            data = encode_elements(values)
        else:
            data = np.array(values, dtype=np.float64).astype("<f4" if kind == "FP32" else "<f8").tobytes()
        buffers.append(data)
        entries.append(
            {
                "name": name,
                "datatype": kind,
                "shape": [len(rows)],
                "parameters": {"binary_data_size": len(data)},
            }
        )
    return binary({"model_version": "3", "inputs": entries[:5], "outputs": entries[5:]}, *buffers)


def binary(header: Mapping[str, Any], *buffers: bytes) -> tuple[bytes, int]:
    head = json.dumps(header).encode()
    return b"".join([head, *buffers]), len(head)


def matrix(values: Any, name: str = "x", datatype: str = "FP32") -> tuple[dict[str, Any], bytes]:
    """One OIP binary tensor: its header entry and its bytes."""
    array = np.asarray(values)
    entry = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    return entry | {"parameters": {"binary_data_size": array.nbytes}}, array.tobytes()


def frame_of(outcome: Accepted, of: Any = BASELINE) -> dict[str, list[Any]]:
    """The frame after a round trip through the stored payload, as lists with None for NaN."""
    assert outcome.batch is not None
    arrays = frame([decode_payload(encode_payload(outcome.batch))], of)
    profile_rows(of, arrays)
    return {name: [None if v != v else v for v in array.tolist()] for name, array in arrays.items()}
