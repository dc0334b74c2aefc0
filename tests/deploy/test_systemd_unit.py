"""The systemd unit: valid, sandboxed, and what the daemon relies on."""

import configparser
import subprocess
import sys
from pathlib import Path

from tests.components import require_program

UNIT = Path(__file__).parents[2] / "deploy" / "driftd.service"


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = require_program("systemd-analyze")
    installed = tmp_path / "driftd.service"
    # Verify looks for the program on disk; nothing is installed in /opt on a build machine.
    installed.write_text(UNIT.read_text().replace("/opt/driftd/bin/driftd", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(installed)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "driftd.service" in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_sandbox_scores_at_most_one_and_a_half() -> None:
    analyze = require_program("systemd-analyze")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]


def test_the_daemon_is_told_where_its_state_is_and_says_when_it_is_ready() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
    unit.read(UNIT)
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["StateDirectory"] == "driftd"
    assert "LoadCredential=" in UNIT.read_text()
