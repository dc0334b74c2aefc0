"""The log: priorities for journald, JSON lines, and a stderr that is gone costs only the line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOGS_TWICE = """
import logging, os, sys
from monitor.logs import configure
{before}
configure("info", "{form}")
log = logging.getLogger("driftd.x")
log.debug("unseen")
log.info("first %s", "line")
try:
    raise ValueError("boom")
except ValueError:
    log.exception("second")
print("alive", file=open({out!r}, "w"))
"""


def run(tmp_path: Path, form: str, *, before: str = "", shell: str = "") -> tuple[str, bool]:
    """stderr of a process that logs, and whether it lived to its end."""
    out = tmp_path / "alive"
    code = LOGS_TWICE.format(form=form, before=before, out=str(out))
    script = tmp_path / "logs.py"
    script.write_text(code)
    command = f'exec "{sys.executable}" "{script}" {shell}'
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    return done.stderr, done.returncode == 0 and out.exists()


def test_journald_gets_a_priority_before_every_line(tmp_path: Path) -> None:
    ours = "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'"
    text, alive = run(tmp_path, "text", before=ours)
    lines = text.splitlines()
    assert alive
    assert lines[0] == "<6>driftd.x: first line"
    assert lines[1] == "<3>driftd.x: second"
    assert all(line.startswith("<3>") for line in lines[1:])
    assert lines[-1] == "<3>ValueError: boom"


def test_somebody_elses_journal_is_not_ours(tmp_path: Path) -> None:
    text, _ = run(tmp_path, "text", before="import os; os.environ['JOURNAL_STREAM'] = '1:2'")
    assert text.splitlines()[0].endswith("Z INFO    driftd.x: first line")


def test_json_is_one_object_per_line(tmp_path: Path) -> None:
    text, _ = run(tmp_path, "json")
    first, second = map(json.loads, text.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "driftd.x", "first line")
    assert "exception" not in first
    assert second["exception"].endswith("ValueError: boom")


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "0<&- 1>&- 2>&-"])
def test_a_stderr_that_cannot_be_written_stops_nothing(tmp_path: Path, shell: str) -> None:
    assert run(tmp_path, "text", shell=shell) == ("", True)


def test_a_file_opened_after_a_closed_stderr_is_not_written_to(tmp_path: Path) -> None:
    database = tmp_path / "database"
    code = (
        "import logging\nfrom monitor.logs import configure\nconfigure('info', 'text')\n"
        f"file = open({str(database)!r}, 'w')\nlogging.getLogger('x').error('into the log')\n"
    )
    script = tmp_path / "open.py"
    script.write_text(code)
    subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" "{script}" 2>&-'],
        env={"PYTHONPATH": str(Path.cwd())},
        check=True,
    )
    assert database.read_bytes() == b""
