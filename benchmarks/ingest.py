"""What it costs to take prediction logs in, beside the server that one would write in an afternoon.

A real daemon and a real naive server, each a process of its own, get the same rows from a client process. Seconds are
those of the server's CPU, until everything that was sent is folded. In every round each format has its turn, the naive server
first, and a ratio is the median of the rounds' own: both sides of it share a machine and a minute.
"""

# ruff: noqa: E402  # the imports have to wait for the path
import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

# A script's own folder comes first on the path, where detectors.py would hide the package.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitor.vectors import prefer_fast_sort

prefer_fast_sort()

import numpy as np

from benchmarks.ingesting.beside import fold_ratio, pane_bytes, read_ratio
from benchmarks.ingesting.bodies import FORMATS, MODEL, RAW_BYTES, Body, baseline, draw, row_json
from benchmarks.ingesting.overload import overload
from benchmarks.ingesting.servers import Plan, Server, Setting, daemon, naive
from benchmarks.ingesting.waiting import waiting

ROWS = 1000
WARM_UP = 48
NAIVE_REQUESTS = 48


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every format (default 3)")
    parser.add_argument(
        "--batches", type=int, default=1500, help="batches of 1000 rows a turn (default 1500)"
    )
    parser.add_argument("--only", nargs="*", help="these formats alone, and nothing but their throughput")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    if options.rounds < 1 or options.batches < 16:
        parser.error("--rounds is at least 1 and --batches at least 16")
    results = throughput(options.rounds, options.batches, options.only)
    if options.only is None:
        results |= rest()
    if options.json:
        print(json.dumps(results))


def throughput(rounds: int, batches: int, only: list[str] | None) -> dict[str, Any]:
    """Rows per CPU-second of each format, and its ratio to the naive server in the same round."""
    chosen = {name: turn for name, turn in _turns().items() if only is None or name in only}
    naives: list[float] = []
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for _ in range(rounds):
        naives.append(_naive_turn())
        for name, (kind, setting) in chosen.items():
            taken[name].append(_turn(kind, setting, batches if kind in ("binary", "arrow") else batches // 4))
    print(f"{'':24}{'rows/CPU-s':>12}{'x naive':>9}{'bytes/row':>11}{'x raw':>7}")
    print(f"{'naive':24}{statistics.median(naives):>12,.0f}{1:>9.1f}")
    results: dict[str, Any] = {}
    for name, turns in taken.items():
        speed = statistics.median(speed for speed, _ in turns)
        ratio = statistics.median(s / n for (s, _), n in zip(turns, naives, strict=True))
        size = statistics.median(size for _, size in turns)
        results[name] = {
            "rows_per_cpu_second": round(speed),
            "ratio_naive": round(ratio, 1),
            "bytes_per_row": round(size, 1),
            "ratio_raw_bytes": round(size / RAW_BYTES, 3),
        }
        print(f"{name:24}{speed:>12,.0f}{ratio:>9.1f}{size:>11.1f}{size / RAW_BYTES:>7.2f}")
    return results


def _turns() -> dict[str, tuple[str, Setting]]:
    """Every format with its rows kept, and the native one counted before the commit."""
    counted = Setting(model=f"[models.{MODEL}]\nkeep_rows = false")
    return {
        "binary": ("binary", Setting()),
        "binary_counts_only": ("binary", counted),
        **{kind: (kind, Setting()) for kind in FORMATS},
    }


def _naive_turn() -> float:
    """Rows per CPU-second of the naive server."""
    body = row_json(draw(np.random.default_rng(7), ROWS))
    with tempfile.TemporaryDirectory() as folder, naive(Path(folder)) as server:
        _sent(server, body, Path(folder), 4, "warm")
        before = server.cpu_seconds()
        rows = ROWS * _sent(server, body, Path(folder), NAIVE_REQUESTS, "naive")
        return rows / (server.cpu_seconds() - before)


def _turn(kind: str, setting: Setting, batches: int) -> tuple[float, float]:
    """Rows per CPU-second of one format, and bytes on disk per row."""
    rng = np.random.default_rng(7)
    body = FORMATS[kind](draw(rng, ROWS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with daemon(folder, {MODEL: baseline(rng)}, setting) as server:
            _sent(server, body, folder, WARM_UP, "warm")
            server.drain()
            before = server.cpu_seconds()
            rows = ROWS * _sent(server, body, folder, batches, "main")
            server.drain()
            took = server.cpu_seconds() - before
        # Once it has stopped, its log is in the database.
        return rows / took, server.disk_bytes() / (rows + ROWS * WARM_UP)


def _sent(server: Server, body: Body, folder: Path, requests: int, prefix: str) -> int:
    """How many requests were answered 200: all of them, or it is an error."""
    answers = server.send(body, folder, Plan(requests=requests, prefix=prefix))
    if answers.statuses != {"200": requests}:
        raise RuntimeError(f"answers were {answers.statuses}")
    return requests


def rest() -> dict[str, Any]:
    """The figures that are no throughput."""
    panes, folds = pane_bytes(), fold_ratio(15)
    for rows, size in panes.items():
        print(f"{f'pane of 30 columns, {rows:,} rows':50}{size / 1000:>10.1f} kB")
    for rows, ratio in folds.items():
        print(f"{f'counting {rows:,} rows beside np.sort':50}{ratio:>10.2f} times")
    blobs, tables = _reading()
    print(
        f"{'reading rows back beside pandas.read_sql':50}{blobs / tables:>10.1f} times ({blobs:,.0f} rows/CPU-s)"
    )
    over = overload()
    print(
        f"{f'memory at {over.offered_ratio:.1f} x overload, early and late':50}{over.early_mib:>10.0f} MiB{over.late_mib:>6.0f} MiB"
    )
    print(
        f"{'answers 200, 429; acknowledged rows lost':50}{over.accepted:>10}{over.refused:>8}{over.lost:>8}"
    )
    idle, busy, ratio = waiting()
    print(f"{'p95 of ingest idle, during evaluations, ratio':50}{idle:>10.1f} ms{busy:>8.1f} ms{ratio:>8.2f}")
    return {
        "pane_bytes": {str(rows): size for rows, size in panes.items()},
        "fold_ratio_sort": {str(rows): round(ratio, 2) for rows, ratio in folds.items()},
        "read": {"rows_per_cpu_second": round(blobs), "ratio_read_sql": round(blobs / tables, 1)},
        "overload": asdict(over),
        "waiting": {"idle_p95_ms": round(idle, 2), "busy_p95_ms": round(busy, 2), "ratio": round(ratio, 2)},
    }


def _reading() -> tuple[float, float]:
    """Rows per CPU-second read back from what both servers have stored."""
    rows = draw(np.random.default_rng(7), ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder, other = Path(name) / "daemon", Path(name) / "naive"
        folder.mkdir()
        other.mkdir()
        with daemon(folder, {MODEL: baseline(np.random.default_rng(7))}, Setting()) as server:
            _sent(server, FORMATS["binary"](rows), folder, 100, "main")
        with naive(other) as server:
            _sent(server, row_json(rows), other, 20, "naive")
            table = server.database
        return read_ratio(folder / "state", table, 5)


if __name__ == "__main__":
    main()
