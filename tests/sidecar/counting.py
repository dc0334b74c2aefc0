"""A baseline of every kind of column, and rows for it that leave nothing out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType

FEATURE, NUMERIC = ColumnRole.FEATURE, ColumnType.NUMERIC
NUMBERS: Mapping[str, str] = {
    "f2": "float16", "f4": "float32", "f8": "float64",
    "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
}  # fmt: skip
KINDS = ("given", "probabilities", "positive_probability", "softmax")


def numbers(rng: np.random.Generator, dtype: str, rows: int) -> Any:
    """Values of a dtype: a spread of many, with ties; floats also with zeros of both signs."""
    if dtype.startswith("float"):
        values = rng.normal(3, 20, rows).astype(dtype)
        values[::7] = np.float32(0.1)
        values[::11] = -0.0
        return values
    bounds = np.iinfo(dtype)
    return rng.integers(max(bounds.min, -900), min(bounds.max, 900), rows, endpoint=True).astype(dtype)


def cities(rng: np.random.Generator, rows: int, most: int = 60) -> list[str]:
    return [f"città {int(each)}" for each in rng.zipf(1.5, rows) % most]


def notes(rng: np.random.Generator, rows: int) -> list[str]:
    return ["è" * int(each) for each in rng.integers(0, 40, rows)]


def baseline(
    confidence: ConfidenceRule | None = None,
    *,
    pane_seconds: int = 60,
    rows: int = 3000,
    width: int = 4,
) -> Baseline:
    """Columns of all types and dtypes; a tensor `x` of `width` float32 columns whose second position is skipped."""
    rng = np.random.default_rng(11)
    columns = [
        ColumnData(name=name, role=FEATURE, type=NUMERIC, dtype=dtype, values=numbers(rng, dtype, rows))
        for name, dtype in NUMBERS.items()
    ]
    features = [f"x{position}" for position in range(width)]
    columns += [
        ColumnData(
            name=name, role=FEATURE, type=NUMERIC, dtype="float32", values=numbers(rng, "float32", rows)
        )
        for name in features
    ]
    plain: list[tuple[str, ColumnRole, ColumnType, str, Any]] = [
        ("flag", FEATURE, ColumnType.BOOLEAN, "bool", rng.random(rows) < 0.3),
        ("city", FEATURE, ColumnType.CATEGORICAL, "string", np.array(cities(rng, rows), object)),
        ("grade", FEATURE, ColumnType.CATEGORICAL, "int64", rng.integers(0, 70, rows)),
        ("share", FEATURE, ColumnType.CATEGORICAL, "float64", rng.integers(0, 9, rows) / 2),
        ("truth", FEATURE, ColumnType.CATEGORICAL, "bool", rng.random(rows) < 0.5),
        ("note", FEATURE, ColumnType.TEXT, "int64", np.array(notes(rng, rows), object)),
        ("label", ColumnRole.PREDICTION, ColumnType.CATEGORICAL, "int64", rng.integers(0, 3, rows)),
        ("sure", ColumnRole.CONFIDENCE, NUMERIC, "float32", (1 - rng.random(rows) / 2).astype(np.float32)),
    ]
    columns += [
        ColumnData(name=name, role=role, type=kind, dtype=dtype, values=values)
        for name, role, kind, dtype, values in plain
    ]
    skipping = (features[0], "", *features[1:])
    tensors = [TensorMap(name="x", datatype="FP32", kind="input", columns=skipping)]
    return build_baseline(columns, pane_seconds, tensors, confidence, "test")


def inputs(rng: np.random.Generator, rows: int, *, width: int = 4) -> dict[str, Any]:
    """Rows as an application passes them, with what is missing, infinite, unseen and out of range."""
    given: dict[str, Any] = {name: numbers(rng, dtype, rows) for name, dtype in NUMBERS.items()}
    for name in ("f2", "f4", "f8"):
        given[name][rng.integers(0, rows, rows // 5)] = np.nan
        given[name][rng.integers(0, rows, 3)] = np.inf
        given[name][rng.integers(0, rows, 2)] = -np.inf
    given["f8"][0] = 1e300
    given["x"] = numbers(rng, "float32", rows * (width + 1)).reshape(rows, width + 1)
    given["x"][rng.random(given["x"].shape) < 0.05] = np.nan
    given["flag"] = rng.random(rows) < 0.7
    city: list[Any] = cities(rng, rows, 90)
    city[::9] = [None] * len(city[::9])
    city[1::13] = [""] * len(city[1::13])
    city[2:5] = [7, 7.0, True]  # labels of several types in one column
    given["city"] = np.array(city, object)
    given["grade"] = rng.integers(0, 90, rows)
    given["share"] = rng.integers(0, 12, rows) / 2
    given["share"][::8] = np.nan
    given["truth"] = rng.random(rows) < 0.5
    given["note"] = np.array(notes(rng, rows), object)
    return given


def outputs(rng: np.random.Generator, rows: int, kind: str | None) -> dict[str, Any]:
    """What a classifier says, in the shape that the confidence rule of that kind reads."""
    said: dict[str, Any] = {"label": rng.integers(0, 4, rows)}
    if kind == "given":
        said["p"] = rng.random(rows).astype(np.float32)
    elif kind == "positive_probability":
        said["p"] = rng.random((rows, 1)).astype(np.float32)
    elif kind == "probabilities":
        said["p"] = rng.dirichlet([1, 2, 3], rows).astype(np.float32)
        said["p"][::6, 1] = np.nan
    elif kind == "softmax":
        said["p"] = rng.normal(0, 3, (rows, 3)).astype(np.float32)
    else:
        said["sure"] = rng.uniform(-0.1, 1.2, rows).astype(np.float32)
    return said
