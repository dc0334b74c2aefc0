"""The commands of an operator, with no daemon running: they work on the store themselves."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitor.cli import main
from tests.monitor import frames
from tests.monitor.harness import START, Heard, drift_labels, harness, listener


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one model, three hours of traffic and one alert, left behind by a daemon."""
    for name in ("DRIFTD_CONFIG", "DRIFTD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "ann")
    monkeypatch.chdir(tmp_path)
    with harness(tmp_path) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        daemon.traffic(START, 3)
        daemon.open_alert(drift_labels())
    path = tmp_path / "d.toml"
    path.write_text(
        f'[storage]\nstate_dir = "state"\n[receivers.ops]\ntype = "webhook"\nurl = "{heard.url}"\nallow_private = true\n'
    )
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="driftd")


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_config_stands_before_or_after_the_command(config: Path) -> None:
    for arguments in (
        ("--config", config, "alerts", "list"),
        ("alerts", "--config", config, "list"),
        ("alerts", "list", "--config", config),
        ("alerts", "list", "-c", config),
    ):
        assert "feature drift" in done(*arguments)


def test_status(config: Path) -> None:
    lines = done("status", "-c", config).splitlines()
    assert "no daemon runs; this is the store as it was left" in lines[0]
    assert lines[2].startswith("m\tdrift\t1\t1\t0\t2026-03-01 03:00\t")
    found = json.loads(done("status", "-c", config, "--json"))
    assert [m["name"] for m in found["models"]] == ["m"]
    assert [r["name"] for r in found["receivers"]] == ["ops"]


def test_a_model_is_shown_with_how_it_is_judged(config: Path) -> None:
    lines = done("model", "show", "m", "-c", config).splitlines()
    assert lines[0] == "m, version 1: drift; 1 alerts firing, 0 pending; evaluated up to 2026-03-01 02:45"
    assert lines[1].startswith(
        "traffic 12 rows a minute; usual at this hour of the week: not known before 4 weeks"
    )
    head, *rows = (line.split("\t") for line in lines[2:])
    shown = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["COLUMN"] for row in shown] == ["temp", "carrier", "confidence"]
    assert {row["SEES IN 6H"] for row in shown} == {"?"}
    assert {row["THRESHOLDS"] for row in shown} == {"preset A"}
    assert {row["BUDGET"] for row in shown} == {"0.033 a year (33.3%)"}
    assert all(row["LEARNING"].startswith("learning") for row in shown)
    found = json.loads(done("model", "show", "m", "-c", config, "--json"))
    assert [rule["name"] for rule in found["versions"][0]["rules"]] == ["temp", "carrier", "confidence"]
    named = json.loads(done("model", "show", "m", "--version", "1", "-c", config, "--json"))
    assert [v["version"] for v in named["versions"]] == ["1"]


def test_alerts_are_listed_shown_and_acknowledged(config: Path) -> None:
    assert json.loads(done("alerts", "list", "-c", config, "--json"))[0]["column"] == "temp"
    assert done("alerts", "list", "-c", config, "--state", "resolved").count("\n") == 1
    assert done("alerts", "ack", "1", "-c", config, "--comment", "mine") == "alert 1 is acknowledged by ann\n"
    shown = done("alerts", "show", "1", "-c", config)
    assert "temp: median 1 → 2" in shown
    assert "inactive → firing: fired" in shown
    assert "acknowledged: mine\tann" in shown
    assert json.loads(done("alerts", "show", "1", "-c", config, "--json"))["acks"][0]["author"] == "ann"


def test_silences_come_and_go(config: Path) -> None:
    said = done("silence", "add", "-c", config, "--model", 'a"b', "--matcher", "column=~te.*", "--for", "4h")
    assert 'model="a\\"b", column=~"te.*"' in said
    (silence,) = json.loads(done("silence", "list", "-c", config, "--json"))
    assert (silence["author"], silence["state"]) == ("ann", "active")
    assert done("silence", "expire", "1", "-c", config) == "silence 1 has ended\n"
    assert json.loads(done("silence", "list", "-c", config, "--json")) == []
    assert len(json.loads(done("silence", "list", "-c", config, "--all", "--json"))) == 1


