"""What the golden files of edge mode hold: rows whose sums are exact on every machine."""

from typing import Any

import numpy as np

from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType
from driftd_sidecar._wire import Envelope, Told

START = 1_767_225_600
ENVELOPE = Envelope(
    id="0197c1a2-7d7e-7cc3-b1f4-3a1d2f6b9a10",
    model_version="3",
    sent_at_ns=(START + 61) * 10**9,
    books=Told(kept=8, dropped=2, failed_inferences=1, sample_rate=1.0),
)


def baseline() -> Baseline:
    """128 rows of five columns; `temp` has more cuts than its coarse view."""
    steps = np.arange(128)
    columns = [
        ColumnData(
            name="temp", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32",
            values=(steps / 2).astype(np.float32),
        ),
        ColumnData(
            name="price", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64", values=steps + 2.0**-30
        ),
        ColumnData(
            name="city", role=ColumnRole.FEATURE, type=ColumnType.CATEGORICAL, dtype="string",
            values=np.array([f"c{step * step % 61}" for step in steps], object),
        ),
        ColumnData(
            name="label", role=ColumnRole.PREDICTION, type=ColumnType.CATEGORICAL, dtype="int64", values=steps % 3
        ),
        ColumnData(
            name="sure", role=ColumnRole.CONFIDENCE, type=ColumnType.NUMERIC, dtype="float32",
            values=(1 - steps / 256).astype(np.float32),
        ),
    ]  # fmt: skip
    tensor = TensorMap(name="x", datatype="FP32", kind="input", columns=("temp", ""))
    rule = ConfidenceRule(kind="probabilities", tensor="p")
    return build_baseline(columns, 60, [tensor], rule, "golden")


def inputs() -> dict[str, Any]:
    temp = np.array([1, 2, 3, 4, 5, 6, np.nan, np.inf], np.float32)
    return {
        "x": np.stack([temp, np.zeros(8, np.float32)], axis=1),
        "price": np.array([0.25, 0.25, 0.5, 0.5, 1, 1, 99, -1]),
        "city": np.array(["c0", "c1", "c1", "new", None, "", "c60", "c4"], object),
    }


def outputs() -> dict[str, Any]:
    share = np.array([0.5, 0.625, 0.75, 0.875, 0.5, 0.625, 0.75, 0.875], np.float32)
    return {"label": np.array([0, 1, 2, 0, 1, 2, 0, 9]), "p": np.stack([share, 1 - share], axis=1)}


TIMES = (START + np.arange(8) * 7) * 10**9
REGIONS = ["eu", "eu", "us", "us", "eu", "eu", "us", "us"]
KEYS = ("region",)
