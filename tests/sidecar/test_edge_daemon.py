"""Edge mode against the installed daemon: equal panes, deaths on either side, outages, and a baseline that changes."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import ConfidenceRule
from driftd_sidecar import PredictionLogger, Stats
from storage import panes
from storage.engine import Database
from storage.tables import batches
from tests.monitor import frames
from tests.monitor.cli.test_daemon import Daemon, daemon
from tests.ports import reserved_port
from tests.sidecar import counting
from tests.sidecar.test_chaos import Load

CONFIG = """
[server]
bind = "127.0.0.1:{port}"

[storage]
state_dir = "{state}"

[defaults]
pane = "{pane}"
evidence_block = "{block}"
segments = ["region"]
"""
LONG = 90.0  # a busy machine, and as much patience as the sidecar has between two attempts


def configured(tmp_path: Path, pane: str) -> tuple[Path, str]:
    """The file of a daemon's configuration and its address."""
    port, config = reserved_port(), tmp_path / "driftd.toml"
    config.write_text(
        CONFIG.format(port=port, state=tmp_path / "state", pane=pane, block="15m" if pane == "15m" else "1m")
    )
    return config, f"http://127.0.0.1:{port}"


def register(served: Daemon, model: str, baseline: Any) -> None:
    path = f"/v1/models/{model}/versions/1/baseline"
    assert served.ask("PUT", path, encode_baseline(baseline), "application/octet-stream")[0] in (200, 201)


def until(true: Callable[[], bool]) -> None:
    """Waits for another thread or process to come to something, and for no longer."""
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def folded(tmp_path: Path, baseline_id: int, baseline: Any, seconds: int) -> dict[int, Any]:
    """The counts of every pane of all rows, by its start."""
    with Database.open(tmp_path / "state") as database, database.read() as conn:
        return {
            row.start: decode_profile(baseline.layout, row.profile).counts
            for row in panes.window(conn, baseline_id, "", seconds, 0, 2**40)
        }


def stored(tmp_path: Path) -> tuple[int, int, int]:
    """Rows accepted, rejected, and told to be dropped."""
    with Database.open(tmp_path / "state") as database, database.read() as conn:
        found = conn.execute(
            select(func.sum(batches.c.accepted), func.sum(batches.c.rejected), func.sum(batches.c.dropped))
        ).one()
    return int(found[0] or 0), int(found[1] or 0), int(found[2] or 0)


def stop(served: Daemon) -> None:
    """Ends a daemon once everything that it stored is folded."""

    def folded_all() -> bool:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=LONG)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read()
        connection.close()
        return b"\ndriftd_fold_backlog_batches 0.0\n" in text

    until(folded_all)
    assert served.stop()[0] == 0


def test_rows_and_counts_of_the_same_traffic_make_equal_panes(tmp_path: Path) -> None:
    baseline = counting.baseline(ConfidenceRule(kind="probabilities", tensor="p"))
    config, endpoint = configured(tmp_path, "1m")
    rng = np.random.default_rng(1)
    now = time.time_ns() // (60 * 10**9) * 60 * 10**9
    logged = 0
    with daemon(tmp_path, config) as served:
        for model in ("rows", "counts"):
            register(served, model, baseline)
        with (
            PredictionLogger(model="rows", version="1", endpoint=endpoint) as by_rows,
            PredictionLogger(model="counts", version="1", endpoint=endpoint, mode="edge") as by_counts,
        ):
            for _ in range(20):
                rows = int(rng.integers(10, 200))
                given, said = counting.inputs(rng, rows), counting.outputs(rng, rows, "probabilities")
                times = now - rng.integers(0, 600 * 10**9, rows)
                tags = {"region": [("eu", "us")[int(each)] for each in rng.integers(0, 2, rows)]}
                for log in (by_rows, by_counts):
                    log.log(given, said, time_ns=times, tags=tags)
                logged += rows
            assert by_rows.flush(LONG)
            assert by_counts.flush(LONG)
            for log in (by_rows, by_counts):
                stats = log.stats()
                assert (stats.seen, stats.sent, stats.rejected) == (logged, logged, 0)
        stop(served)
    expected, found = folded(tmp_path, 1, baseline, 60), folded(tmp_path, 2, baseline, 60)
    assert sorted(found) == sorted(expected)
    assert len(expected) >= 10
    for start, counts in expected.items():
        np.testing.assert_array_equal(found[start], counts)
    with Database.open(tmp_path / "state") as database, database.read() as conn:
        segments = [panes.segments_of(conn, number) for number in (1, 2)]
    assert sorted(segments[0]) == sorted(segments[1]) == ["", "region=eu", "region=us"]


