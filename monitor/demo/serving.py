"""The demo's serving app: a process of its own that answers from the model and knows the daemon only by its URL.

Run as `python -m monitor.demo.serving`; it writes one JSON object per served day on stdout and ends when its
rows are served, or when its stdin is closed.
"""

import argparse
import json
import sys
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import driftd_sidecar

DAY_NS = 86_400 * 1_000_000_000


def main() -> None:
    """Serve every row at its own event time, a day at a time."""
    options = _options()
    features, times = _rows(options.rows, options.columns.split(","), options.last_event_ns)
    stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    position = 0
    with driftd_sidecar.MonitoredSession(
        str(options.artifact),
        model=options.model,
        endpoint=options.endpoint,
        clock=lambda: int(times[position]),
    ) as session:
        for day, positions in groupby(range(len(times)), key=lambda row: int(times[row] // DAY_NS)):
            if stop.is_set():
                break
            started = time.monotonic()
            for position in positions:
                session.run(None, {"features": features[position : position + 1]})
            _say(day=day, served=position + 1, of=len(times), event_ns=int(times[position]))
            stop.wait(max(0.0, options.seconds_per_day - (time.monotonic() - started)))
        flushed = session.flush(30.0)
        stats = session.logger.stats()
    _say(rows_sent=stats.sent, rows_dropped=stats.dropped, flushed=flushed)


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="driftd demo serving app")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--columns", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--last-event-ns", type=int, required=True)
    parser.add_argument("--seconds-per-day", type=float, required=True)
    return parser.parse_args()


def _rows(
    path: Path, columns: list[str], last_event_ns: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features [N, F] and event times [N], shifted so that the last row happens at `last_event_ns`."""
    table = pd.read_csv(path)
    times = pd.to_datetime(table["time"]).dt.as_unit("ns").astype("int64").to_numpy(np.int64)
    features: npt.NDArray[np.float32] = np.asarray(table[columns], dtype=np.float32)
    return features, np.asarray(times + (last_event_ns - int(times[-1])), dtype=np.int64)


def _watch_stdin(stop: threading.Event) -> None:
    """The parent closes our stdin when the show is over, and so does its death."""
    sys.stdin.read()
    stop.set()


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
