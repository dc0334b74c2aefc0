"""The benchmark runs from a plain checkout and ends with the one object that machines read."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sidecar.py"
FIGURES = ["p50_added_us_batch1", "p50_added_us_batch64", "cpu_added_us_batch1"]


def test_it_ends_with_one_object_of_its_figures_and_the_rivals() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--rounds", "1", "--calls", "200", "--json"],
        capture_output=True, text=True, timeout=200, check=True, cwd=SCRIPT.parents[1],
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    rivals = ["", "floor_", "named_", "queue_", "row_dicts_", "sync_post_"]
    assert list(told) == [prefix + figure for prefix in rivals for figure in FIGURES]
    assert all(isinstance(value, float) for value in told.values())
    assert told["sync_post_p50_added_us_batch1"] > told["p50_added_us_batch1"]
