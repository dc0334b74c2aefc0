"""A model whose predictions can be labelled, and traffic of it: for the tests of labels."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType
from tests.monitor.harness import Harness

LATE, DELAY = "late", "delay"
"""The predictions: whether a flight is late (0 or 1), and by how many minutes."""


def baseline(*predictions: str, delay: str = "float32") -> Baseline:
    """One feature, both predictions or those named (`delay` of that dtype), and a confidence, in quarter-hour panes."""
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
            if role is not ColumnRole.PREDICTION or name in (predictions or (LATE, DELAY))
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


def hours(
    found: Harness,
    count: int,
    *,
    right: int = 54,
    labelled: int = 54,
    rows: int = 60,
    shift: float = 0.0,
    step: timedelta = timedelta(hours=1),
) -> None:
    """Times `step` with `rows` predictions each: the first `right` are right, the first `labelled` get their label at once.

    Values are those of training, but for delays later by `shift` minutes; a wrong delay is 3 minutes too long.
    """
    for _ in range(count):
        now = found.clock.now()
        ids = [f"{now:%d-%H}-{row}" for row in range(rows)]
        rng = np.random.default_rng(now.hour)
        truth, delay = rng.integers(0, 2, rows), rng.normal(shift, 5, rows).round(2)
        wrong = np.arange(rows) >= right
        confidence = np.linspace(0.8, 1.0, rows).round(3).tolist()
        predict(
            found,
            ids,
            (truth ^ wrong).tolist(),
            (delay + 3.0 * wrong).tolist(),
            confidence=confidence,
            tags={"region": ["eu" if row % 2 else "us" for row in range(rows)]},
        )
        label(found, ids[:labelled], late=truth[:labelled].tolist(), delay=delay[:labelled].tolist())
        found.clock.advance(step)
        found.service.pipeline.run_once()
