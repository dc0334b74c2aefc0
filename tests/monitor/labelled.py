"""A model whose predictions can be labelled, and traffic of it: for the tests of labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType
from tests.monitor.harness import Harness

LATE, DELAY = "late", "delay"
"""The predictions: whether a flight is late (0 or 1), and by how many minutes."""


def baseline(*, delay: str = "float32") -> Baseline:
    """One feature, two predictions (`delay` of that dtype) and a confidence, in quarter-hour panes."""
    rng = np.random.default_rng(5)
    columns = [
        ("temp", ColumnRole.FEATURE, ColumnType.NUMERIC, "float32", rng.normal(40, 10, 4000).round(1)),
        (LATE, ColumnRole.PREDICTION, ColumnType.CATEGORICAL, "int64", rng.integers(0, 2, 4000)),
        (DELAY, ColumnRole.PREDICTION, ColumnType.NUMERIC, delay, rng.normal(0, 5, 4000)),
        ("confidence", ColumnRole.CONFIDENCE, ColumnType.NUMERIC, "float32", rng.beta(8, 2, 4000)),
    ]
    return build_baseline(
        [
            ColumnData(name=name, role=role, type=kind, dtype=dtype, values=values.astype(dtype))
            for name, role, kind, dtype, values in columns
        ],
        pane_seconds=900,
        tensors=(),
        confidence=None,
        source="test",
    )


def predict(
    found: Harness, ids: Sequence[str | None], late: Sequence[int], delay: Sequence[float], **more: Any
) -> None:
    """Predictions that happen now; `confidence` and what else a columnar body may have can be given."""
    count = len(ids)
    rng = np.random.default_rng(count)
    body = {
        "model_version": "1",
        "ids": list(ids),
        "columns": {
            "temp": rng.normal(40, 10, count).round(1).tolist(),
            LATE: list(late),
            DELAY: list(delay),
        },
        "confidence": rng.beta(8, 2, count).tolist(),
    }
    found.json("POST", "/v1/models/m/predictions", body | more)


def label(found: Harness, ids: Sequence[str], **columns: Sequence[Any]) -> None:
    """Labels that become known now."""
    found.json("POST", "/v1/models/m/labels", {"ids": list(ids), "columns": columns})
