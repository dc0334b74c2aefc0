"""Twice what the daemon can take: its memory stays flat, it says 429, and what it acknowledged is there."""

import statistics
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.ingesting.bodies import MODEL, baseline, binary, draw
from benchmarks.ingesting.client import Answers
from benchmarks.ingesting.servers import Plan, Server, Setting, daemon, json_answers

ROWS: Final = 8_000
"""Of a batch: about a megabyte, so that few connections carry more bytes than may wait."""
CONNECTIONS: Final = 96
SECONDS: Final = 20.0
QUEUE: Final = "16MiB"
EVERY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What was offered and answered; memory is the median of the run's second quarter, and of its last."""

    offered_ratio: float
    accepted: int
    refused: int
    lost: int
    early_mib: float
    late_mib: float
    most_mib: float


def overload() -> Overload:
    """Measure how much the daemon takes, then offer twice that for a while."""
    rng = np.random.default_rng(9)
    body = binary(draw(rng, ROWS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with daemon(folder, {MODEL: baseline(rng)}, Setting(storage={"queue_bytes": QUEUE})) as server:
            server.send(body, folder, Plan(requests=8, prefix="warm"))
            alone = server.send(body, folder, Plan(requests=120, prefix="alone", connections=16))
            capacity = alone.statuses["200"] / alone.seconds
            rate = 2 * capacity
            plan = Plan(
                requests=int(rate * SECONDS),
                prefix="over",
                connections=CONNECTIONS,
                rate=rate,
                seconds=SECONDS,
            )
            client = server.start_client(body, folder, plan)
            memory: list[int] = []
            answers: list[Answers] = []
            waiter = threading.Thread(target=lambda: answers.append(json_answers(client)))
            waiter.start()
            while waiter.is_alive():
                memory.append(server.resident_bytes())
                waiter.join(EVERY_SECONDS)
            server.drain()
            return _judged(server, answers[0], memory, capacity)


def _judged(server: Server, over: Answers, memory: list[int], capacity: float) -> Overload:
    unknown = set(over.statuses) - {"200", "429"}
    if unknown:
        raise RuntimeError(f"answers were {over.statuses}")
    stored = server.query("SELECT count(*) FROM batches WHERE batch_key LIKE 'over-%' AND folded = 1")
    quarter = len(memory) // 4
    return Overload(
        offered_ratio=sum(over.statuses.values()) / over.seconds / capacity,
        accepted=over.statuses.get("200", 0),
        refused=over.statuses.get("429", 0),
        lost=len(over.acknowledged) - stored,
        early_mib=statistics.median(memory[quarter : 2 * quarter]) / 2**20,
        late_mib=statistics.median(memory[3 * quarter :]) / 2**20,
        most_mib=max(memory) / 2**20,
    )