def test_a_daemon_that_dies_under_load_has_every_row_once_or_not_at_all(tmp_path: Path) -> None:
    stats, logged, _ = survive(tmp_path, kills=2, seed=1)
    check(tmp_path, stats, logged)


def test_with_a_spool_no_death_of_the_daemon_costs_a_row(tmp_path: Path) -> None:
    stats, logged, on_disk = survive(tmp_path, kills=1, seed=2, spool_dir=tmp_path / "spool")
    assert on_disk > 0
    assert (stats.dropped, stats.spooled) == (0, 0)
    check(tmp_path, stats, logged)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_deaths(tmp_path: Path) -> None:
    stats, logged, _ = survive(tmp_path, kills=20, seed=3, buffer_bytes=1 << 18)
    check(tmp_path, stats, logged)


def small(pane_seconds: int = 1, n: int = 4000) -> Any:
    return frames.baseline(pane_seconds=pane_seconds, n=n)


def survive(tmp_path: Path, kills: int, seed: int, **options: Any) -> tuple[Stats, int, int]:
    """An application whose daemon is killed `kills` times: its books, the rows it logged, the most that was on disk."""
    on_disk, rng = 0, random.Random(seed)
    config, endpoint = configured(tmp_path, "1s")
    with PredictionLogger(
        model="credit", version="1", endpoint=endpoint, flush_seconds=0.05, mode="edge", **options
    ) as log:
        loads = [Load(log, seed + number) for number in range(2)]
        for number in range(kills + 1):
            with daemon(tmp_path, config) as served:
                if number == 0:
                    register(served, "credit", small())
                    for load in loads:
                        load.start()
                until(lambda: log.stats().batches > number)  # noqa: B023  # called before the loop goes on
                if number < kills:
                    # Not a wait for something to happen: the moment of death is what chance decides.
                    threading.Event().wait(rng.uniform(0.1, 1.5))
                    served.process.send_signal(signal.SIGKILL)
                    served.process.wait(10)
                    retried = log.stats().retries
                    until(lambda: log.stats().retries > retried)  # noqa: B023  # likewise
                    if "spool_dir" in options:
                        until(lambda: log.stats().spooled > 0)
                        on_disk = max(on_disk, log.stats().spooled)
                    continue
                for load in loads:
                    load.stop()
                assert log.flush(60.0)
                stats = log.stats()
                stop(served)
    assert [load.raised for load in loads] == [[], []]
    return stats, sum(load.logged for load in loads), on_disk


def check(tmp_path: Path, stats: Stats, logged: int) -> None:
    assert stats.pending == 0
    assert stats.seen == logged
    assert stats.sent + stats.dropped == stats.seen
    accepted, rejected, dropped = stored(tmp_path)
    assert (accepted, rejected) == (stats.sent, 0)
    assert dropped <= stats.dropped
    baseline = small()
    missing = baseline.layout.missing[0]
    cells = baseline.layout.slices[0].start, missing + 1
    counts = folded(tmp_path, 1, baseline, 1).values()
    assert sum(int(each[cells[0] : cells[1]].sum()) for each in counts) == stats.sent


