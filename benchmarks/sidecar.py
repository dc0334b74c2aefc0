"""What monitoring adds to one call of a session, beside what people do instead. All contenders in one interleaved run.

    python benchmarks/sidecar.py [--rounds 30] [--calls 4000] [--json]

`bare` is onnxruntime alone. `floor` is the least that any logger does: read the clock, copy the tensors, append them
to a list, with no bound, no shipping and no counting. The others ship to a sink, a process of its own on loopback.

Every round lets each contender make the same calls, in an order drawn anew. p50 is that of the single calls of a
round; CPU is that of the whole process in the round, with everything shipped at its end. What is added is the
difference to the bare session of the same round; the table gives its median over the rounds, and the least.
"""

# ruff: noqa: E402  # the imports have to wait for the path
import argparse
import gc
import http.client
import json
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# A script's own folder comes first on the path, where files of this one would hide packages of the same name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks._sink import PATH
from driftd_sidecar import MonitoredSession
from tests.sidecar import onnx_bytes

FEATURES = 30
Feed = dict[str, npt.NDArray[np.float32]]


class Contender(Protocol):
    """Something that answers predictions."""

    def run(self, names: list[str] | None, feed: Feed) -> Any:
        """One inference, monitored."""
        ...

    def settle(self) -> None:
        """Ship what waits."""
        ...


class Bare:
    """onnxruntime alone."""

    def __init__(self, session: Any) -> None:
        self.run = session.run

    def settle(self) -> None:
        """Nothing waits."""


class Floor:
    """Clock, copies, append; thrown away at the end of a round."""

    def __init__(self, session: Any) -> None:
        self._entries: list[tuple[Any, ...]] = []
        append, real, clock, copy = self._entries.append, session.run, time.time_ns, np.ndarray.tobytes

        def run(names: list[str] | None, feed: Feed) -> Any:
            results = real(names, feed)
            append((clock(), copy(feed["features"]), copy(results[0]), copy(results[1])))
            return results

        self.run = run

    def settle(self) -> None:
        self._entries.clear()


class Sidecar:
    """driftd_sidecar, as its README says."""

    def __init__(self, session: Any, port: int) -> None:
        self._session = MonitoredSession(session, model="m", version="1", endpoint=f"http://127.0.0.1:{port}")
        self.run = self._session.run

    def settle(self) -> None:
        assert self._session.flush(60.0)
        stats = self._session.stats()
        assert stats.seen == stats.sent, stats


class QueueLogger:
    """The usual background logger: copies into a queue.Queue, a thread that posts what it finds, as JSON columns."""

    def __init__(self, session: Any, port: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(100_000)
        self._session = session
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        threading.Thread(target=self._ship, daemon=True).start()

    def run(self, names: list[str] | None, feed: Feed) -> Any:
        results = self._session.run(names, feed)
        self._queue.put_nowait((time.time_ns(), feed["features"].copy(), [each.copy() for each in results]))
        return results

    def _ship(self) -> None:
        while True:
            found = [self._queue.get()]
            while len(found) < 1000 and not self._queue.empty():
                found.append(self._queue.get_nowait())
            self._post(found)
            for _ in found:
                self._queue.task_done()

    def _post(self, found: list[Any]) -> None:
        _post_json(
            self._connection,
            {
                "ts": [each[0] for each in found],
                "features": np.concatenate([each[1] for each in found]).tolist(),
                "label": np.concatenate([each[2][0] for each in found]).tolist(),
                "probabilities": np.concatenate([each[2][1] for each in found]).tolist(),
            },
        )

    def settle(self) -> None:
        self._queue.join()


class RowDicts(QueueLogger):
    """The same with one dict per row made in the caller's thread, as in most logging middleware."""

    def run(self, names: list[str] | None, feed: Feed) -> Any:
        results = self._session.run(names, feed)
        now = time.time_ns()
        columns = [f"f{index}" for index in range(FEATURES)]
        for row, label, share in zip(
            feed["features"].tolist(), results[0].tolist(), results[1].tolist(), strict=True
        ):
            self._queue.put_nowait(
                {"ts": now, **dict(zip(columns, row, strict=True)), "label": label, "p": share}
            )
        return results

    def _post(self, found: list[Any]) -> None:
        _post_json(self._connection, {"rows": found})


class SyncPost:
    """A POST per call, before the answer is given: as binary as it gets, over one connection."""

    def __init__(self, session: Any, port: int) -> None:
        self._session = session
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def run(self, names: list[str] | None, feed: Feed) -> Any:
        results = self._session.run(names, feed)
        body = b"".join([feed["features"].tobytes(), *(each.tobytes() for each in results)])
        _post(self._connection, body)
        return results

    def settle(self) -> None:
        """Nothing waits."""


def _post_json(connection: http.client.HTTPConnection, body: object) -> None:
    _post(connection, json.dumps(body).encode())


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", PATH, body)
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 200


@dataclass(slots=True)
class Measured:
    """One contender: per round, microseconds per call."""

    p50: list[float] = field(default_factory=list)
    p999: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measure(contender: Contender, names: list[str] | None, feed: Feed, calls: int, into: Measured) -> None:
    """One round: `calls` calls, then everything shipped."""
    times = np.empty(calls + 1, np.int64)
    now, run = time.perf_counter_ns, contender.run
    gc.collect()
    cpu = time.process_time_ns()
    times[0] = now()
    for index in range(1, calls + 1):
        run(names, feed)
        times[index] = now()
    contender.settle()
    cpu = time.process_time_ns() - cpu
    spent = np.diff(times) / 1e3
    into.p50.append(float(np.median(spent)))
    into.p999.append(float(np.quantile(spent, 0.999)))
    into.cpu.append(cpu / calls / 1e3)


@contextmanager
def sink() -> Iterator[int]:
    """The port of a sink in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("_sink.py")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def bare_session() -> Any:
    """A classifier of 30 float32 features on one thread that does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_bytes.classifier(FEATURES), options)


