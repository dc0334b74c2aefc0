"""The commands: what they print, what they return, and that they fail in one line."""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from detectors.profile import Baseline
from monitor.cli import main
from monitor.cli.ports import OperationError, StoredBaseline
from monitor.config import Config, load
from monitor.training import BuildResult

CREATED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class Store(ModuleType):
    """An in-memory `monitor.cli.store`."""

    def __init__(self) -> None:
        super().__init__("monitor.cli.store")
        self.kept: dict[tuple[str, str], Baseline] = {}

    def register_baseline(self, config: Config, *, model: str, version: str, result: BuildResult) -> str:
        if model == "refused":
            raise OperationError("the store is read-only")
        self.kept[model, version] = result.baseline
        return result.baseline.fingerprint

    def _stored(self, model: str, version: str) -> StoredBaseline:
        kept = self.kept[model, version]
        return StoredBaseline(
            model=model,
            version=version,
            fingerprint=kept.fingerprint,
            source=kept.source,
            rows=kept.profile.rows,
            created_at=CREATED,
            current=True,
        )

    def load_baseline(
        self, config: Config, *, model: str, version: str | None
    ) -> tuple[StoredBaseline, Baseline]:
        for key, kept in self.kept.items():
            if key[0] == model and version in (None, key[1]):
                return self._stored(*key), kept
        raise OperationError(f"model {model!r} has no baseline")

    def list_baselines(self, config: Config, *, model: str | None) -> Sequence[StoredBaseline]:
        return [self._stored(*key) for key in self.kept if model in (None, key[0])]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setitem(sys.modules, "monitor.cli.store", store)
    return store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DRIFTD_CONFIG", raising=False)
    rows = [f"{i % 10}.5,{['red', 'blue', ''][i % 3]},{i % 2},0.{1 + i % 9}" for i in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["x,colour,y,score", *rows]), encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="driftd")


BUILD = (
    "baseline",
    "build",
    "t.csv",
    "--model",
    "m",
    "--version",
    "1",
    "--prediction",
    "y",
    "--confidence",
    "score",
)


def test_help_costs_no_heavy_import() -> None:
    code = (
        "import sys; from monitor.cli import main; main(['--help'], standalone_mode=False); "
        "print([m for m in ('numpy', 'pandas', 'pydantic', 'rich', 'sqlalchemy', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("baseline", "check-config", "init"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--no-such-option",), 2),
        (("no-such-command",), 2),
        (("baseline", "build"), 2),
        (("baseline", "build", "t.csv", "--model", "m", "--type", "x"), 2),
        (("baseline", "build", "t.csv", "--model", "m", "--type", "x=number"), 2),
        (("baseline", "build", "t.csv", "--model", "m", "--dtype", "float33"), 2),
        (("baseline", "build", "t.csv", "--model", "m", "--pane", "7m", "--version", "1"), 2),
        (("baseline", "build", "t.csv", "--model", "m"), 2),
        (("baseline", "show", "m"), 1),
        (("-c", "gone.toml", "baseline", "list"), 1),
        (("check-config", "gone.toml"), 1),
        (("--version",), 0),
        (("--help",), 0),
    ],
)
def test_exit_codes(here: Path, store: Store, arguments: tuple[str, ...], code: int) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    if code and arguments:
        assert len(result.stderr.strip().splitlines()) <= (2 if "check-config" in arguments else 1), (
            result.stderr
        )
        assert "Traceback" not in result.stderr


def test_init_writes_what_check_config_accepts(here: Path) -> None:
    assert run("init").exit_code == 0
    assert load(here / "driftd.toml") == Config()
    refused = run("init")
    assert (refused.exit_code, refused.stderr) == (1, "driftd: driftd.toml exists; --force overwrites it\n")
    assert run("init", "--force").exit_code == 0
    checked = run("check-config")
    assert (checked.exit_code, checked.stdout) == (0, "driftd.toml: ok\n")
    assert "warning: receivers: there are none" in checked.stderr
    assert run("check-config", "--strict").exit_code == 1