def test_an_outage_and_a_daemon_that_came_later_cost_nothing(tmp_path: Path) -> None:
    config, endpoint = configured(tmp_path, "1s")
    with PredictionLogger(
        model="credit", version="1", endpoint=endpoint, flush_seconds=0.05, mode="edge"
    ) as log:
        load = Load(log, 4)
        load.start()
        until(lambda: log.stats().seen > 500)  # and no daemon has ever been there
        assert log.stats().sent == 0
        for number in range(2):
            with daemon(tmp_path, config) as served:
                if number == 0:
                    register(served, "credit", small())
                sent = log.stats().sent
                until(lambda: log.stats().sent > sent)  # noqa: B023  # called before the loop goes on
                if number:
                    load.stop()
                    assert log.flush(LONG)
                stop(served)
        stats = log.stats()
    assert stats.dropped == 0
    check(tmp_path, stats, load.logged)


def test_a_baseline_that_is_replaced_under_load_is_counted_on_from_then_on(tmp_path: Path) -> None:
    config, endpoint = configured(tmp_path, "1s")
    with daemon(tmp_path, config) as served:
        register(served, "credit", small())
        with PredictionLogger(
            model="credit", version="1", endpoint=endpoint, flush_seconds=0.05, mode="edge"
        ) as log:
            load = Load(log, 5)
            load.start()
            until(lambda: log.stats().sent > 0)
            register(served, "credit", small(n=3000))
            until(lambda: log.stats().gave_up > 0)
            sent = log.stats().sent
            until(lambda: log.stats().sent > sent)
            load.stop()
            assert log.flush(LONG)
            stats = log.stats()
        stop(served)
    assert (stats.seen, stats.sent + stats.dropped, stats.dropped) == (
        load.logged,
        load.logged,
        stats.gave_up,
    )
    assert stored(tmp_path) == (stats.sent, 0, stats.dropped)
    kept = [
        sum(int(counts[: baseline.layout.missing[0] + 1].sum()) for counts in found.values())
        for baseline, found in (
            (baseline, folded(tmp_path, number, baseline, 1))
            for number, baseline in ((1, small()), (2, small(n=3000)))
        )
    ]
    assert min(kept) > 0
    assert sum(kept) == stats.sent


APP = """
import sys, time, numpy
from driftd_sidecar import PredictionLogger
log = PredictionLogger(model="credit", version="1", endpoint=sys.argv[1], mode="edge", spool_dir=sys.argv[2],
                       flush_seconds=0.05)
def rows(n, ago):
    log.log({"temp": numpy.arange(n, dtype="float32"), "carrier": numpy.array(["UA"] * n, object)}, {},
            time_ns=time.time_ns() - ago * 10**9)
for line in sys.stdin:
    command, *numbers = line.split()
    if command == "log":
        rows(*map(int, numbers))
    if command == "flush":
        log.flush(0.3)
    stats = log.stats()
    print(stats.sent, stats.spooled, stats.recovered, stats.pending, stats.dropped, flush=True)
"""


class App:
    """An application in a process of its own, which may be killed."""

    def __init__(self, endpoint: str, spool: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", APP, endpoint, str(spool)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> tuple[int, ...]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return tuple(map(int, self._process.stdout.readline().split()))

    def die(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def test_an_application_that_is_killed_loses_its_open_pane_and_what_was_not_counted_yet(
    tmp_path: Path,
) -> None:
    config, endpoint = configured(tmp_path, "15m")
    spool = tmp_path / "spool"
    first = App(endpoint, spool)
    with daemon(tmp_path, config) as served:
        register(served, "credit", small(900))
        first.ask("log 3 7200")
        until(lambda: first.ask("flush")[0] == 3)
        stop(served)
    first.ask("log 5 7200")
    until(lambda: first.ask("flush")[1] == 5)  # counted, and on disk
    first.ask("log 11 -3600")  # of a pane that is not over
    assert first.ask("look")[:2] == (3, 5)
    first.die()
    second = App(endpoint, spool)
    second.ask("log 7 7200")
    until(lambda: second.ask("flush")[1] == 7)  # counted on the cells it found on disk: no daemon is there
    with daemon(tmp_path, config) as served:
        until(lambda: second.ask("flush")[0] == 7)
        assert second.ask("look")[2:] == (5, 0, 0)
        stop(served)
    second.die()
    assert stored(tmp_path) == (3 + 5 + 7, 0, 0)
