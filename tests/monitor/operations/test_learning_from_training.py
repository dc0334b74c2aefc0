"""What timestamped training teaches: sent with its baseline, checked, in force from the first block on, gone on from."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from detectors.codec import encode_baseline
from detectors.decision import Calibration, CalibrationSource, ColumnLearning, taking, unlearned
from detectors.decision.events import EventIndex
from detectors.profile import ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType
from monitor.cli import main
from monitor.operations import Conflicting, Invalid, register_baseline
from monitor.training import BuildResult, LearningOptions, TrainingOptions, build
from storage import baselines
from storage.baselines import CalibrationRow
from tests.monitor import frames
from tests.monitor.harness import Harness, harness
from tests.monitor.world import CONFIG, MODEL, START, World

SIX_HOURS = timedelta(hours=6)
WINDOWS = (21_600, 43_200, 86_400)
CONFIGURED = (
    CONFIG.replace('pane = "1m"', 'pane = "6h"')
    .replace('windows = ["15m", "1h"]', 'windows = ["6h", "12h", "24h"]')
    .replace('evidence_block = "1m"', 'evidence_block = "6h"')
    .replace("learning = false", "learning = true")
)
OCTETS = {"Content-Type": "application/octet-stream"}
AT = f"/v1/models/{MODEL}/versions/1/baseline"


def training(path: Path, days: int) -> Path:
    rows = days * 24 * 60
    times = pd.date_range(datetime(2025, 6, 1, tzinfo=UTC), periods=rows, freq="min")
    pd.DataFrame({"time": times, **frames.rows(5, rows)}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `long.csv`, three weeks, and `short.csv`, five days."""
    directory = tmp_path_factory.mktemp("training")
    training(directory / "long.csv", 21)
    training(directory / "short.csv", 5)
    return directory


@cache
def built(path: Path) -> BuildResult:
    learning = LearningOptions(time="time", windows=WINDOWS, block_seconds=21_600, false_pages_per_year=1.0)
    return build(
        TrainingOptions(
            model=MODEL,
            version="1",
            files=(path,),
            confidence="confidence",
            dtypes={"temp": "float32", "confidence": "float32"},
            pane_seconds=21_600,
            learning=learning,
        )
    )


def taught(result: BuildResult) -> Calibration:
    assert result.calibration is not None
    return result.calibration


def half_taught(path: Path) -> Calibration:
    """Three weeks of every column but temp, of which only five days are known."""
    whole = taught(built(path / "long.csv"))
    untaught = unlearned(EventIndex.of(built(path / "long.csv").baseline), WINDOWS, 21_600)
    learning = replace(
        untaught,
        states=(ColumnLearning.LEARNING,) * 3,
        source=CalibrationSource.TRAINING,
    )
    names = [column.name for column in built(path / "long.csv").baseline.columns]
    return taking(learning, whole, np.array([name != "temp" for name in names]))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state", config=CONFIGURED)
    yield opened
    opened.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path, CONFIGURED) as made:
        yield made


def register(world: World, result: BuildResult, calibration: Calibration | None) -> None:
    register_baseline(
        world.service,
        model=MODEL,
        version="1",
        blob=encode_baseline(result.baseline),
        calibration=None if calibration is None else calibration.encode(),
        actor="ann",
    )


def stored(service: World | Harness) -> list[CalibrationRow]:
    with service.service.database.read() as conn:
        return baselines.list_calibrations(conn, 1)


def in_force(world: World) -> Calibration:
    track = world.service.pipeline._evaluators[1]._tracks.get(1, "")
    assert track is not None
    return track.calibration


def panes(world: World, count: int, *, shift: float = 0.0) -> None:
    for _ in range(count):
        at = world.clock.now()
        world.clock.advance(SIX_HOURS)
        world.send(at, frames.rows(int(at.timestamp()), 600, shift=shift), spread=timedelta(hours=5))
        world.look()


def test_it_is_in_force_from_the_first_block_on_also_of_replayed_traffic(world: World, files: Path) -> None:
    result = built(files / "long.csv")
    assert set(taught(result).states) == {ColumnLearning.LEARNED}
    register(world, result, taught(result))
    (row,) = stored(world)
    assert (row.segment, row.source, row.blob) == ("", "training", taught(result).encode())
    assert row.valid_from < -(10**15) < row.span_start < START.timestamp()
    panes(world, 8)
    assert in_force(world).encode() == row.blob
    world.restart()
    panes(world, 4)
    assert in_force(world).encode() == row.blob
    assert world.alerts() == []
    panes(world, 8, shift=25.0)
    assert {a.column for a in world.alerts() if a.state == "firing"} == {"temp"}
    assert stored(world) == [row]


def test_columns_left_learning_learn_from_traffic_and_the_others_keep_what_they_know(
    world: World, files: Path
) -> None:
    result, given = built(files / "long.csv"), half_taught(files)
    names = [column.name for column in result.baseline.columns]
    temp = names.index("temp")
    assert [state.value for state in given.states].count("learning") == 1
    assert given.states[temp] is ColumnLearning.LEARNING
    register(world, result, given)
    panes(world, 54)
    assert in_force(world).encode() == given.encode()
    panes(world, 8)
    now = in_force(world)
    assert set(now.states) == {ColumnLearning.LEARNED}
    assert now.source is CalibrationSource.TRAFFIC
    others = EventIndex.of(result.baseline).column != temp
    assert now.bands.low[others].tolist() == given.bands.low[others].tolist()
    assert now.bands.low[~others].tolist() != given.bands.low[~others].tolist()
    first, second = stored(world)
    assert START.timestamp() < second.valid_from
    assert second.blob == now.encode()
    register(world, result, given)
    assert stored(world) == [first, second]
    panes(world, 1)
    assert in_force(world).encode() == second.blob
    assert world.alerts() == []


