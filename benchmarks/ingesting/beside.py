"""What stands beside throughput: the size of a pane, counting beside a sort, and reading rows back from both stores."""

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.ingesting.bodies import Rows, baseline, draw
from benchmarks.ingesting.naive import COLUMNS
from detectors.codec import encode_profile
from detectors.counts import Baseline
from detectors.profile import profile_rows
from monitor.ingest.batch import decode_payload
from monitor.ingest.frame import frame
from storage import batches
from storage.engine import Database

PANE_ROWS: Final = (1_000, 10_000, 60_000, 100_000)
FOLDED_ROWS: Final = (16_000, 64_000)
"""Rows of a group that the fold counts at once: 16 and 64 batches of 1000."""


def pane_bytes() -> dict[int, int]:
    """Bytes of a stored pane of 30 continuous columns, by the rows in it."""
    rng = np.random.default_rng(11)
    base = baseline(rng)
    return {rows: len(encode_profile(profile_rows(base, _columns(rng, rows)))) for rows in PANE_ROWS}


def fold_ratio(rounds: int) -> dict[int, float]:
    """CPU-seconds of counting a group of rows, as a multiple of `np.sort` of the same arrays, by its rows."""
    rng = np.random.default_rng(12)
    base = baseline(rng)
    return {rows: _beside_sort(base, _columns(rng, rows), rounds) for rows in FOLDED_ROWS}


def _beside_sort(base: Baseline, columns: dict[str, Rows], rounds: int) -> float:
    counted: list[float] = []
    ordered: list[float] = []
    for _ in range(rounds):
        counted.append(_seconds(lambda: profile_rows(base, columns)))
        ordered.append(_seconds(lambda: [np.sort(column) for column in columns.values()]))
    return statistics.median(counted) / statistics.median(ordered)


def read_ratio(state: Path, naive: Path, rounds: int) -> tuple[float, float]:
    """Rows per CPU-second read into arrays: from the daemon's payloads, and by `pandas.read_sql` from the naive table."""
    base = baseline(np.random.default_rng(7))
    blobs: list[float] = []
    tables: list[float] = []
    with Database.open_readonly(state) as reader:

        def payloads() -> int:
            with reader.read() as conn:
                found = batches.payloads_between(conn, 1, start_ns=0, end_ns=2**62, limit=100)
            return len(frame([decode_payload(batch.payload) for batch in found], base)[COLUMNS[0]])

        for _ in range(rounds):
            blobs.append(_rate(payloads))
            tables.append(_rate(lambda: _read_sql(naive)))
    return statistics.median(blobs), statistics.median(tables)


def _read_sql(naive: Path) -> int:
    conn = sqlite3.connect(f"file:{naive}?mode=ro", uri=True)
    try:
        table = pd.read_sql(f"SELECT {', '.join(COLUMNS)} FROM predictions", conn)
    finally:
        conn.close()
    return len(table)


def _columns(rng: np.random.Generator, rows: int) -> dict[str, Rows]:
    return {
        name: np.ascontiguousarray(column) for name, column in zip(COLUMNS, draw(rng, rows).T, strict=True)
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _rate(work: Callable[[], int]) -> float:
    began = time.thread_time()
    return work() / (time.thread_time() - began)