def test_a_test_alert_shows_the_exchange(config: Path, heard: Heard) -> None:
    heard.reply = b"thank you"
    said = done("test-alert", "ops", "-c", config)
    assert said.splitlines()[0] == f"> POST {heard.url.partition('/hook')[0]}/***"
    assert "< HTTP 200: thank you" in said
    assert heard.posts[0][1].decode() in said
    assert said.splitlines()[-1].startswith("delivered: HTTP 200 after ")
    assert "s3cret" not in said
    heard.status = 404
    failed = run("test-alert", "ops", "-c", config)
    assert (failed.exit_code, len(failed.stderr.splitlines())) == (1, 1)
    assert "ops: HTTP 404 after" in failed.stderr


def test_baselines_are_built_shown_listed_and_accepted(config: Path, tmp_path: Path) -> None:
    rows = [f"{i % 10}.5,{['red', 'blue'][i % 2]}" for i in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["x,colour", *rows]))
    built = json.loads(
        done("baseline", "build", "t.csv", "-c", config, "--model", "n", "--version", "7", "--json")
    )
    assert built["stored"] is True
    shown = json.loads(done("baseline", "show", "n", "-c", config, "--json"))
    assert (shown["fingerprint"], shown["version"]) == (built["fingerprint"], "7")
    listed = json.loads(done("baseline", "list", "-c", config, "--json"))
    assert [(b["model"], b["current"]) for b in listed] == [("n", True), ("m", True)]
    said = done("baseline", "accept", "1", "-c", config, "--comment", "new sensor")
    assert "720 rows of 2026-03-01 01:45 to 2026-03-01 02:45 UTC; resolved: 1" in said
    assert [b["current"] for b in json.loads(done("baseline", "list", "m", "-c", config, "--json"))] == [
        True,
        False,
    ]


def test_a_first_baseline_makes_the_store(tmp_path: Path, config: Path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(["x", *(str(i % 10) for i in range(300))]))
    (tmp_path / "new.toml").write_text('[storage]\nstate_dir = "new"\n')
    assert "there is no such directory" in run("baseline", "list", "-c", "new.toml").stderr
    done("baseline", "build", "t.csv", "-c", "new.toml", "--model", "n", "--version", "7")
    assert done("baseline", "list", "-c", "new.toml").splitlines()[1].startswith("n\t7\t")


def test_a_backup_is_a_database_with_the_same_alerts(config: Path, tmp_path: Path) -> None:
    assert "wrote copy.db" in done("db", "backup", "copy.db", "-c", config)
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
    assert "exists already" in run("db", "backup", "copy.db", "-c", config).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("alerts", "show", "7"), 1, "driftd: there is no alert with id 7"),
        (("alerts", "show", "x"), 2, "is not a valid integer"),
        (("alerts", "list", "--state", "closed"), 2, "is not one of"),
        (("silence", "add", "--for", "4h"), 2, "say what to mute"),
        (("silence", "add", "--model", "m"), 2, "Missing option '--for'"),
        (("silence", "add", "--model", "m", "--for", "4"), 1, "driftd: duration: not a duration"),
        (("silence", "expire", "7"), 1, "driftd: there is no silence with id 7"),
        (("test-alert", "opps"), 1, "driftd: there is no receiver 'opps'; there are: ops"),
        (("baseline", "accept", "7"), 1, "driftd: there is no alert with id 7"),
        (("model", "show", "x"), 1, "driftd: there is no model 'x'"),
        (("model", "show", "m", "--version", "7"), 1, "driftd: model 'm' has no version '7'"),
        (("model", "show", "m", "--segment", "a=b"), 1, "driftd: model 'm' has no segment 'a=b'"),
        (("baseline", "show", "x"), 1, "driftd: there is no model 'x'"),
        (("serve", "--log-format", "xml"), 2, "is not one of"),
    ],
)
def test_what_fails_is_said_in_one_line(
    config: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    result = run(*arguments, "--config", config)
    assert result.exit_code == code
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_token_file_must_hold_one_token(config: Path, tmp_path: Path) -> None:
    from storage.engine import Database

    (tmp_path / "token").write_text("two words\n")
    with Database.open(tmp_path / "state"):
        result = run("status", "-c", config, "--token-file", "token")
    assert "should hold one token on one line" in result.stderr