def test_what_was_judged_without_it_is_not_judged_again(world: World, files: Path) -> None:
    result = built(files / "long.csv")
    register(world, result, None)
    register(world, result, half_taught(files))
    register(world, result, taught(result))
    assert len(stored(world)) == 2
    panes(world, 2)
    assert in_force(world).encode() == taught(result).encode()
    with pytest.raises(Conflicting, match="judged on this baseline already"):
        register(world, result, replace(taught(result), span=(0, 1)))
    assert len(stored(world)) == 2


def test_what_is_no_calibration_of_the_baseline_is_refused_and_neither_is_stored(
    world: World, files: Path
) -> None:
    result = built(files / "long.csv")
    good = taught(result)
    values = frames.rows(1, 400)["temp"]
    temp = ColumnData(
        name="temp", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32", values=values
    )
    other = EventIndex.of(build_baseline([temp], 60, (), None, "another"))
    bad = {
        "is of 16 events in 1 columns, the baseline has [0-9]+ in 3": unlearned(other, WINDOWS, 60),
        r"windows of \[900, 3600\] s": unlearned(EventIndex.of(result.baseline), (900, 3_600), 60),
        "learned from traffic": replace(good, source=CalibrationSource.TRAFFIC),
        "not whole panes of 21600 s": replace(good, block_seconds=good.block_seconds + 1),
    }
    for why, calibration in bad.items():
        with pytest.raises(Invalid, match=why):
            register(world, result, calibration)
    damaged = good.encode()[:-1]
    with pytest.raises(Invalid, match="calibration"):
        register_baseline(
            world.service,
            model=MODEL,
            version="1",
            blob=encode_baseline(result.baseline),
            calibration=damaged,
            actor="ann",
        )
    with world.service.database.read() as conn:
        assert baselines.list_baselines(conn) == []


def test_it_travels_behind_its_baseline_in_one_request(daemon: Harness, files: Path) -> None:
    result = built(files / "long.csv")
    blob, more = encode_baseline(result.baseline), taught(result).encode()
    reply = daemon.ask("PUT", f"{AT}?calibration_bytes={len(more)}", blob + more, headers=OCTETS)
    assert reply.status == 200, reply.body
    assert json.loads(reply.body)["fingerprint"] == result.baseline.fingerprint
    assert daemon.ask("GET", AT).body == blob
    assert [row.blob for row in stored(daemon)] == [more]
    for wrong, status in (
        (str(len(more) - 1), 422),
        ("0", 400),
        ("-1", 400),
        (str(len(blob + more)), 400),
        ("many", 400),
        ("%D9%A3", 400),
    ):
        refused = daemon.ask("PUT", f"{AT}?calibration_bytes={wrong}", blob + more, headers=OCTETS)
        assert refused.status == status, wrong
    assert daemon.ask("PUT", AT, blob + more, headers=OCTETS).status == 422
    assert len(stored(daemon)) == 1


def test_the_command_builds_sends_and_reports_it(tmp_path: Path, files: Path) -> None:
    config = tmp_path / "driftd.toml"
    config.write_text(f'[storage]\nstate_dir = "{tmp_path / "state"}"\n{CONFIGURED}')
    arguments = ["-c", str(config), "baseline", "build", "--model", MODEL, "--version", "1"]
    arguments += ["--confidence", "confidence", "--dtype", "temp=float32", "--dtype", "confidence=float32"]
    arguments += ["--time", "time"]
    done = CliRunner().invoke(main, [*arguments, "--json", str(files / "long.csv")], prog_name="driftd")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    result = built(files / "long.csv")
    found = taught(result)
    assert told["fingerprint"] == result.baseline.fingerprint
    assert {c["name"]: (c["learning"], c["block_seconds"]) for c in told["columns"]} == {
        column.name: ("learned", seconds)
        for column, seconds in zip(result.baseline.columns, found.block_seconds.tolist(), strict=True)
    }
    world = World(tmp_path / "state", config=CONFIGURED)
    assert [row.blob for row in stored(world)] == [found.encode()]
    world.close()
    short = CliRunner().invoke(main, [*arguments, "--dry-run", str(files / "short.csv")], prog_name="driftd")
    assert short.exit_code == 0, short.output
    head, *lines = short.stdout.splitlines()
    assert head.split()[-2:] == ["LEARNING", "BLOCK"]
    assert [line.split()[-2:] for line in lines[:3]] == [["learning", "6h"]] * 3
    lost = CliRunner().invoke(main, [*arguments[:-1], "tme", str(files / "short.csv")], prog_name="driftd")
    assert lost.exit_code == 1
    assert "has no column 'tme' for --time (did you mean time?)" in lost.stderr
    config.write_text(config.read_text().replace("learning = true", "learning = false"))
    unused = CliRunner().invoke(main, [*arguments, "--dry-run", str(files / "short.csv")], prog_name="driftd")
    assert "warning: learning = false for credit" in unused.stderr
