"""How long a look at the counts takes, beside what a user would do with the raw rows.

All figures of one run share a machine and a minute: the ratios carry over to other machines, the microseconds do not.
Seconds are those of the CPU, so waiting for a turn is not counted, but what others do to the caches is: each figure is the median
of many runs, and the fastest run is shown beside it. Both sides of every ratio run in one thread.
The raw-row rivals get float32 rows in memory, so neither side reads files, and what a daemon has to do before it can
look (counting each row once, on arrival) is shown as a line of its own.
"""

# ruff: noqa: E402  # the imports have to wait for the path
import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# A script's own folder comes first on the path, where this file would hide the package `detectors`.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp

from detectors import ks, mean_shift, psi
from detectors.counts import Baseline, Profile
from detectors.decision import (
    EventIndex,
    Evidence,
    Windows,
    advance,
    bands,
    decide,
    effects,
    resolve_thresholds,
    spend,
)
from detectors.profile import ColumnData, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType, FloatArray, IntArray
from monitor.windows import RollingWindows

Raw = npt.NDArray[np.float32]
CUTS = 1024
TRAINING_ROWS = 10_000
WINDOWS = (900, 3_600, 21_600, 86_400)
DAY = 86_400
PANE = 60


class Took(NamedTuple):
    """Seconds of one run."""

    median: float
    fastest: float


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each measurement (default 9)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large window (default 1 M)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    if options.rounds < 1 or options.rows < 1_440:
        parser.error("--rounds is at least 1 and --rows at least 1440, one for each minute of a day")
    results = measure(options.rounds, options.rows)
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in results.items()}))


def measure(rounds: int, rows: int) -> dict[str, float]:
    """Every figure, printed as it comes."""
    rng = np.random.default_rng(20)
    print(f"{'':58} {'median':>12} {'fastest':>12}")
    small = one_look(rng, 30, rounds)
    large = raw_rows(rng, 30, rows, rounds)
    wide = one_look(rng, 1_000, rounds)
    decided = decision(rng, 36, rounds)
    return {
        "us_30_columns": small.median * 1e6,
        "us_30_columns_fastest": small.fastest * 1e6,
        **large,
        "ms_1000_columns": wide.median * 1e3,
        "ms_1000_columns_fastest": wide.fastest * 1e3,
        "decision_ms_36_columns": decided.median * 1e3,
        "decision_ms_36_columns_fastest": decided.fastest * 1e3,
        "rolling_hour_seconds": rolling_hour(rng, 30, rows).median,
    }


def baseline_of(rng: np.random.Generator, columns: int) -> Baseline:
    """Columns of the most cells there can be, 1024 cuts: 2049 each."""
    steps = (np.arange(CUTS) - CUTS / 2) / 128
    values = [rng.permutation(np.concatenate([steps, training(rng)])) for _ in range(columns)]
    data = [
        ColumnData(
            name=f"c{i}", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32", values=column
        )
        for i, column in enumerate(values)
    ]
    baseline = build_baseline(data, PANE, (), None, "benchmark")
    assert baseline.layout.length == columns * (2 * CUTS + 1 + 2)
    return baseline


