"""Labels and predictions together, while the daemon fails, loses its answers and restarts: both books stay exact."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import PredictionLogger, Stats
from tests.ports import reserved_port
from tests.sidecar.sink import Sink

TROUBLE = ("stored", "stored", "lost", "failed", "stored", "hung up", "stored", "busy")


@pytest.fixture
def sink() -> Iterator[Sink]:
    fates = cycle(TROUBLE)
    found = Sink(reserved_port(), lambda: next(fates))
    found.start()
    yield found
    found.stop()


class Load(threading.Thread):
    """An application that predicts, and says a little later what was true."""

    def __init__(self, logger: PredictionLogger, name: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._logger, self._name, self._rng = logger, name, random.Random(seed)
        self._ended = threading.Event()
        self.predicted = self.labelled = 0
        self.raised: list[Exception] = []

    def run(self) -> None:
        while not self._ended.wait(0.001):
            count = self._rng.randint(1, 20)
            ids = [f"{self._name}-{self.predicted + row}" for row in range(count)]
            try:
                self._logger.log({"x": np.ones(count)}, {"y": np.ones(count)}, request_id=ids)
                self._logger.log_labels(ids[: count // 2 + 1], {"y": [1] * (count // 2 + 1)})
            except Exception as error:
                self.raised.append(error)
            self.predicted += count
            self.labelled += count // 2 + 1

    def stop(self) -> None:
        self._ended.set()
        self.join(30)


def survive(sink: Sink, restarts: int, **options: Any) -> tuple[Stats, list[Load]]:
    rng = random.Random(restarts)
    with PredictionLogger(model="m", version="1", endpoint=sink.url, flush_seconds=0.02, **options) as logger:
        loads = [Load(logger, f"thread-{number}", number) for number in range(2)]
        for load in loads:
            load.start()
        for _ in range(restarts):
            suffer(logger, rng.uniform(0.05, 0.4))
            sink.stop()
            suffer(logger, rng.uniform(0.05, 0.4))
            sink.start()
        for load in loads:
            load.stop()
        sink.fate = lambda: "stored"
        while not logger.buffer.settled:
            logger.flush(0.5)
        stats = logger.stats()
    assert [load.raised for load in loads] == [[], []]
    return stats, loads


def suffer(logger: PredictionLogger, seconds: float) -> None:
    """Not a wait for something to happen: the moment of death is what chance decides. Flushes hurry the attempts on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        logger.flush(0.02)
        stats = logger.stats()
        assert stats.seen == stats.kept + stats.dropped
        assert stats.kept == stats.sent + stats.pending
        assert stats.labels_seen == stats.labels_sent + stats.labels_pending + stats.labels_dropped
        threading.Event().wait(0.01)


def check(sink: Sink, stats: Stats, loads: list[Load]) -> None:
    assert (stats.pending, stats.labels_pending, stats.errors) == (0, 0, 0)
    predicted, labelled = sum(load.predicted for load in loads), sum(load.labelled for load in loads)
    assert stats.seen == predicted == stats.sent + stats.dropped
    assert stats.labels_seen == labelled == stats.labels_sent + stats.labels_dropped
    assert sink.changed == []
    for kind, sent in (("predictions", stats.sent), ("labels", stats.labels_sent)):
        ids = sink.ids(kind)
        assert len(ids) == len(set(ids)) == sent
        assert sum(each.rows for each in sink.batches(kind)) == sent
    told = [each.parameters for each in sink.batches("predictions")]
    assert sum(each["kept"] for each in told) == stats.sent
    # Those after the last batch have not been told yet.
    assert sum(each["dropped"] for each in told) <= stats.dropped
    assert all(set(each.parameters) == {"driftd", "sent_at"} for each in sink.batches("labels"))


def test_both_books_are_exact_whatever_the_daemon_does(sink: Sink) -> None:
    stats, loads = survive(sink, restarts=6)
    assert min(sink.fates[fate] for fate in TROUBLE) > 0
    assert stats.retries > 0
    assert (stats.gave_up, stats.labels_dropped) == (0, 0)
    check(sink, stats, loads)


def test_both_books_are_exact_when_the_buffer_is_too_small(sink: Sink) -> None:
    stats, loads = survive(sink, restarts=4, buffer_bytes=65_536)
    assert stats.dropped > 0
    assert stats.labels_dropped > 0
    check(sink, stats, loads)


LIFE = """
import os, sys, numpy
from driftd_sidecar import PredictionLogger

logger = PredictionLogger(model="m", version="1", endpoint=sys.argv[1], spool_dir=sys.argv[2], flush_seconds=0.02)
for number in range(60):
    ids = [f"dead-{number}-{row}" for row in range(5)]
    logger.log({"x": numpy.ones(5)}, {"y": numpy.ones(5)}, request_id=ids)
    logger.log_labels(ids[:3], {"y": [1, 2, 3]})
    logger.flush(0.02)
while (stats := logger.stats()).spooled < stats.pending or stats.labels_spooled < stats.labels_pending:
    logger.flush(0.02)
print(stats.sent, stats.pending, stats.labels_sent, stats.labels_pending, flush=True)
os._exit(3)
"""


def test_what_a_dead_process_left_of_both_is_sent_once_by_the_next(sink: Sink, tmp_path: Path) -> None:
    trouble = sink.fate
    # A daemon with troubles that after a dozen requests takes nothing any more.
    sink.fate = lambda: trouble() if sink.fates.total() < 12 else "failed"
    command = [sys.executable, "-c", LIFE, sink.url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    sent, pending, labels_sent, labels_pending = map(int, done.stdout.split())
    assert (sent + pending, labels_sent + labels_pending) == (300, 180)
    assert min(sent, pending, labels_sent, labels_pending) > 0
    sink.fate = trouble
    stats, loads = survive(sink, restarts=2, spool_dir=tmp_path)
    assert (stats.recovered, stats.labels_recovered) == (pending, labels_pending)
    assert (stats.dropped, stats.labels_dropped) == (0, 0)
    assert sink.changed == []
    predicted = sum(load.predicted for load in loads)
    labelled = sum(load.labelled for load in loads)
    assert (stats.sent, stats.labels_sent) == (predicted, labelled)
    for kind, count in (("predictions", 300 + predicted), ("labels", 180 + labelled)):
        ids = sink.ids(kind)
        assert len(ids) == len(set(ids)) == count
    assert list(tmp_path.rglob("*.batch")) == []
