"""The same rows as each format sends them: 30 float32 columns, the batch's time that of its arrival."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.ingesting.naive import COLUMNS
from detectors.counts import Baseline
from detectors.profile import ColumnData, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType

Rows = npt.NDArray[np.float32]

MODEL: Final = "bench"
VERSION: Final = "1"
TRAINING_ROWS: Final = 10_000
RAW_BYTES: Final = 4 * len(COLUMNS)
"""Bytes of one row's values."""
_STREAM: Final = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One POST: its bytes, and the headers that say what they are."""

    data: bytes
    headers: Mapping[str, str]


def baseline(rng: np.random.Generator, pane_seconds: int = 60) -> Baseline:
    """Continuous columns with 1024 cut points each, the most there are."""
    data = [
        ColumnData(
            name=name,
            role=ColumnRole.FEATURE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=rng.normal(size=TRAINING_ROWS).astype(np.float32),
        )
        for name in COLUMNS
    ]
    tensors = [TensorMap(name="features", datatype="FP32", kind="input", columns=COLUMNS)]
    return build_baseline(data, pane_seconds, tensors, None, "benchmark")


def draw(rng: np.random.Generator, rows: int) -> Rows:
    """Rows like those of training."""
    return rng.normal(size=(rows, len(COLUMNS))).astype(np.float32)


def binary(rows: Rows, times_ns: npt.NDArray[np.int64] | None = None) -> Body:
    """Open Inference Protocol v2 with its binary extension: the daemon's native format."""
    tensors = [("features", "FP32", list(rows.shape), rows.astype("<f4").tobytes())]
    if times_ns is not None:
        tensors.append(("driftd.ts", "INT64", [times_ns.size], times_ns.astype("<i8").tobytes()))
    entries = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in tensors
    ]
    head = _json({"model_version": VERSION, "parameters": {"driftd": 1}, "inputs": entries})
    return Body(
        data=head + b"".join(data for *_, data in tensors),
        headers={
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        },
    )


def row_json(rows: Rows) -> Body:
    """One object per row."""
    each = [{"features": dict(zip(COLUMNS, row, strict=True))} for row in rows.tolist()]
    return _posted({"model_version": VERSION, "rows": each})


def columnar_json(rows: Rows) -> Body:
    """One array per column."""
    columns = dict(zip(COLUMNS, rows.T.tolist(), strict=True))
    return _posted({"model_version": VERSION, "columns": columns})


def oip_json(rows: Rows) -> Body:
    """Open Inference Protocol v2 in JSON alone."""
    entry = {
        "name": "features",
        "datatype": "FP32",
        "shape": list(rows.shape),
        "data": rows.ravel().tolist(),
    }
    return _posted({"model_version": VERSION, "inputs": [entry]})


def arrow(rows: Rows) -> Body:
    """An Arrow IPC stream of one record batch."""
    import pyarrow as pa
    import pyarrow.ipc

    schema = pa.schema([(name, pa.float32()) for name in COLUMNS], metadata={"driftd.model_version": VERSION})
    table = pa.table([pa.array(column) for column in np.ascontiguousarray(rows.T)], schema=schema)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    return Body(data=sink.getvalue(), headers={"Content-Type": _STREAM})


FORMATS: Final[Mapping[str, Callable[[Rows], Body]]] = {
    "binary": binary,
    "row_json": row_json,
    "columnar_json": columnar_json,
    "oip_json": oip_json,
    "arrow": arrow,
}


def _posted(value: object) -> Body:
    return Body(data=_json(value), headers={"Content-Type": "application/json"})


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
