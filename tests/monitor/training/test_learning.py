"""Training rows that say when they happened: read strictly, counted in order of time, learned from."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detectors.decision import Calibration, CalibrationSource, ColumnLearning
from monitor.training import BuildResult, LearningOptions, TrainingError, TrainingOptions, build
from tests.detectors.decision import test_flights as flights
from tests.monitor import frames

DAY = 86_400
START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOWS = (3_600, 21_600, DAY)


def learning(windows: tuple[int, ...] = WINDOWS, block: int = 3_600) -> LearningOptions:
    return LearningOptions(time="time", windows=windows, block_seconds=block)


def built(*files: Path, ignore: tuple[str, ...] = (), pane: int = 3_600, **options: object) -> BuildResult:
    return build(
        TrainingOptions(
            model="m",
            version="1",
            files=files,
            ignore=ignore,
            pane_seconds=pane,
            **{"learning": learning(), **options},  # type: ignore[arg-type]  # any option
        )
    )


def table(days: int, *, per_hour: int = 60) -> pd.DataFrame:
    rows = days * 24 * per_hour
    values = frames.rows(5, rows)
    times = pd.date_range(START, periods=rows, freq=f"{3600 // per_hour}s")
    return pd.DataFrame({"time": times, **values})


def written(path: Path, times: Sequence[str]) -> Path:
    lines = [f"{time},{i % 7}" for i, time in enumerate(times)]
    path.write_text("\n".join(["time,x", *lines]) + "\n", encoding="utf-8")
    return path


def stamps(count: int) -> list[str]:
    return [f"{START + timedelta(minutes=10 * i):%Y-%m-%dT%H:%M:%SZ}" for i in range(count)]


def place_of(calibration: Calibration, column: int) -> slice:
    edges = [*calibration.starts.tolist(), calibration.bands.low.size]
    return slice(edges[column], edges[column + 1])


def same(left: Calibration | None, right: Calibration | None) -> bool:
    assert left is not None
    assert right is not None
    return left.encode() == right.encode()


def test_the_demos_winter_teaches_what_its_hours_teach(tmp_path: Path) -> None:
    windows = (DAY, 7 * DAY, 28 * DAY)
    result = built(
        flights.ASSETS / "training.csv.gz",
        ignore=("id", "late"),
        dtype="float32",
        pane=DAY,
        learning=learning(windows, DAY),
    )
    assert "time" not in result.baseline.layout.positions
    found = result.calibration
    assert found is not None
    assert (found.source, found.windows.tolist()) == (CalibrationSource.TRAINING, list(windows))
    names = [column.name for column in result.baseline.columns]
    assert sorted(names) == sorted(flights.COLUMNS)
    assert set(found.states) == {ColumnLearning.LEARNED}
    # In blocks of whole panes, though it was counted by the hour: only so the correlation times are those of hours.
    assert set(found.block_seconds.tolist()) == {DAY}
    hourly = flights.calibration()
    assert found.span == hourly.span
    for column, tau in zip(flights.COLUMNS, hourly.tau_seconds.tolist(), strict=True):
        assert found.tau_seconds[names.index(column)] == tau
    assert 0.94 < found.thresholds.theta[0, names.index("temp")] < 1.0
    place, theirs = place_of(found, names.index("temp")), place_of(hourly, 0)
    assert found.bands.low[place].tolist() == hourly.bands.low[theirs].tolist()
    assert found.bands.high[place].tolist() == hourly.bands.high[theirs].tolist()


def test_nothing_but_order_of_time_counts(tmp_path: Path) -> None:
    frame = table(16)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert " 00:00:00+00:00" in (tmp_path / "t.csv").read_text()[:200]  # a blank, as pandas writes it
    whole = built(tmp_path / "t.csv")
    assert whole.calibration is not None
    assert set(whole.calibration.states) == {ColumnLearning.LEARNED}
    assert whole.calibration.span == (int(START.timestamp()), int(START.timestamp()) + 16 * DAY)
    mixed = frame.sample(frac=1.0, random_state=3)
    mixed["time"] = mixed["time"].dt.tz_convert("Asia/Kolkata").map(lambda time: time.isoformat())
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    shuffled = built(tmp_path / "mixed.csv", cells_per_chunk=10_000)
    assert same(shuffled.calibration, whole.calibration)
    frame.iloc[:9_000].to_parquet(tmp_path / "a.parquet")
    frame.iloc[9_000:].assign(time=lambda f: f["time"].dt.as_unit("ms")).to_parquet(tmp_path / "b.parquet")
    parquet = built(tmp_path / "a.parquet", tmp_path / "b.parquet", types={}, dtypes={"temp": "float64"})
    assert parquet.calibration is not None
    assert parquet.calibration.span == whole.calibration.span
    assert np.array_equal(parquet.calibration.tau_seconds, whole.calibration.tau_seconds)


def test_without_a_time_column_nothing_is_learned_and_the_baseline_is_the_same(tmp_path: Path) -> None:
    table(15, per_hour=10).to_csv(tmp_path / "t.csv", index=False)
    plain = built(tmp_path / "t.csv", ignore=("time",), learning=None)
    assert plain.calibration is None
    timed = built(tmp_path / "t.csv")
    assert timed.calibration is not None
    assert timed.baseline.fingerprint == plain.baseline.fingerprint


def test_a_few_days_leave_every_column_learning(tmp_path: Path) -> None:
    table(5).to_csv(tmp_path / "t.csv", index=False)
    found = built(tmp_path / "t.csv").calibration
    assert found is not None
    assert set(found.states) == {ColumnLearning.LEARNING}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("2026-01-01T00:00:00", "'2026-01-01T00:00:00': the time has no offset; send UTC with a final Z"),
        ("2026-01-01 00:00:00", "'2026-01-01 00:00:00': the time has no offset; send UTC with a final Z"),
        ("2026-02-30T00:00:00Z", "'2026-02-30T00:00:00Z': the date 2026-02-30 does not exist"),
        ("yesterday", "'yesterday': not an RFC 3339 time; send e.g. 2026-01-31T12:00:00Z"),
        ("1767225600", "'1767225600': not an RFC 3339 time; send e.g. 2026-01-31T12:00:00Z"),
        ("", "the row has no time; leave such rows out"),
    ],
)
def test_a_time_that_names_no_instant_is_refused_by_file_and_row(tmp_path: Path, bad: str, why: str) -> None:
    times = stamps(1_500)
    times[1_203] = bad
    path = written(tmp_path / "t.csv", times)
    with pytest.raises(TrainingError) as refused:
        built(path, cells_per_chunk=1_000)
    assert str(refused.value).removeprefix(f"{path}, row 1204: time column 'time': ").endswith(why)
    assert str(refused.value).startswith(f"{path}, row 1204: ")


@pytest.mark.parametrize("naive", [True, False])
def test_timestamps_of_parquet_need_a_zone_and_a_value(tmp_path: Path, naive: bool) -> None:
    frame = table(1)
    if naive:
        frame["time"] = frame["time"].dt.tz_localize(None)
    else:
        frame.loc[77, "time"] = pd.NaT
    frame.to_parquet(tmp_path / "t.parquet")
    row, why = (1, "its timestamps have no zone") if naive else (78, "the row has no time")
    with pytest.raises(TrainingError, match=rf"t\.parquet, row {row}: time column 'time': {why}"):
        built(tmp_path / "t.parquet")


def test_numbers_are_no_times(tmp_path: Path) -> None:
    table(1).assign(time=1.5).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TrainingError, match="row 1: time column 'time': float64 values where times"):
        built(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"t\.csv: has no column 'time' for --time \(did you mean timed\?\)"),
        (
            {"learning": LearningOptions(time="x", windows=WINDOWS, block_seconds=60), "prediction": "x"},
            "--time x: the column of times is no feature; take it out of --prediction",
        ),
        (
            {"learning": LearningOptions(time="x", windows=WINDOWS, block_seconds=60), "include": ("x",)},
            "take it out of --include",
        ),
    ],
)
def test_the_column_of_times_is_there_and_nothing_else(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    path = written(tmp_path / "t.csv", stamps(200))
    path.write_text(path.read_text().replace("time,x", "timed,x"))
    with pytest.raises(TrainingError, match=message):
        built(path, **options)  # type: ignore[arg-type]  # any option


def test_every_file_has_the_column(tmp_path: Path) -> None:
    first, other = written(tmp_path / "a.csv", stamps(200)), tmp_path / "b.csv"
    other.write_text("x\n1\n")
    with pytest.raises(TrainingError, match=r"b\.csv: lacks the column 'time'"):
        built(first, other, ignore=("time",))
