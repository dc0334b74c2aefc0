"""The same values in a training file and in posted JSON fall into the same cells, however awkward they are."""

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from detectors.codec import decode_profile
from detectors.types import ColumnType
from monitor.training import TrainingOptions, build
from storage import panes
from tests.monitor.harness import START, harness

ROWS = 400

# What the application sends: labels as text, for a column whose training file held text.
AWKWARD: dict[str, tuple[ColumnType, list[Any]]] = {
    "label": (ColumnType.CATEGORICAL, ["a", "123", "True", None]),
    "code": (ColumnType.CATEGORICAL, ["007", "7", "1e3", "1000"]),
    "identity": (ColumnType.CATEGORICAL, [str(2**53 + i) for i in range(40)]),
    "huge": (ColumnType.NUMERIC, [1e300, -1e300, 1.0, None]),
    "tiny": (ColumnType.NUMERIC, [5e-324, 1e-310, 0.0, -0.0]),
    "flag": (ColumnType.BOOLEAN, [True, False, None]),
    "count": (ColumnType.NUMERIC, [1, 2, None, 7]),
    "whole": (ColumnType.NUMERIC, [1.0, 2.5, 3.0]),
    "constant": (ColumnType.NUMERIC, [3.5]),
    "decimal": (ColumnType.NUMERIC, [0.1, 0.2, 0.30000000000000004, 0.3]),
    "word": (ColumnType.CATEGORICAL, ["ä", "a\u0308", " a", "A"]),
}


def rows() -> list[dict[str, Any]]:
    return [{name: values[i % len(values)] for name, (_, values) in AWKWARD.items()} for i in range(ROWS)]


def training_file(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(AWKWARD))
        writer.writeheader()
        writer.writerows(rows())  # None becomes an empty field, True becomes True
    return path


def test_posted_rows_are_counted_as_the_training_rows_were(tmp_path: Path) -> None:
    options = TrainingOptions(model="m", version="1", files=(training_file(tmp_path / "t.csv"),))
    baseline = build(options).baseline
    assert {c.name: c.type for c in baseline.columns} == {name: kind for name, (kind, _) in AWKWARD.items()}
    with harness(tmp_path) as daemon:
        daemon.put_baseline(baseline)
        daemon.clock.advance_to(START + timedelta(hours=1))
        times = START.isoformat()
        body = {"model_version": "1", "rows": [{"features": row, "ts": times} for row in rows()]}
        reply = daemon.json("POST", "/v1/models/m/predictions", body)
        assert (reply["accepted"], reply["errors"]) == (ROWS, [])
        daemon.service.pipeline.run_once()
        with daemon.service.database.read() as conn:
            (pane,) = panes.window(conn, 1, "", baseline.pane_seconds, 0, 2**40)
    counted = decode_profile(baseline.layout, pane.profile)
    for column, part in zip(baseline.columns, baseline.layout.slices, strict=True):
        assert counted.counts[part].tolist() == baseline.profile.counts[part].tolist(), column.name
    assert counted.moments == pytest.approx(baseline.profile.moments, rel=1e-12)


def test_numbers_and_booleans_in_a_column_of_text_are_refused_by_name_and_null_is_missing(
    tmp_path: Path,
) -> None:
    """Whether 123 and true are labels or mistakes, only the application knows; a column has one dtype on both sides."""
    options = TrainingOptions(model="m", version="1", files=(training_file(tmp_path / "t.csv"),))
    with harness(tmp_path) as daemon:
        daemon.put_baseline(build(options).baseline)
        features = [dict(row) for row in rows()[:4]]
        for row, label in zip(features, ["a", 123, True, None], strict=True):
            row["label"] = label
        body = {"model_version": "1", "rows": [{"features": row} for row in features]}
        reply = daemon.json("POST", "/v1/models/m/predictions", body)
    assert (reply["accepted"], reply["rejected"]) == (2, 2)
    assert reply["errors"] == [
        {"pointer": "/rows/1/features/label", "detail": "expected text or null, got a number"},
        {"pointer": "/rows/2/features/label", "detail": "expected text or null, got a boolean"},
    ]
