"""The daemon is killed and restarted under load: what was sent is stored, what was not is counted, to the row."""

import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from detectors.codec import encode_baseline
from driftd_sidecar import PredictionLogger, Stats
from storage.engine import Database
from storage.tables import batches
from tests.monitor import frames
from tests.monitor.cli.test_daemon import daemon
from tests.ports import reserved_port

CONFIG = """
[server]
bind = "127.0.0.1:{port}"

[storage]
state_dir = "{state}"
"""
BASELINE = encode_baseline(frames.baseline())


class Load(threading.Thread):
    """An application that logs rows all the time, as fast as a pause of a millisecond lets it."""

    def __init__(self, logger: PredictionLogger, seed: int) -> None:
        super().__init__(daemon=True)
        self._logger, self._rows, self._ended = logger, frames.rows(seed, 40), threading.Event()
        self._rng = random.Random(seed)
        self.logged = 0
        self.raised: list[Exception] = []

    def run(self) -> None:
        while not self._ended.wait(0.001):
            count = self._rng.randint(1, 20)
            tensors: dict[str, Any] = {name: values[:count] for name, values in self._rows.items()}
            try:
                self._logger.log({"temp": tensors["temp"], "carrier": tensors["carrier"]}, {})
            except Exception as error:
                self.raised.append(error)
            self.logged += count

    def stop(self) -> None:
        self._ended.set()
        self.join(30)


def survive(tmp_path: Path, kills: int, seed: int, **options: Any) -> tuple[Stats, int, int]:
    """The books of an application whose daemon was killed `kills` times, the rows it logged, and the most on disk."""
    on_disk = 0
    port, rng = reserved_port(), random.Random(seed)
    config = tmp_path / "driftd.toml"
    config.write_text(CONFIG.format(port=port, state=tmp_path / "state"))
    endpoint = f"http://127.0.0.1:{port}"
    with PredictionLogger(
        model="credit", version="1", endpoint=endpoint, flush_seconds=0.05, **options
    ) as log:
        loads = [Load(log, seed + number) for number in range(2)]
        for number in range(kills + 1):
            with daemon(tmp_path, config) as served:
                on_disk = max(on_disk, log.stats().spooled)
                if number == 0:
                    path = "/v1/models/credit/versions/1/baseline"
                    assert served.ask("PUT", path, BASELINE, "application/octet-stream")[0] in (200, 201)
                    for load in loads:
                        load.start()
                if number < kills:
                    # Not a wait for something to happen: the moment of death is what chance decides.
                    threading.Event().wait(rng.uniform(0.1, 1.5))
                    served.process.send_signal(signal.SIGKILL)
                    served.process.wait(10)
                    continue
                for load in loads:
                    load.stop()
                log.flush(60.0)
                stats = log.stats()
                assert served.stop()[0] == 0
    assert [load.raised for load in loads] == [[], []]
    return stats, sum(load.logged for load in loads), on_disk


def check(tmp_path: Path, stats: Stats, logged: int) -> None:
    assert stats.pending == 0
    assert stats.seen == logged
    assert stats.sent + stats.dropped == stats.seen
    with Database.open(tmp_path / "state") as database, database.read() as conn:
        accepted, rejected, dropped = conn.execute(
            select(func.sum(batches.c.accepted), func.sum(batches.c.rejected), func.sum(batches.c.dropped))
        ).one()
    assert (int(accepted), int(rejected)) == (stats.sent, 0)
    assert int(dropped) <= stats.dropped  # those after the last batch have not been told yet


def test_a_daemon_that_dies_gets_every_row_once_or_not_at_all(tmp_path: Path) -> None:
    stats, logged, _ = survive(tmp_path, kills=3, seed=1, buffer_bytes=1 << 18)
    assert stats.retries > 0
    check(tmp_path, stats, logged)


def test_with_a_spool_nothing_is_dropped_at_all(tmp_path: Path) -> None:
    stats, logged, on_disk = survive(
        tmp_path, kills=2, seed=2, buffer_bytes=1 << 23, spool_dir=tmp_path / "spool"
    )
    assert on_disk > 0
    assert (stats.dropped, stats.spooled) == (0, 0)
    check(tmp_path, stats, logged)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(tmp_path: Path) -> None:
    stats, logged, _ = survive(tmp_path, kills=20, seed=3, buffer_bytes=1 << 18)
    assert stats.dropped > 0
    check(tmp_path, stats, logged)
