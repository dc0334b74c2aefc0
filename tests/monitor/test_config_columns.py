"""What check-config says of columns, from the baselines in the state directory."""

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import main
from monitor.config import parse
from monitor.config_columns import check_columns
from tests.monitor import frames, labelled
from tests.monitor.harness import harness


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store that a daemon left behind: models `m` and `n`, each with temp, carrier and confidence."""
    with harness(tmp_path) as daemon:
        for model in ("m", "n"):
            daemon.put_baseline(frames.baseline(pane_seconds=900), model=model)
    return tmp_path / "state"


def said(state: Path, text: str) -> list[str]:
    return check_columns(parse(f'[storage]\nstate_dir = "{state}"\n{text}'))


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('[models.m]\nignore = ["tmp"]', "models.m.ignore: there is no column 'tmp' (did you mean temp?); there are temp, carrier"),
        ("[models.m]\nweights = { zip = 2 }", "models.m.weights: there is no column 'zip'; there are temp, carrier, confidence"),
        ("[models.m]\neffect = { age = { ks = 0.2 } }", "models.m.effect: there is no column 'age'"),
        ("[defaults]\neffect = { age = { ks = 0.2 } }", "defaults.effect: there is no column 'age'"),
        ('[defaults]\nignore = ["age"]\n[models.m]\nfor = "1m"', "defaults.ignore: there is no column 'age'"),
        ("[models.n]\neffect = { carrier = { shift = 2.0 } }", "models.n.effect.carrier.shift: version 1 of n could not be judged: column 'carrier' has categories"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_or_has_no_unit_is_named(state: Path, text: str, warning: str) -> None:
    (found,) = said(state, text)
    assert found.startswith(warning)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[models.m]\nignore = ["carrier"]\nweights = { temp = 2 }\neffect = { temp = { shift = 5.0 }, carrier = { psi = 0.2 } }',
        '[models.unregistered]\nignore = ["anything"]',
    ],
)
def test_nothing_is_said_of_columns_that_are_there_or_models_that_are_not(state: Path, text: str) -> None:
    assert said(state, text) == []


@pytest.mark.parametrize(
    ("limits", "warning"),
    [
        ("{ lat = { accuracy = 0.9 } }", "there is no prediction column 'lat' (did you mean late?); there are late, delay"),
        ("{ temp = { accuracy = 0.9 } }", "there is no prediction column 'temp'; there are late, delay"),
        ("{ late = { mean_absolute_error = 2.0 } }", ".late.mean_absolute_error: categories have none; set accuracy"),
        ("{ delay = { accuracy = 0.9 } }", ".delay.accuracy: measured numbers hardly ever equal their label; set"),
        ("{ late = { accuracy = 0.9 }, delay = { mean_absolute_error = 2.0 } }", ""),
    ],
)  # fmt: skip
def test_a_limit_that_no_prediction_can_meet_is_named(tmp_path: Path, limits: str, warning: str) -> None:
    with harness(tmp_path) as daemon:
        daemon.put_baseline(labelled.baseline())
    text = f'[models.m]\nlabels_mature_after = "2h"\nperformance = {limits}'
    found = said(tmp_path / "state", text)
    assert len(found) == bool(warning)
    assert warning in "".join(found)


def test_a_running_daemon_does_not_hide_its_columns(tmp_path: Path) -> None:
    with harness(tmp_path) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        assert len(said(daemon.state_dir, '[models.m]\nignore = ["age"]')) == 1


def test_without_a_store_nothing_is_said_and_a_damaged_one_is(tmp_path: Path) -> None:
    text = '[defaults]\nignore = ["age"]'
    assert said(tmp_path / "gone", text) == []
    (tmp_path / "driftd.db").write_bytes(b"not a database" * 100)
    (warning,) = said(tmp_path, text)
    assert warning.startswith("storage.state_dir: the columns' names could not be checked: ")


def test_a_damaged_baseline_is_said(state: Path) -> None:
    with sqlite3.connect(state / "driftd.db") as db:
        db.execute("UPDATE baselines SET blob = x'00'")
    (warning,) = said(state, "")
    assert warning.startswith("storage.state_dir: the columns' names could not be checked: ")


def test_check_config_prints_it(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(f'[storage]\nstate_dir = "{state}"\n[models.m]\nignore = ["tmp"]\n', encoding="utf-8")
    result = CliRunner().invoke(main, ["check-config", str(path)], prog_name="driftd")
    assert result.exit_code == 0
    assert "warning: models.m.ignore: there is no column 'tmp'" in result.stderr
