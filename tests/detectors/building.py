"""Short ways to baselines and windows of one or a few columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.profile import Baseline, ColumnData, Profile, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType


def data(
    values: npt.NDArray[Any],
    *,
    name: str = "x",
    role: ColumnRole = ColumnRole.FEATURE,
    type: ColumnType = ColumnType.NUMERIC,  # noqa: A002  # as in ColumnData
    dtype: str = "float64",
) -> ColumnData:
    return ColumnData(name=name, role=role, type=type, dtype=dtype, values=values)


def baseline_of(*columns: ColumnData, cut_cap: int = 1024) -> Baseline:
    return build_baseline(columns, 60, (), None, "test", cut_cap=cut_cap)


def numeric(values: npt.NDArray[Any], *, dtype: str = "float64", cut_cap: int = 1024) -> Baseline:
    """A baseline of the one numeric column `x`; short samples are repeated up to the 100 rows a baseline needs."""
    repeats = -(-100 // len(values))
    return baseline_of(data(np.tile(values, repeats), dtype=dtype), cut_cap=cut_cap)


def categories(values: Sequence[str | None]) -> Baseline:
    """A baseline of the one categorical column `x`."""
    return baseline_of(
        data(np.array(list(values), dtype=object), type=ColumnType.CATEGORICAL, dtype="string")
    )


def window(baseline: Baseline, values: npt.NDArray[Any]) -> Profile:
    return profile_rows(baseline, {"x": values})


def mixed_baseline(seed: int = 5, rows: int = 3_000) -> Baseline:
    """Every type and role once, and the columns that break naive code: constant, all missing, infinite."""
    return baseline_of(*mixed_columns(seed, rows))


def mixed_columns(seed: int, rows: int) -> list[ColumnData]:
    rng = np.random.default_rng(seed)
    gappy = rng.normal(size=rows)
    gappy[rng.random(rows) < 0.2] = np.nan
    infinite = rng.normal(size=rows)
    infinite[:7] = [np.inf, -np.inf, np.inf, 1e300, -1e300, 0.0, -0.0]
    regions = np.array([f"r{i}" for i in rng.geometric(0.05, size=rows)], dtype=object)
    regions[::17] = None
    words = np.array(["ä" * int(i) for i in rng.integers(0, 30, size=rows)], dtype=object)
    text, boolean, grouped = ColumnType.TEXT, ColumnType.BOOLEAN, ColumnType.CATEGORICAL
    return [
        data(rng.normal(40, 9, rows), name="age", dtype="float32"),
        data(gappy, name="gappy"),
        data(rng.integers(0, 12, rows), name="children", dtype="int64"),
        data(rng.random(rows) < 0.3, name="owner", type=boolean, dtype="bool"),
        data(words, name="note", type=text, dtype="int64"),
        data(regions, name="region", type=grouped, dtype="string"),
        data(np.full(rows, 3.5), name="constant"),
        data(np.full(rows, np.nan), name="absent"),
        data(np.full(rows, None, dtype=object), name="nameless", type=grouped, dtype="string"),
        data(infinite, name="infinite"),
        data(rng.beta(8, 2, rows), name="confidence", role=ColumnRole.CONFIDENCE, dtype="float32"),
        data(rng.integers(0, 3, rows), name="label", role=ColumnRole.PREDICTION, type=grouped, dtype="int64"),
    ]