def training(rng: np.random.Generator) -> FloatArray:
    return np.clip(np.rint(rng.normal(size=TRAINING_ROWS - CUTS) * 128), -CUTS // 2, CUTS // 2 - 1) / 128


def draw(rng: np.random.Generator, baseline: Baseline, rows: int) -> dict[str, Raw]:
    """Production rows, a little moved."""
    return {column.name: rng.normal(0.05, 1.0, rows).astype(np.float32) for column in baseline.columns}


def one_look(rng: np.random.Generator, columns: int, rounds: int) -> Took:
    """Seconds for D, PSI and mean shift of one window, from its counts."""
    baseline = baseline_of(rng, columns)
    window = profile_rows(baseline, draw(rng, baseline, 20_000))
    clusters = np.full(columns, 24)
    repeats = max(5, 3_000 // columns)
    parts: dict[str, Callable[[], object]] = {
        "D": lambda: ks.kernel(baseline, window.counts, window.rows),
        "PSI": lambda: psi.kernel(baseline, window.counts, window.rows),
        "mean shift": lambda: mean_shift.kernel(baseline, window.moments, clusters),
    }
    for name, run in parts.items():
        report(f"  {name} of {columns} columns", timed(run, rounds, repeats))
    return report(
        f"D + PSI + mean shift of {columns} columns x {2 * CUTS + 1} cells",
        timed(lambda: [run() for run in parts.values()], rounds, repeats),
    )


def raw_rows(rng: np.random.Generator, columns: int, rows: int, rounds: int) -> dict[str, float]:
    """The same numbers from raw rows by scipy and by hand-written numpy, against counts of those rows."""
    baseline = baseline_of(rng, columns)
    raw = draw(rng, baseline, rows)
    begun = time.process_time()
    window = profile_rows(baseline, raw)
    report(f"  counting {rows} rows x {columns} columns, once for all", [time.process_time() - begun])
    trained = {column.name: expand(baseline, i) for i, column in enumerate(baseline.columns)}
    check_agreement(baseline, window, raw, trained)
    few = max(1, rounds // 4)
    scipys = report("  scipy ks_2samp on the raw rows", timed(lambda: by_scipy(raw, trained), few))
    both = report("  numpy, sorting: D and PSI of the raw rows", timed(lambda: by_numpy(raw, trained), few))
    d = timed(lambda: ks.kernel(baseline, window.counts, window.rows), rounds, 100)
    d_and_psi = timed(
        lambda: (
            ks.kernel(baseline, window.counts, window.rows),
            psi.kernel(baseline, window.counts, window.rows),
        ),
        rounds,
        100,
    )
    ratios = {
        "ratio_scipy_1m": scipys.median / statistics.median(d),
        "ratio_numpy_1m": both.median / statistics.median(d_and_psi),
    }
    print(f"{'times faster: D than scipy':58} {ratios['ratio_scipy_1m']:11.0f}x")
    print(f"{'times faster: D + PSI than numpy':58} {ratios['ratio_numpy_1m']:11.0f}x")
    return ratios


def expand(baseline: Baseline, position: int) -> Raw:
    """The training rows of a column whose every value is a cut, from its counts."""
    column, place = baseline.columns[position], baseline.layout.slices[position]
    cuts: FloatArray = column.cuts  # type: ignore[union-attr]  # all columns here are numeric
    times = baseline.profile.counts[place][1 : 2 * cuts.size : 2]
    return np.repeat(cuts, times).astype(np.float32)


def by_scipy(raw: Mapping[str, Raw], trained: Mapping[str, Raw]) -> list[float]:
    """What a user would write first."""
    return [float(ks_2samp(raw[name], trained[name], method="asymp").statistic) for name in raw]


def by_numpy(raw: Mapping[str, Raw], trained: Mapping[str, Raw]) -> list[tuple[float, float]]:
    """What a user would write who cares for speed: one sort of the window, everything else by search in it."""
    found = []
    for name, values in raw.items():
        window, training_rows = np.sort(values), np.sort(trained[name])
        n, m = window.size, training_rows.size
        points = np.unique(training_rows)
        gaps = [
            np.abs(
                np.searchsorted(window, points, side) / n - np.searchsorted(training_rows, points, side) / m
            ).max()
            for side in ("left", "right")
        ]
        edges = training_rows[[-(-i * m // 10) - 1 for i in range(1, 10)]]
        w, b = (
            np.diff(np.searchsorted(rows, edges, "right"), prepend=0, append=rows.size)
            for rows in (window, training_rows)
        )
        p, q = (w + 0.5) / (n + 5), (b + 0.5) / (m + 5)
        found.append((float(max(gaps)), float(((p - q) * np.log(p / q)).sum())))
    return found


def check_agreement(
    baseline: Baseline, window: Profile, raw: Mapping[str, Raw], trained: Mapping[str, Raw]
) -> None:
    """No race between different answers: the counts give scipy's D and numpy's PSI."""
    distance = ks.kernel(baseline, window.counts, window.rows).statistic
    index = psi.kernel(baseline, window.counts, window.rows).statistic
    np.testing.assert_allclose(distance[:1], by_scipy({"c0": raw["c0"]}, trained), atol=1e-12)
    theirs = np.array(by_numpy(raw, trained))
    np.testing.assert_allclose(distance, theirs[:, 0], atol=1e-12)
    np.testing.assert_allclose(index, theirs[:, 1], atol=1e-9)


def decision(rng: np.random.Generator, columns: int, rounds: int) -> Took:
    """Seconds for what one closed block costs: bets advance, four windows' effects are compared, all is decided."""
    baseline = baseline_of(rng, columns)
    index = EventIndex.of(baseline)
    band, budget = bands(index), spend(0.1, np.ones(columns), PANE)
    profile = profile_rows(baseline, draw(rng, baseline, 20_000))
    limits = resolve_thresholds(WINDOWS, [column.name for column in baseline.columns])
    windows = windows_of(
        baseline, np.stack([profile.counts] * len(WINDOWS)), np.array([profile.rows] * len(WINDOWS))
    )
    block = index.count(profile_rows(baseline, draw(rng, baseline, 60)))
    evidence = advance(Evidence.zeros(index), block, band, budget, block_start=0)

    def run() -> object:
        state = advance(evidence, block, band, budget, block_start=PANE)
        return decide(index, effects(index, windows, limits), state, false_pages_per_year=0.1)

    return report(f"one block's decision on {columns} columns", timed(run, rounds, 30))


def windows_of(baseline: Baseline, counts: IntArray, rows: IntArray) -> Windows:
    return Windows(
        seconds=np.array(WINDOWS),
        counts=counts,
        rows=rows,
        ks=ks.kernel(baseline, counts, rows).statistic,
        psi=psi.kernel(baseline, counts, rows).statistic,
    )


def rolling_hour(rng: np.random.Generator, columns: int, rows: int) -> Took:
    """Seconds for an hour of looks, one a minute, at a window of a day that holds `rows` rows.

    60 times: a minute enters, another leaves, and D, PSI and mean shift of every column are computed anew.
    """
    baseline = baseline_of(rng, columns)
    per_pane = rows // (DAY // PANE)
    # A hundred panes in turn stand for the day's 1500; a fetch costs the same.
    panes = [profile_rows(baseline, draw(rng, baseline, per_pane)) for _ in range(100)]

    def fetch(spans: Any) -> dict[int, Profile]:
        return {
            start: panes[start // PANE % len(panes)]
            for first, last in spans
            for start in range(first, last, PANE)
        }

    rolling = RollingWindows(baseline.layout, PANE, (DAY,), fetch)
    rolling.move_to(DAY)
    clusters = np.full((1, columns), 24)
    begun = time.process_time()
    for minute in range(1, 61):
        stack = rolling.move_to(DAY + PANE * minute)
        ks.kernel(baseline, stack.counts, stack.rows)
        psi.kernel(baseline, stack.counts, stack.rows)
        mean_shift.kernel(baseline, rolling.means(0)[np.newaxis], clusters)
    return report(f"24 h window of {per_pane * (DAY // PANE)} rows, 60 looks", [time.process_time() - begun])


def timed(run: Callable[[], object], rounds: int, repeats: int = 1) -> list[float]:
    """CPU seconds of each of `rounds` x `repeats` runs, after a first one that warms the caches."""
    run()
    found = []
    for _ in range(rounds * repeats):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return found


def report(what: str, seconds: list[float]) -> Took:
    """Print one line."""
    took = Took(median=statistics.median(seconds), fastest=min(seconds))
    print(f"{what:58} {spelled(took.median):>12} {spelled(took.fastest):>12}", flush=True)
    return took


def spelled(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.2f} {unit}"
    return f"{seconds * 1e6:.0f} us"


if __name__ == "__main__":
    main()
