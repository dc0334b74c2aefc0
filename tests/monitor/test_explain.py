"""The words of a message: what moved, in the column's own units."""

import numpy as np
import pytest

from detectors.profile import ColumnData, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from monitor.explain import cell_quantile, moved, number, percent, side
from tests.monitor import frames

BASELINE = frames.baseline()


@pytest.mark.parametrize("q", [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_quantiles_of_counts_are_those_of_the_values(q: float) -> None:
    values = frames.rows(1, 4000)["temp"].astype(np.float64)
    column = BASELINE.columns[0]
    cells = BASELINE.profile.counts[BASELINE.layout.slices[0]][: 2 * column.cuts.size + 1]  # type: ignore[union-attr]  # numeric
    exact = np.quantile(values, q, method="inverted_cdf")
    assert cell_quantile(column.cuts, cells, q) == pytest.approx(exact, abs=1e-5)  # type: ignore[union-attr]  # numeric


def test_a_shift_names_both_medians() -> None:
    window = profile_rows(BASELINE, frames.rows(9, 2000, shift=5.0))
    then, now = side(BASELINE, 0, BASELINE.profile), side(BASELINE, 0, window)
    old, new = (np.median(frames.rows(s, n, shift=x)["temp"]) for s, n, x in ((1, 4000, 0.0), (9, 2000, 5.0)))
    said = moved(BASELINE, 0, then, now)
    assert said.startswith("median ")
    first, second = (float(word) for word in said.removeprefix("median ").split(" → "))
    assert first == pytest.approx(old, abs=0.11)
    assert second == pytest.approx(new, abs=0.11)


def test_values_beyond_all_of_training_are_said_to_be_so_with_the_exact_mean() -> None:
    rows = frames.rows(9, 500, shift=200.0)
    window = profile_rows(BASELINE, rows)
    said = moved(BASELINE, 0, side(BASELINE, 0, BASELINE.profile), side(BASELINE, 0, window))
    assert "→ > " in said
    assert "beyond all of training" in said
    assert f"→ {number(float(rows['temp'].astype(np.float64).mean()))}" in said


def test_categories_name_the_two_largest_changes() -> None:
    rows = frames.rows(9, 1000)
    rows["carrier"] = np.array(["UA"] * 100 + ["XX"] * 900, dtype=object)
    window = profile_rows(BASELINE, rows)
    said = moved(BASELINE, 1, side(BASELINE, 1, BASELINE.profile), side(BASELINE, 1, window))
    assert said.startswith("(never in training) 0% → 90%, UA ")


def test_missing_values_are_told_beside_the_shift() -> None:
    rows = frames.rows(9, 1000)
    rows["temp"][:300] = np.nan
    window = profile_rows(BASELINE, rows)
    said = moved(BASELINE, 0, side(BASELINE, 0, BASELINE.profile), side(BASELINE, 0, window))
    assert said.endswith("missing 0% → 30%")


def test_an_all_missing_window_says_nothing_false() -> None:
    rows = frames.rows(9, 50)
    rows["temp"][:] = np.nan
    window = profile_rows(BASELINE, rows)
    then, now = side(BASELINE, 0, BASELINE.profile), side(BASELINE, 0, window)
    assert now.quantile(1) == "–"
    assert moved(BASELINE, 0, then, now) == "missing 0% → 100%"


def test_a_boolean_column_speaks_of_true_and_false() -> None:
    flags = np.array([True] * 80 + [False] * 120)
    data = ColumnData(
        name="late", role=ColumnRole.FEATURE, type=ColumnType.BOOLEAN, dtype="bool", values=flags
    )
    baseline = build_baseline([data], 60, (), None, "test")
    window = profile_rows(baseline, {"late": np.array([True] * 90 + [False] * 10)})
    said = moved(baseline, 0, side(baseline, 0, baseline.profile), side(baseline, 0, window))
    assert said == "true 40% → 90%"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (41.0, "41"), (41.26, "41.26"), (123456.0, "123,456"), (1e-5, "1e-05"), (2.5e20, "2.5e+20")],
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert number(value) == text


def test_small_shares_keep_a_digit() -> None:
    assert [percent(s) for s in (0.0, 0.004, 0.5, 1.0)] == ["0%", "0.4%", "50%", "100%"]
