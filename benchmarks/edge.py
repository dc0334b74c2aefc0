"""Edge mode of the sidecar beside its rows: bytes that leave per pane, and what counting costs.

    python benchmarks/edge.py [--rounds 20] [--json]

A classifier of 30 float32 features with 2 probabilities and a label; the baseline has 100 000 rows and so 1023 cut
points per feature. The same rows go through two loggers with a transport that adds up request bodies and nothing else.
Counting is timed as CPU of one group of rows, which the background thread does once per MiB or minute. Calls are those
of a session of such a model, bare and monitored in either mode, each of another row, in rounds of 60 000 whose order is
drawn anew; CPU is that of the whole process with everything shipped at a round's end, which is a full pane per round.
"""

# ruff: noqa: E402, ARG002  # the imports have to wait for the path; a transport weighs the body alone
import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# A script's own folder comes first on the path, where files of this one would hide packages of the same name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy as np

from benchmarks.sidecar import bare_session
from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType
from driftd_sidecar import MonitoredSession, PredictionLogger, Response
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._cells import Cells, parse
from driftd_sidecar._count import Counter, Pane, merged
from driftd_sidecar._counted import encode_counts
from driftd_sidecar._frame import frame
from driftd_sidecar._notices import Notices
from driftd_sidecar._wire import Envelope, Table, Told
from monitor.ingest.cell_document import encode_cells

FEATURES = 30
CALL_ROWS = 500
NOW_NS = 1_767_225_600_000_000_000
VOLUMES = (60, 600, 6_000, 60_000, 600_000)
GROUPS = (100, 1000, 8_000)
CALLS = 60_000


