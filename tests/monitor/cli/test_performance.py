"""How right predictions turned out to be, in a terminal."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import main
from tests.monitor import frames, labelled
from tests.monitor.harness import START, harness

FLOORS = """
labels_mature_after = "2h"
performance = { late = { accuracy = 0.95 } }
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a labelled model and one without labels, left behind by a daemon."""
    for name in ("DRIFTD_CONFIG", "DRIFTD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with harness(tmp_path, FLOORS) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900), model="other")
        daemon.put_baseline(labelled.baseline())
        daemon.service.pipeline.run_once()
        labelled.hours(daemon, 12, right=40)
    path = tmp_path / "d.toml"
    path.write_text('[storage]\nstate_dir = "state"\n')
    return path


def done(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], prog_name="driftd")
    assert result.exit_code == 0, result.output
    return result.stdout


def table(text: str, first: str) -> list[dict[str, str]]:
    """The rows of the table whose first header is `first`."""
    lines = [line.split("\t") for line in text.splitlines()]
    start = next(number for number, line in enumerate(lines) if line[0] == first)
    width = len(lines[start])
    rows = []
    for line in lines[start + 1 :]:
        if len(line) != width:
            break
        rows.append(dict(zip(lines[start], line, strict=True)))
    return rows


def test_a_model_is_shown_with_its_last_mature_day(config: Path) -> None:
    shown = done("model", "show", "m", "-c", config)
    delay, late = table(shown, "PERFORMANCE OF")
    assert late["PERFORMANCE OF"] == "late"
    assert (late["PREDICTIONS"], late["LABELLED"]) == ("600", "540 (90%)")
    assert re.fullmatch(r"0\.741 \(0\.70\d to 0\.77\d\)", late["ACCURACY"])
    assert (late["MAE"], late["RMSE"], late["BIAS"]) == ("", "", "")
    assert late["24H UP TO"] == "2026-03-01 10:00"
    assert (delay["ACCURACY"], delay["MAE"], delay["BIAS"]) == ("", "0.7778", "0.7778")
    assert delay["MEAN CONFIDENCE"] == late["MEAN CONFIDENCE"] == "0.890"
    found = json.loads(done("model", "show", "m", "-c", config, "--json"))
    assert found["versions"][0]["performance"][1]["accuracy"] == 40 / 54
    assert "PERFORMANCE" not in done("model", "show", "other", "-c", config)


def test_status_has_a_column_for_it_where_anything_is_labelled(config: Path, tmp_path: Path) -> None:
    rows = {row["MODEL"]: row for row in table(done("status", "-c", config), "MODEL")}
    assert rows["m"]["PERFORMANCE"] == "delay ±0.778 of 90%, late 0.741 of 90%"
    assert (rows["m"]["STATE"], rows["other"]["PERFORMANCE"]) == ("inaccurate", "")
    with harness(tmp_path / "plain") as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        daemon.traffic(START, 1)
    (tmp_path / "plain.toml").write_text('[storage]\nstate_dir = "plain/state"\n')
    assert "PERFORMANCE" not in done("status", "-c", tmp_path / "plain.toml")


def test_an_alert_of_it_is_shown_and_explained(config: Path) -> None:
    said = done("alerts", "show", "1", "-c", config)
    assert said.splitlines()[0].startswith("alert 1: late: accuracy 0.7407 where 0.95 is the least; 54 of")
    assert "firing, critical performance of m 1" in said
    lines = done("explain", "1", "-c", config).splitlines()
    assert lines[1] == "performance of m 1, firing, fired 2026-03-01 04:00 UTC"
    assert "54 labelled of 60 predictions of the 24 h up to 2026-03-01 01:00 UTC" in lines[3]
    assert lines[5] == "accuracy\t0.7407\t0.95\t3e-07\t1.1e-05"
    assert lines[-1] == "recomputed: identical (fired 2026-03-01 04:00 UTC)"
