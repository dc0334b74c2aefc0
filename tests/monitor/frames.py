"""Small baselines and rows for the tests of this room."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType

Rows = Mapping[str, npt.NDArray[Any]]


def rows(seed: int, n: int, *, shift: float = 0.0) -> dict[str, npt.NDArray[Any]]:
    """Rows of three columns: a normal one (moved by `shift`), a category, and a confidence."""
    rng = np.random.default_rng(seed)
    return {
        "temp": np.round(rng.normal(40.0 + shift, 10.0, n), 1).astype(np.float32),
        "carrier": rng.choice(np.array(["UA", "DL", "B6"], dtype=object), n, p=[0.5, 0.3, 0.2]),
        "confidence": np.round(rng.beta(8, 2, n), 2).astype(np.float32),
    }


def baseline(*, pane_seconds: int = 60, n: int = 4000) -> Baseline:
    """A baseline of `n` such rows."""
    values = rows(1, n)
    return build_baseline(
        [
            ColumnData(
                name="temp",
                role=ColumnRole.FEATURE,
                type=ColumnType.NUMERIC,
                dtype="float32",
                values=values["temp"],
            ),
            ColumnData(
                name="carrier",
                role=ColumnRole.FEATURE,
                type=ColumnType.CATEGORICAL,
                dtype="string",
                values=values["carrier"],
            ),
            ColumnData(
                name="confidence",
                role=ColumnRole.CONFIDENCE,
                type=ColumnType.NUMERIC,
                dtype="float32",
                values=values["confidence"],
            ),
        ],
        pane_seconds=pane_seconds,
        tensors=(),
        confidence=None,
        source="test",
    )


def concatenate(parts: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Join columns [N] of the same names, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
