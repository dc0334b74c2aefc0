"""Edge mode of the sidecar beside its rows: bytes that leave per pane, and what counting costs in the background.

    python benchmarks/edge.py [--rounds 7] [--json]

A classifier of 30 float32 features with 2 probabilities and a label; the baseline has 100 000 rows and so 1023 cut
points per feature. The same rows go through two loggers with a transport that adds up request bodies and nothing else.
Counting is timed as CPU of one group of rows, which the background thread does once per MiB or minute.
"""

# ruff: noqa: E402, ARG002  # the imports have to wait for the path; a transport weighs the body alone
import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# A script's own folder comes first on the path, where files of this one would hide packages of the same name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy as np

from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType
from driftd_sidecar import PredictionLogger, Response
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._cells import Cells, parse
from driftd_sidecar._count import Counter, Pane, merged
from driftd_sidecar._counted import encode_counts
from driftd_sidecar._frame import frame
from driftd_sidecar._notices import Notices
from driftd_sidecar._wire import Envelope, Table
from monitor.ingest.cell_document import encode_cells

FEATURES = 30
CALL_ROWS = 500
NOW_NS = 1_767_225_600_000_000_000
VOLUMES = (60, 600, 6_000, 60_000, 600_000)
GROUPS = (100, 1000, 8_000)


def predictions(rng: np.random.Generator, rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of one call."""
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    share = rng.beta(2, 2, rows).astype(np.float32)
    return {"x": x}, {"label": (share > 0.5).astype(np.int64), "p": np.stack([1 - share, share], axis=1)}


def trained() -> Baseline:
    """The baseline of such a classifier."""
    inputs, outputs = predictions(np.random.default_rng(1), 100_000)
    names = tuple(f"f{position}" for position in range(FEATURES))
    number, feature = ColumnType.NUMERIC, ColumnRole.FEATURE
    columns = [
        ColumnData(name=name, role=feature, type=number, dtype="float32", values=inputs["x"][:, position])
        for position, name in enumerate(names)
    ]
    columns += [
        ColumnData(
            name="label", role=ColumnRole.PREDICTION, type=ColumnType.CATEGORICAL, dtype="int64", values=outputs["label"]
        ),
        ColumnData(
            name="sure", role=ColumnRole.CONFIDENCE, type=number, dtype="float32", values=outputs["p"].max(axis=1)
        ),
    ]  # fmt: skip
    tensor = TensorMap(name="x", datatype="FP32", kind="input", columns=names)
    rule = ConfidenceRule(kind="probabilities", tensor="p")
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    document = encode_cells(trained(), ())
    cells = parse(document)
    told: dict[str, float] = {"cells_bytes": len(document)}
    print(f"{'rows of a pane':>16}{'bytes as rows':>16}{'as counts':>12}{'times fewer':>13}{'requests':>16}")
    for rows in VOLUMES:
        by_rows, by_counts = weigh("rows", rows, document), weigh("edge", rows, document)
        ratio = by_rows.bytes / by_counts.bytes
        requests = f"{by_rows.requests} and {by_counts.requests}"
        print(f"{rows:>16}{by_rows.bytes:>16}{by_counts.bytes:>12}{ratio:>13.1f}{requests:>16}")
        told[f"times_fewer_bytes_{rows}"] = round(ratio, 2)
    pane: Pane | None = None
    for rows in GROUPS:
        seconds, pane = counting(cells, rows, options.rounds)
        print(f"counting {rows} rows at once: {seconds / rows * 1e6:.2f} us of CPU per row")
        told[f"count_us_per_row_{rows}"] = round(seconds / rows * 1e6, 3)
    assert pane is not None
    envelope = Envelope(id="b", model_version="1", sent_at_ns=NOW_NS, kept=1, dropped=0, sample_rate=1.0)
    opened = pane
    seconds = cpu(lambda: encode_counts(cells, [opened], envelope), options.rounds)
    print(
        f"writing and compressing a pane: {seconds * 1e3:.1f} ms of CPU; cells: {len(document)} bytes, once"
    )
    told["encode_ms_per_pane"] = round(seconds * 1e3, 2)
    if options.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