def test_check_config_prints_every_mistake(here: Path) -> None:
    (here / "bad.toml").write_text("[server]\nbnd = 1\nmax_body = 2\n", encoding="utf-8")
    result = run("check-config", "bad.toml")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "bad.toml:2: server.bnd: no such key (did you mean bind?)",
        'bad.toml:3: server.max_body: a size needs its unit, in quotes; write "2B" if bytes are meant',
        "driftd: bad.toml: 2 errors, 0 warnings",
    ]
    as_json = run("check-config", "--json", "bad.toml")
    report = json.loads(as_json.stdout)
    assert (as_json.exit_code, report["ok"], len(report["errors"])) == (1, False, 2)


def test_a_broken_configuration_stops_other_commands_with_its_lines(here: Path, store: Store) -> None:
    (here / "driftd.toml").write_text("[log]\nlevel = 1\n", encoding="utf-8")
    result = run(*BUILD)
    assert result.exit_code == 1
    assert result.stderr.startswith("driftd: driftd.toml:2: log.level: should be")


def test_build_show_and_list(here: Path, store: Store) -> None:
    built = run(*BUILD, "--dtype", "float32", "--json")
    assert built.exit_code == 0, built.output
    report = json.loads(built.stdout)
    assert (report["model"], report["version"], report["rows"], report["stored"]) == ("m", "1", 300, True)
    assert report["fingerprint"] == store.kept["m", "1"].fingerprint
    assert "300 rows are few" in report["warnings"][0]

    shown = json.loads(run("baseline", "show", "m", "--json").stdout)
    columns = {column["name"]: column for column in shown["columns"]}
    # 0.5 … 9.5, thirty times each: the lower median is the fifth
    assert [columns["x"][key] for key in ("min", "median", "max", "cuts", "exact")] == [
        0.5,
        4.5,
        9.5,
        10,
        True,
    ]
    assert columns["colour"]["categories"] == {"blue": 100, "red": 100}
    assert (columns["colour"]["missing"], columns["colour"]["min"]) == (100, None)
    assert (shown["created_at"], shown["pane_seconds"]) == ("2026-03-01T12:30:00Z", 60)

    lines = [line.split("\t") for line in run("baseline", "show", "m", "--version", "1").stdout.splitlines()]
    assert lines[1][:6] == ["COLUMN", "ROLE", "TYPE", "DTYPE", "ROWS", "MISSING"]
    assert lines[2] == ["x", "feature", "numeric", "float32", "300", "0", "10", "0.5", "4.5", "9.5", ""]
    assert [row["model"] for row in json.loads(run("baseline", "list", "--json").stdout)] == ["m"]
    assert json.loads(run("baseline", "list", "other", "--json").stdout) == []
    assert run("baseline", "list", "m").stdout.splitlines()[1].startswith("m\t1\t")


def test_the_pane_is_the_models_own(here: Path, store: Store) -> None:
    (here / "driftd.toml").write_text('[models.m]\npane = "5m"\nevidence_block = "5m"\n', encoding="utf-8")
    assert run(*BUILD).exit_code == 0
    assert store.kept["m", "1"].pane_seconds == 300
    assert run(*BUILD, "--pane", "10s").exit_code == 0
    assert store.kept["m", "1"].pane_seconds == 10


def test_a_dry_run_stores_nothing(here: Path, store: Store) -> None:
    result = run(*BUILD, "--dry-run")
    assert result.exit_code == 0
    assert "built, not stored" in result.stdout
    assert store.kept == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--type", "x=boolean"), "driftd: t.csv, row 1: column 'x': '0.5' is not true or false"),
        (("--ignore", "z"), "driftd: t.csv: has no column 'z'; it has x, colour, y, score"),
        (("--model", "refused"), "driftd: the store is read-only"),
    ],
)
def test_what_fails_is_said_in_one_line(
    here: Path, store: Store, arguments: tuple[str, ...], complaint: str
) -> None:
    result = run(*BUILD, *arguments)
    assert (result.exit_code, result.stderr.strip()) == (1, complaint)