def predictions(rng: np.random.Generator, rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of one call."""
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    share = rng.beta(2, 2, rows).astype(np.float32)
    return {"x": x}, {"label": (share > 0.5).astype(np.int64), "p": np.stack([1 - share, share], axis=1)}


def trained(tensor_name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Baseline:
    """The baseline of such a classifier: features, the label and the probabilities, in this order of outputs."""
    label, share = outputs
    names = tuple(f"f{position}" for position in range(FEATURES))
    number, feature = ColumnType.NUMERIC, ColumnRole.FEATURE
    columns = [
        ColumnData(
            name=name, role=feature, type=number, dtype="float32", values=inputs[tensor_name][:, position]
        )
        for position, name in enumerate(names)
    ]
    columns += [
        ColumnData(
            name=label, role=ColumnRole.PREDICTION, type=ColumnType.CATEGORICAL, dtype="int64", values=outputs[label]
        ),
        ColumnData(
            name="sure", role=ColumnRole.CONFIDENCE, type=number, dtype="float32", values=outputs[share].max(axis=1)
        ),
    ]  # fmt: skip
    tensor = TensorMap(name=tensor_name, datatype="FP32", kind="input", columns=names)
    rule = ConfidenceRule(kind="probabilities", tensor=share)
    return build_baseline(columns, 60, [tensor], rule, "benchmark")


class Scale:
    """A transport that weighs bodies."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self.bytes = 0
        self.requests = 0

    def fetch(self, url: str, headers: Mapping[str, str], timeout: float, most_bytes: int) -> Response:
        return Response(status=200, body=self._document)

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        self.bytes += len(body)
        self.requests += 1
        return Response(status=200, body=b'{"accepted": 1}')


def weigh(mode: Any, rows: int, document: bytes) -> Scale:
    """Everything that leaves for a pane of that many rows."""
    scale, rng = Scale(document), np.random.default_rng(2)
    with PredictionLogger(
        model="m",
        version="1",
        endpoint="http://127.0.0.1:1",
        transport=scale,
        mode=mode,
        buffer_bytes=1 << 30,
    ) as logger:
        for first in range(0, rows, CALL_ROWS):
            logger.log(*predictions(rng, min(CALL_ROWS, rows - first)), time_ns=NOW_NS)
        assert logger.flush(300.0)
        assert logger.stats().sent == rows
    return scale


def table_of(rows: int) -> Table:
    """One group of rows, as the background thread has it."""
    inputs, outputs = predictions(np.random.default_rng(3), rows)
    (call,) = capture(inputs, outputs, time_ns=NOW_NS)
    (table,) = CallRecipe(notices=Notices(), tags={}).tables([(call,)])
    return table


def cpu(work: Callable[[], object], rounds: int) -> float:
    """The least CPU seconds of some rounds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        spent.append(time.process_time_ns() - start)
    return min(spent) / 1e9


def counting(cells: Cells, rows: int, rounds: int) -> tuple[float, Pane]:
    """CPU seconds to count a group of rows into an open pane."""
    table, counter = table_of(rows), Counter(cells)
    (opened,) = counter.count(frame(table, cells), 1.0)

    def work() -> None:
        (pane,) = counter.count(frame(table, cells), 1.0)
        merged(opened, pane)

    return cpu(work, rounds), opened


def calls(rounds: int) -> dict[str, tuple[float, float]]:
    """The p50 of a call of one row and the CPU of the process per call, microseconds, medians over the rounds."""
    session, rng = bare_session(), random.Random(4)
    names = [output.name for output in session.get_outputs()]
    inputs = {"features": np.random.default_rng(5).normal(size=(100_000, FEATURES)).astype(np.float32)}
    said = dict(zip(names, session.run(names, inputs), strict=True))
    document = encode_cells(trained("features", inputs, said), ())
    modes: tuple[Any, ...] = ("rows", "edge")
    watched = {
        mode: MonitoredSession(
            session,
            model="m",
            version="1",
            endpoint="http://127.0.0.1:1",
            transport=Scale(document),
            mode=mode,
        )
        for mode in modes
    }
    contenders: dict[str, Any] = {"bare": session, **watched}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    feeds = [{"features": inputs["features"][row : row + 1]} for row in range(CALLS)]
    for number in range(rounds + 1):
        for name in rng.sample(list(contenders), 3):
            run, times, now = contenders[name].run, np.empty(CALLS + 1, np.int64), time.perf_counter_ns
            gc.collect()
            spent = time.process_time_ns()
            times[0] = now()
            for index, feed in enumerate(feeds, 1):
                run(None, feed)
                times[index] = now()
            if name in watched:
                assert watched[name].flush(60.0)
            spent = time.process_time_ns() - spent
            if number:
                found[name].append((float(np.median(np.diff(times))) / 1e3, spent / CALLS / 1e3))
    for each in watched.values():
        each.close()
    return {name: tuple(np.median(each, axis=0).tolist()) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    rows, said = predictions(np.random.default_rng(1), 100_000)
    document = encode_cells(trained("x", rows, said), ())
    cells = parse(document)
    told: dict[str, float] = {"cells_bytes": len(document)}
    print(f"{'rows of a pane':>16}{'bytes as rows':>16}{'as counts':>12}{'times fewer':>13}{'requests':>16}")
    for volume in VOLUMES:
        by_rows, by_counts = weigh("rows", volume, document), weigh("edge", volume, document)
        ratio = by_rows.bytes / by_counts.bytes
        requests = f"{by_rows.requests} and {by_counts.requests}"
        print(f"{volume:>16}{by_rows.bytes:>16}{by_counts.bytes:>12}{ratio:>13.1f}{requests:>16}")
        told[f"times_fewer_bytes_{volume}"] = round(ratio, 2)
    pane: Pane | None = None
    for group in GROUPS:
        seconds, pane = counting(cells, group, options.rounds)
        print(f"counting {group} rows at once: {seconds / group * 1e6:.2f} us of CPU per row")
        told[f"count_us_per_row_{group}"] = round(seconds / group * 1e6, 3)
    assert pane is not None
    envelope = Envelope(
        id="b", model_version="1", sent_at_ns=NOW_NS, books=Told(kept=1, dropped=0, sample_rate=1.0)
    )
    opened = pane
    seconds = cpu(lambda: encode_counts(cells, [opened], envelope), options.rounds)
    print(
        f"writing and compressing a pane: {seconds * 1e3:.1f} ms of CPU; cells: {len(document)} bytes, once"
    )
    told["encode_ms_per_pane"] = round(seconds * 1e3, 2)
    for name, (p50, spent) in calls(options.rounds).items():
        print(f"a call of one row, {name}: p50 {p50:.2f} us, CPU of the process {spent:.2f} us")
        told |= {f"{name}_p50_us": round(p50, 3), f"{name}_cpu_us": round(spent, 3)}
    if options.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