def compete(batch: int, rounds: int, calls: int, port: int, rng: random.Random) -> dict[str, Measured]:
    """All contenders at one batch size."""
    session = bare_session()
    names = [output.name for output in session.get_outputs()]
    makers: dict[str, tuple[Callable[[], Contender], list[str] | None, int]] = {
        "bare": (lambda: Bare(session), None, calls),
        "bare, outputs named": (lambda: Bare(session), names, calls),
        "floor": (lambda: Floor(session), None, calls),
        "sidecar": (lambda: Sidecar(session, port), None, calls),
        "sidecar, outputs named": (lambda: Sidecar(session, port), names, calls),
        "queue.Queue": (lambda: QueueLogger(session, port), None, calls),
        "row dicts, JSON": (lambda: RowDicts(session, port), None, max(50, calls // batch)),
        "synchronous POST": (lambda: SyncPost(session, port), None, max(50, calls // 20)),
    }
    contenders = {name: make() for name, (make, _, _) in makers.items()}
    found = {name: Measured() for name in makers}
    feed = {"features": np.random.default_rng(1).normal(size=(batch, FEATURES)).astype(np.float32)}
    for number in range(rounds + 1):
        order = list(makers)
        rng.shuffle(order)
        for name in order:
            measure(
                contenders[name],
                makers[name][1],
                feed,
                makers[name][2],
                found[name] if number else Measured(),
            )
    return found


def added(found: dict[str, Measured], name: str, figure: str, base: str = "bare") -> npt.NDArray[np.float64]:
    """[rounds] microseconds per call above the bare session of the same round."""
    mine: list[float] = getattr(found[name], figure)
    its: list[float] = getattr(found[base], figure)
    return np.subtract(mine, its, dtype=np.float64)


def _base(name: str) -> str:
    return "bare, outputs named" if name.endswith("outputs named") else "bare"


def _print(batch: int, found: dict[str, Measured]) -> None:
    bare = found["bare"]
    print(f"batch {batch}; bare session p50 {np.median(bare.p50):.2f} us, CPU {np.median(bare.cpu):.2f} us")
    print(f"{'added, us per call':<24}{'p50':>9}{'least':>9}{'CPU':>9}{'least':>9}{'p99.9, not added':>20}")
    for name, each in found.items():
        row = f"{name:<24}"
        for figure in ("p50", "cpu"):
            difference = added(found, name, figure, _base(name))
            row += f"{np.median(difference):9.2f}{difference.min():9.2f}"
        print(row + f"{np.median(each.p999):20.1f}")


def _object(ones: dict[str, Measured], many: dict[str, Measured]) -> dict[str, float]:
    keys = {
        "floor": "floor", "named": "sidecar, outputs named", "queue": "queue.Queue",
        "row_dicts": "row dicts, JSON", "sync_post": "synchronous POST",
    }  # fmt: skip

    def figures(name: str, prefix: str) -> dict[str, float]:
        base = _base(name)
        return {
            f"{prefix}p50_added_us_batch1": float(np.median(added(ones, name, "p50", base))),
            f"{prefix}p50_added_us_batch64": float(np.median(added(many, name, "p50", base))),
            f"{prefix}cpu_added_us_batch1": float(np.median(added(ones, name, "cpu", base))),
        }

    answer = figures("sidecar", "")
    for key, name in keys.items():
        answer |= figures(name, f"{key}_")
    return {key: round(value, 3) for key, value in answer.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with sink() as port:
        ones = compete(1, options.rounds, options.calls, port, rng)
        _print(1, ones)
        many = compete(64, options.rounds, options.calls // 16, port, rng)
        _print(64, many)
    if options.json:
        print(json.dumps(_object(ones, many)))


if __name__ == "__main__":
    main()
