"""Replay: history says which alerts it would have raised, and nothing else is touched."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from detectors.codec import encode_baseline
from monitor.cli import main
from monitor.config import parse
from monitor.replay import ReplayOptions, replay
from monitor.replay_files import ReplayError, TableFormat
from tests.monitor import frames
from tests.monitor.harness import harness

START = datetime(2024, 5, 1, tzinfo=UTC)
BASELINE = frames.baseline(pane_seconds=900)
CONFIG = """
[defaults]
pane = "15m"
evidence_block = "15m"
windows = ["1h", "6h"]
learning = false
"""
DRIFT_AT = START + timedelta(hours=48)


def history(hours: int = 72, rows: int = 120, *, shift: float = 20.0) -> pd.DataFrame:
    """Rows of three days; from the third on `temp` is moved."""
    parts = []
    for hour in range(hours):
        at = START + timedelta(hours=hour)
        frame = pd.DataFrame(frames.rows(hour, rows, shift=shift if at >= DRIFT_AT else 0.0))
        frame.insert(0, "at", [at + timedelta(seconds=3600 * i / rows) for i in range(rows)])
        parts.append(frame)
    table = pd.concat(parts, ignore_index=True)
    table["at"] = table["at"].map(lambda at: at.isoformat().replace("+00:00", "Z"))
    return table


def bodies(table: pd.DataFrame, version: str = "1", size: int = 300) -> str:
    """The same rows as they would have been posted, one JSON body a line."""
    lines = []
    for number, part in enumerate(table[i : i + size] for i in range(0, len(table), size)):
        columns = {"temp": part["temp"].astype(float).tolist(), "carrier": part["carrier"].tolist()}
        body: dict[str, Any] = {"id": f"b{number}", "model_version": version, "ts": part["at"].tolist()}
        body |= {"columns": columns, "confidence": part["confidence"].astype(float).tolist()}
        lines.append(json.dumps(body))
    return "\n".join(lines)


def options(*files: Path, **more: Any) -> ReplayOptions:
    return ReplayOptions(model="m", version="1", files=files, table=TableFormat(time="at"), **more)


def test_a_planted_shift_is_told_and_three_calm_days_are_not(tmp_path: Path) -> None:
    history().to_csv(tmp_path / "h.csv", index=False)
    done = replay(parse(CONFIG), BASELINE, options(tmp_path / "h.csv"), tmp_path / "a")
    assert (done.accepted, done.rejected, done.skipped) == (72 * 120, 0, 0)
    assert done.boundaries == 72 * 4
    (alert,) = done.alerts
    assert (alert.column, alert.kind, alert.resolved_at) == ("temp", "feature_drift", None)
    assert alert.firing_since is not None
    assert DRIFT_AT < alert.firing_since <= DRIFT_AT + timedelta(hours=2)
    history(shift=0.0).to_csv(tmp_path / "calm.csv", index=False)
    assert replay(parse(CONFIG), BASELINE, options(tmp_path / "calm.csv"), tmp_path / "b").alerts == ()


def test_bodies_and_tables_of_the_same_rows_raise_the_same(tmp_path: Path) -> None:
    table = history(60)
    table.to_csv(tmp_path / "h.csv.gz", index=False)
    table.assign(at=pd.to_datetime(table["at"], format="ISO8601")).to_parquet(tmp_path / "h.parquet")
    (tmp_path / "h.jsonl").write_text(bodies(table))
    found = [
        replay(parse(CONFIG), BASELINE, options(tmp_path / name), tmp_path / name.replace(".", "-"))
        for name in ("h.csv.gz", "h.parquet", "h.jsonl")
    ]
    assert [(d.accepted, d.boundaries) for d in found] == [(60 * 120, 60 * 4)] * 3
    assert len(found[0].alerts) == 1
    assert found[0].alerts == found[1].alerts == found[2].alerts


def test_binary_envelopes_are_read_one_behind_the_other(tmp_path: Path) -> None:
    values, parts = frames.rows(1, 40), []
    for number in range(5):
        at = START + timedelta(minutes=15 * number)
        buffers = [
            np.full(40, int(at.timestamp()) * 10**9, dtype="<i8").tobytes(),
            values["temp"].astype("<f4").tobytes(),
            b"".join(len(c).to_bytes(4, "little") + c.encode() for c in values["carrier"]),
            values["confidence"].astype("<f4").tobytes(),
        ]
        kinds = [("driftd.ts", "INT64"), ("temp", "FP32"), ("carrier", "BYTES"), ("confidence", "FP32")]
        tensors = [
            {"name": n, "datatype": k, "shape": [40], "parameters": {"binary_data_size": len(b)}}
            for (n, k), b in zip(kinds, buffers, strict=True)
        ]
        header = {"model_version": "1", "id": f"e{number}", "inputs": tensors[:3], "outputs": tensors[3:]}
        parts.append(json.dumps(header).encode() + b"".join(buffers))
    (tmp_path / "h.bin").write_bytes(b"".join(parts))
    done = replay(parse(CONFIG), BASELINE, options(tmp_path / "h.bin"), tmp_path / "a")
    assert (done.accepted, done.first, done.last) == (200, START, START + timedelta(hours=1))
    (tmp_path / "cut.bin").write_bytes(b"".join(parts)[:-1])
    with pytest.raises(ReplayError, match="the file ends within the tensors of this body"):
        replay(parse(CONFIG), BASELINE, options(tmp_path / "cut.bin"), tmp_path / "b")


def test_rows_of_other_versions_are_left_out_and_rows_out_of_order_named(tmp_path: Path) -> None:
    table = history(60)
    (tmp_path / "h.jsonl").write_text(bodies(table[:3000]) + "\n" + bodies(table[:300], version="2"))
    done = replay(parse(CONFIG), BASELINE, options(tmp_path / "h.jsonl"), tmp_path / "a")
    assert (done.accepted, done.skipped) == (3000, 300)
    pd.concat([table, table[:600]]).to_csv(tmp_path / "h.csv", index=False)
    late = replay(
        parse(CONFIG), BASELINE, options(tmp_path / "h.csv"), tmp_path / "b"
    )  # one batch, sorted within
    assert (late.accepted, late.rejected) == (7800, 0)
    (tmp_path / "late.jsonl").write_text(bodies(table) + "\n" + bodies(table[:300]).replace('"b0"', '"c0"'))
    refused = replay(parse(CONFIG), BASELINE, options(tmp_path / "late.jsonl"), tmp_path / "c")
    assert (refused.accepted, refused.rejected) == (7200, 300)
    assert "late.jsonl, body 25: 300 rows refused, the first because the event time is" in refused.warnings[0]


def test_columns_that_make_segments_are_tags(tmp_path: Path) -> None:
    """The shift is in one of three regions, and only there."""
    table = history(60, shift=0.0)
    table["region"] = ["eu", "us", "asia"] * (len(table) // 3)
    moved = (table["region"] == "us") & (pd.to_datetime(table["at"], format="ISO8601") >= DRIFT_AT)
    table.loc[moved, "temp"] += 20
    table.to_csv(tmp_path / "h.csv", index=False)
    config = parse(CONFIG + 'segments = ["region"]')
    done = replay(config, BASELINE, options(tmp_path / "h.csv"), tmp_path / "a")
    assert {a.segment for a in done.alerts} - {""} == {"region=us"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("h.csv", "at,temp,carrier\n2024-05-01T00:00:00,1,UA\n", "h.csv, row 1: time column 'at'"),
        (
            "h.csv",
            "at,temp,carrier\n2024-05-01T00:00:00Z,warm,UA\n",
            "h.csv, row 1: column 'temp': 'warm' is no",
        ),
        ("h.csv", "at,carrier\n2024-05-01T00:00:00Z,UA\n", "the feature 'temp' of the baseline is missing"),
        ("h.csv", "when,temp,carrier\n", "--time at: no such column; there are when, temp, carrier"),
        ("h.jsonl", "{", "h.jsonl, byte 0: here a body should begin"),
        ("h.jsonl", '{"model_version": "1", "rows": []}', "h.jsonl, body 1: "),
        (
            "h.jsonl",
            '{"model_version": "1", "columns": {"temp": [1.0], "carrier": ["UA"]}}',
            "body 1: neither its rows nor the batch say when they happened",
        ),
        (
            "h.jsonl",
            '{"model_version": "1", "ts": [1714521600000000000], "columns": {"temp": [1.0]}}',
            "h.jsonl, body 1: the batch lacks 'carrier'",
        ),
        ("h.jsonl", " \n", "nothing could be replayed: no row of version '1'"),
    ],
)
def test_what_cannot_be_replayed_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReplayError) as caught:
        replay(parse(CONFIG), BASELINE, options(tmp_path / name), tmp_path / "a")
    assert words in str(caught.value)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="driftd")


def digests(directory: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*.db")}


def test_the_command_takes_the_daemons_baseline_and_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with harness(tmp_path) as daemon:
        daemon.put_baseline(BASELINE)
    Path("d.toml").write_text(f'[storage]\nstate_dir = "state"\n{CONFIG}')
    history(60).to_csv("h.csv", index=False)
    before = digests(tmp_path / "state")
    given = ["replay", "-c", "d.toml", "--model", "m", "--version", "1", "h.csv", "--time", "at"]
    told = run(*given)
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0].startswith("ALERT\tKIND")
    assert lines[1].startswith("temp: median")
    assert "7200 rows of 2024-05-01 00:00 to 2024-05-03 11:59 UTC; 240 boundaries evaluated" in lines[-1]
    assert lines[-1].endswith("1 alert would have fired")
    found = json.loads(run(*given, "--json").stdout)
    assert [a["column"] for a in found["alerts"]] == ["temp"]
    assert found["first"] == "2024-05-01T00:00:00Z"
    assert digests(tmp_path / "state") == before
    Path("b.bin").write_bytes(encode_baseline(BASELINE))
    kept = run(*given[:3], *given[3:], "--baseline", "b.bin", "--keep", "kept")
    assert kept.exit_code == 0, kept.output
    assert list(digests(tmp_path / "kept"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["h.csv", "--time", "nope"], 1, "--time nope: no such column"),
        (["h.csv"], 2, "--time is missing"),
        ([], 2, "Missing argument"),
        (["h.csv", "--time", "at", "--version", "9"], 1, "'9'"),
        (["h.csv", "--time", "at", "--keep", "."], 2, "the directory is not empty"),
        (["h.csv", "--time", "at", "--baseline", "h.csv"], 1, "h.csv"),
    ],
)
def test_its_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with harness(tmp_path) as daemon:
        daemon.put_baseline(BASELINE)
    Path("d.toml").write_text(f'[storage]\nstate_dir = "state"\n{CONFIG}')
    history(1).to_csv("h.csv", index=False)
    result = run("replay", "-c", "d.toml", "--model", "m", "--version", "1", *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
