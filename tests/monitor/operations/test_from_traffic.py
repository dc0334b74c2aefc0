"""A baseline of retained rows: exactly those of the span, and honest about those that are gone."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detectors.codec import decode_baseline
from detectors.profile import Baseline, NumericColumn
from monitor.cli import main
from storage import baselines
from storage.retention import drop_payloads_before
from tests.monitor import frames
from tests.monitor.harness import START, Harness, harness

PATH = "/v1/models/m/versions/1/baseline"
HOURS = 6


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as made:
        made.put_baseline(frames.baseline(pane_seconds=900))
        made.traffic(START, HOURS, rows=240)
        yield made


def at(hours: float) -> str:
    return (START + timedelta(hours=hours)).isoformat()


def ask(daemon: Harness, *, status: int = 200, **body: Any) -> Any:
    return daemon.json("POST", f"{PATH}/from-traffic", {"from": at(1), "to": at(4), **body}, status=status)


def current(daemon: Harness) -> Baseline:
    return decode_baseline(daemon.ask("GET", PATH).body)


def test_it_is_made_of_the_exact_values_of_the_span(daemon: Harness) -> None:
    done = ask(daemon)
    assert (done["rows"], done["kept_share"], done["stored"]) == (720, 1.0, True)
    sent = np.concatenate(
        [frames.rows(int((START + timedelta(hours=h)).timestamp()) % 2**31, 240)["temp"] for h in (1, 2, 3)]
    )
    made = current(daemon)
    assert made.fingerprint == done["fingerprint"]
    column = made.columns[made.layout.positions["temp"]]
    assert isinstance(column, NumericColumn)
    assert column.cuts.tolist() == np.unique(sent).astype(np.float64).tolist()
    assert made.pane_seconds == 900
    assert made.source == "traffic of 2026-03-01 01:00 UTC to 2026-03-01 04:00 UTC: 720 rows"
    assert "720 rows are few" in done["warnings"][0]


def test_rows_that_are_gone_are_said_to_be(daemon: Harness) -> None:
    before = START + timedelta(hours=3, minutes=30)
    daemon.service.database.write(lambda conn: drop_payloads_before(conn, before, limit=100)).result()
    done = ask(daemon, dry_run=True)
    assert (done["rows"], done["stored"]) == (240, False)
    assert done["kept_share"] == pytest.approx(240 / 720)
    assert "33% of the span's rows are still kept: it is built from these" in done["warnings"]
    assert current(daemon).source == "test"


def test_columns_are_chosen_and_panes_set_as_for_files(daemon: Harness) -> None:
    done = ask(daemon, ignore=["carrier"], pane_seconds=300)
    assert [c["name"] for c in done["columns"]] == ["temp", "confidence"]
    assert current(daemon).pane_seconds == 300
    assert [c["name"] for c in ask(daemon, include=["temp"], dry_run=True)["columns"]] == [
        "temp",
        "confidence",
    ]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"from": "2026-03-01T01:00:00", "to": at(4)}, 422, "from: the time has no offset"),
        ({"from": at(4), "to": at(1)}, 422, "to: the span ends before it begins"),
        ({"to": at(1.1)}, 409, "24 rows of 2026-03-01 01:00 UTC"),
        (
            {"ignore": ["tmp"]},
            422,
            "ignore: the traffic has no column 'tmp'; it has temp, carrier, confidence",
        ),
        ({"types": {"temp": "categorical"}}, 422, "version '1' has a baseline, whose types are kept"),
        ({"pane_seconds": 420}, 422, "pane_seconds: whole seconds that divide an hour"),
    ],
)
def test_what_makes_no_baseline_is_refused(
    daemon: Harness, body: dict[str, Any], status: int, words: str
) -> None:
    assert words in ask(daemon, status=status, **body)["detail"]


def test_a_version_without_a_baseline_gets_its_first(daemon: Harness) -> None:
    values = frames.rows(5, 300)
    columns = {"temp": np.asarray(values["temp"], float).tolist(), "carrier": values["carrier"].tolist()}
    body = {"model_version": "2", "columns": columns, "confidence": [0.5] * 300}
    daemon.json("POST", "/v1/models/m/predictions", body)
    path = "/v1/models/m/versions/2/baseline/from-traffic"
    given = {"from": at(HOURS), "to": at(HOURS + 1)}
    done = daemon.json("POST", path, given)
    assert [(c["name"], c["role"], c["type"]) for c in done["columns"]] == [
        ("temp", "feature", "numeric"),
        ("carrier", "feature", "categorical"),
        ("confidence", "confidence", "numeric"),
    ]
    daemon.service.pipeline.run_once()
    (version,) = [v for v in daemon.json("GET", "/v1/models/m")["versions"] if v["version"] == "2"]
    assert (version["waiting_batches"], version["baseline"]["rows"]) == (0, 300)


def test_times_teach_where_the_span_suffices(tmp_path: Path) -> None:
    """Sixteen days: what `--time` learns from a file is learned from the rows."""
    with harness(tmp_path) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        for day in range(16):
            start = START + timedelta(days=day)
            daemon.clock.advance_to(start + timedelta(days=1))
            daemon.post_rows(day, 480, start, spread=86_400)
            daemon.service.pipeline.run_once()
        done = daemon.json(
            "POST", f"{PATH}/from-traffic", {"from": at(0), "to": at(16 * 24), "ignore": ["carrier"]}
        )
        assert {c["name"]: c["learning"] for c in done["columns"]} == {
            "temp": "learned",
            "confidence": "learned",
        }
        with daemon.service.database.read() as conn:
            (calibration,) = baselines.list_calibrations(conn, 2, "")
        assert calibration.source == "training"


def test_the_command_asks_the_store_where_no_daemon_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with harness(tmp_path) as made:
        made.put_baseline(frames.baseline(pane_seconds=900))
        made.traffic(START, 2, rows=240)
    (tmp_path / "d.toml").write_text('[storage]\nstate_dir = "state"\n')
    base = ["baseline", "build", "-c", "d.toml", "--from-traffic", "--model", "m", "--version", "1"]
    span = ["--from", at(0), "--to", at(2)]
    result = CliRunner().invoke(main, [*base, *span], prog_name="driftd")
    assert result.exit_code == 0, result.output
    assert "480 rows of 2026-03-01 00:00 to 2026-03-01 02:00 UTC, 100% of those there were" in result.stdout
    assert "warning: 480 rows are few" in result.stderr
    shown = json.loads(
        CliRunner().invoke(main, ["baseline", "list", "-c", "d.toml", "--json"], prog_name="driftd").stdout
    )
    assert [s["current"] for s in shown] == [True, False]
    assert shown[0]["refold"]["finished"] is False
    for arguments, words in (
        (base, "--from is missing"),
        ([*base, *span, "--time", "t"], "leave --time out"),
        (["baseline", "build", "-c", "d.toml", "--model", "m"], "give FILES"),
    ):
        refused = CliRunner().invoke(main, arguments, prog_name="driftd")
        assert refused.exit_code == 2
        assert words in refused.stderr
