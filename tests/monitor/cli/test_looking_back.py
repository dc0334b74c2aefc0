"""`driftd explain` and `driftd backtest` on a store that a daemon left behind, and beside one that runs."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitor.cli import main
from storage.engine import Connection, Database
from storage.tables import blocks
from tests.monitor import frames
from tests.monitor.harness import START, drift_labels, harness

MODEL = """[defaults]
pane = "15m"
evidence_block = "15m"
windows = ["1h", "6h"]
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of traffic with eight hours of drift in it: alert 1, which resolved; alert 2 was not decided by rows."""
    directory = tmp_path_factory.mktemp("left")
    with harness(directory) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        daemon.traffic(START, 8)
        daemon.traffic(START + timedelta(hours=8), 8, shift=15.0)
        daemon.traffic(START + timedelta(hours=16), 10)
        daemon.open_alert(drift_labels("carrier"))
    return directory / "state"


@pytest.fixture
def config(left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DRIFTD_CONFIG", "DRIFTD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(left, tmp_path / "state")
    path = tmp_path / "d.toml"
    path.write_text(f'[storage]\nstate_dir = "state"\n{MODEL}')
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="driftd")


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_alert_is_explained_and_comes_out_identical(config: Path) -> None:
    said = done("explain", "1", "-c", config)
    assert "alert 1: temp: median 3" in said
    assert "\tpreset A\t" in said
    assert "strongest bet: temp ≤ " in said
    assert "ks\t0." in said
    assert "< 1e-15" in said
    assert "of 0.1 false pages spent in 2026" in said
    told = [line for line in said.splitlines() if line.startswith("recomputed: ")]
    assert told[0].startswith("recomputed: identical (fired 2026-03-01 ")
    assert told[-1].startswith("recomputed: identical (resolved 2026-03-0")
    found = json.loads(done("explain", "1", "-c", config, "--json"))
    assert {check["identical"] for check in found["recomputed"]} == {True}
    n, m = found["rows"], found["baseline_rows"]
    assert found["n_effective"] == pytest.approx(n * m / (n + m))
    last = found["evidence"]["blocks"][-1]
    assert last["evidence"] == found["evidence"]["value"] >= 1.0
    assert last["rows"] == 180
    # 15 minutes of the 365.25 days, of this column's third of a tenth of a page a year.
    assert found["budget"]["per_block"] == pytest.approx(0.1 / 3 / (365.25 * 96))
    fired = datetime.fromisoformat(found["fired_at"])
    assert found["budget"]["watched_days"] == pytest.approx((fired - START).total_seconds() / 86_400)


def test_what_does_not_come_out_the_same_is_named_and_ends_with_1(config: Path) -> None:
    def tamper(conn: Connection) -> None:
        quiet = conn.execute(blocks.select().order_by(blocks.c.start)).first()
        assert quiet is not None
        conn.execute(blocks.update().values(events=quiet.events))

    with Database.open(config.parent / "state") as database:
        database.write(tamper).result()
    result = run("explain", "1", "-c", config)
    assert result.exit_code == 1
    assert "recomputed: DIFFERENT (fired " in result.stdout
    assert "stored with other counts than were bet on" in result.stdout


def test_a_running_daemon_explains_it_too(left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path / "state")
    with harness(tmp_path) as daemon:
        found = daemon.json("GET", "/v1/alerts/1/explanation")
        assert (found["column"], found["recomputed"][0]["identical"]) == ("temp", True)
        refused = daemon.json("GET", "/v1/alerts/2/explanation", status=409)
        assert "states a fact: no statistic decided it" in refused["detail"]
        assert daemon.json("GET", "/v1/alerts/99/explanation", status=404)["status"] == 404


def test_a_backtest_of_the_same_configuration_finds_no_difference(config: Path) -> None:
    said = done("backtest", "-c", config, "--last", "7d")
    assert "1 page paged, 1 would" in said
    assert "no difference" in said
    (report,) = json.loads(done("backtest", "-c", config, "--last", "7d", "--json"))
    assert (report["changes"], report["paged"]) == ([], 1)


def test_a_backtest_lists_what_changes(config: Path) -> None:
    config.write_text(config.read_text() + 'ignore = ["temp"]\n')
    lines = done("backtest", "-c", config, "--last", "7d", "--model", "m").splitlines()
    assert lines[-1].split("\t")[1:3] == ["vanishes", "temp"]
    config.write_text(config.read_text().replace('ignore = ["temp"]', "false_pages_per_year = 100.0"))
    lines = done("backtest", "-c", config, "--last", "7d").splitlines()
    assert " earlier\ttemp\t1\tcritical: " in lines[-1]
    (report,) = json.loads(done("backtest", "-c", config, "--last", "7d", "--json"))
    (change,) = [c for c in report["changes"] if (c["before"] or c["after"])["column"] == "temp"]
    assert change["delay_seconds"] < 0
    assert change["before"]["alert"] == 1


def test_a_backtest_works_while_the_daemon_holds_the_store(config: Path) -> None:
    with Database.open(config.parent / "state"):
        assert "no difference" in done("backtest", "-c", config, "--last", "7d")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("explain", "2"), 1, "driftd: alert 2 (feature drift) states a fact: no statistic decided it"),
        (("explain", "7"), 1, "driftd: there is no alert with id 7"),
        (("explain", "x"), 2, "is not a valid integer"),
        (("backtest", "--last", "yesterday"), 2, "--last: not a duration"),
        (("backtest", "--last", "0s"), 2, "--last: give a length of time"),
        (("backtest", "--model", "x"), 1, "driftd: there is no model 'x' in the store; there are: m"),
    ],
)
def test_what_fails_is_said_in_one_line(
    config: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    result = run(*arguments, "--config", config)
    assert result.exit_code == code
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_backtest_without_a_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text('[storage]\nstate_dir = "nowhere"\n')
    result = run("backtest", "-c", tmp_path / "d.toml")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
