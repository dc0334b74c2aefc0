"""How long a client waits for its answer while another model's history is evaluated, beside an idle daemon.

The history is a few rows for each of many past minutes: little to store, and a boundary to close for every minute.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.ingesting.bodies import MODEL, Body, baseline, binary, draw
from benchmarks.ingesting.servers import Plan, Server, Setting, daemon, json_answers
from monitor.evaluate import CHUNK

HISTORY: Final = "history"
_MINUTE: Final = 60 * 10**9
MINUTES: Final = 2_500
ROWS_A_MINUTE: Final = 2
REQUESTS: Final = 150
RATE: Final = 30.0
RUNS: Final = 5


def waiting() -> tuple[float, float, float]:
    """p95 of answers in milliseconds, idle and during evaluations, and the median of the runs' ratios."""
    rng = np.random.default_rng(10)
    body = binary(draw(rng, 1000))
    idle: list[float] = []
    busy: list[float] = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with daemon(folder, {MODEL: baseline(rng), HISTORY: baseline(rng)}, Setting()) as server:
                server.send(body, folder, Plan(requests=32, prefix="warm", connections=2))
                server.drain()
                idle.append(_p95(server, folder, body, "idle"))
                _start_history(server, folder, rng)
                server.drain()
                busy.append(_p95(server, folder, body, "busy"))
                # Evaluations are committed by the hundred: that they were under way is seen from what is left.
                if _evaluated(server) >= MINUTES - CHUNK:
                    raise RuntimeError("the evaluation ended before the measurement; give it more minutes")
                server.until(partial(_chunk_evaluated, server), "the evaluation")
    return (
        statistics.median(idle),
        statistics.median(busy),
        statistics.median(b / i for b, i in zip(busy, idle, strict=True)),
    )


def _p95(server: Server, folder: Path, body: Body, prefix: str) -> float:
    plan = Plan(requests=REQUESTS, prefix=prefix, connections=2, rate=RATE)
    answers = json_answers(server.start_client(body, folder, plan))
    if answers.statuses != {"200": REQUESTS}:
        raise RuntimeError(f"answers were {answers.statuses}")
    return statistics.quantiles(answers.milliseconds, n=20)[-1]


def _start_history(server: Server, folder: Path, rng: np.random.Generator) -> None:
    """Send nearly two days of minutes in one batch; to evaluate them takes seconds."""
    now = time.time_ns()
    times = np.repeat(now - _MINUTE * np.arange(MINUTES, 0, -1), ROWS_A_MINUTE)
    body = binary(draw(rng, times.size), times)
    path = f"/v1/models/{HISTORY}/predictions"
    answers = server.send(body, folder, Plan(requests=1, prefix="history", connections=1, path=path))
    if answers.statuses != {"200": 1}:
        raise RuntimeError(f"answers were {answers.statuses}")


def _chunk_evaluated(server: Server) -> bool:
    return _evaluated(server) >= CHUNK


def _evaluated(server: Server) -> int:
    return server.query("SELECT count(*) FROM evaluations")
