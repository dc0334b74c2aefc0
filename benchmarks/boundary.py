"""What one boundary of a live model costs, and counting beside a sort of the same rows.

The boundary is `Track.step`: 30 columns in windows of 15 m, 1 h, 6 h and 24 h that a minute enters and others leave, D with its
bracket, PSI, mean shift, rates, every bet and verdict. Reading the panes is shown on a line of its own, five for each boundary.

Seconds are those of the CPU. Counting is measured in turn with `np.sort` of the same arrays, and the ratio is that of the medians.
"""

# ruff: noqa: E402  # the imports have to wait for the path
import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# A script's own folder comes first on the path, where detectors.py would hide the package.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy as np

from benchmarks.detectors import DAY, PANE, WINDOWS, Took, baseline_of, draw, report, timed
from detectors.codec import decode_profile, encode_profile
from detectors.counts import Baseline, Profile
from detectors.decision import EventIndex
from detectors.decision.calibration import unlearned
from detectors.profile import ColumnData, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from monitor.track import Identity, Rule, Track

COLUMNS = 30
ROWS_PER_PANE = 60
PANES = 200
"""So many in turn stand for the day's 1440."""
COUNTED_ROWS = (8_000, 60_000)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200, help="boundaries to look at (default 200)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds is at least 2")
    rng = np.random.default_rng(20)
    print(f"{'':58} {'median':>12} {'fastest':>12}")
    results: dict[str, float] = {}
    for name, baseline in (("exact", baseline_of(rng, COLUMNS)), ("bracketed", continuous(rng))):
        took = boundary(rng, name, baseline, options.rounds)
        results |= {
            f"boundary_us_{name}": took.median * 1e6,
            f"boundary_us_{name}_fastest": took.fastest * 1e6,
        }
        for rows in COUNTED_ROWS:
            results[f"ratio_sort_{rows}_{name}"] = counting(rng, name, baseline, rows, options.rounds)
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in results.items()}))


def continuous(rng: np.random.Generator) -> Baseline:
    """Columns with more distinct values than cuts, whose D is known within a bracket."""
    data = [
        ColumnData(
            name=f"c{i}",
            role=ColumnRole.FEATURE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=rng.normal(size=10_000),
        )
        for i in range(COLUMNS)
    ]
    return build_baseline(data, PANE, (), None, "benchmark")


def boundary(rng: np.random.Generator, name: str, baseline: Baseline, rounds: int) -> Took:
    """Seconds of one boundary after another, the first ones left out."""
    index = EventIndex.of(baseline)
    panes = [profile_rows(baseline, draw(rng, baseline, ROWS_PER_PANE)) for _ in range(PANES)]
    blocks = [index.count(pane) for pane in panes]
    stored = encode_profile(panes[0])
    report(f"reading one pane, {name}", timed(lambda: decode_profile(baseline.layout, stored), rounds))

    def fetch(spans: Sequence[tuple[int, int]]) -> Mapping[int, Profile]:
        return {
            start: panes[start // PANE % PANES] for first, last in spans for start in range(first, last, PANE)
        }

    rule = Rule(
        windows=WINDOWS,
        shares=np.full(COLUMNS, 1.0 / COLUMNS),
        false_pages_per_year=0.1,
        ignored=frozenset(),
    )
    identity = Identity(version_id=1, version="1", baseline_id=1, segment="")
    track = Track(identity, index, rule, unlearned(index, WINDOWS, PANE), fetch)
    found = []
    for minute in range(rounds + 3):
        start = DAY + PANE * minute
        begun = time.process_time()
        track.step(start + PANE, [(start, blocks[start // PANE % PANES])])
        found.append(time.process_time() - begun)
    return report(f"one boundary of {COLUMNS} columns x {len(WINDOWS)} windows, {name}", found[3:])


def counting(rng: np.random.Generator, name: str, baseline: Baseline, rows: int, rounds: int) -> float:
    """How many times as long as sorting the columns it takes to count them."""
    raw = draw(rng, baseline, rows)
    sorts, counts = [], []
    for _ in range(max(5, rounds * COUNTED_ROWS[0] // rows)):
        sorts += timed(lambda: [np.sort(values) for values in raw.values()], 1)
        counts += timed(lambda: profile_rows(baseline, raw), 1)
    report(f"np.sort of {COLUMNS} columns x {rows} rows", sorts)
    report(f"  counting them, {name}", counts)
    ratio = statistics.median(counts) / statistics.median(sorts)
    print(f"{'  counting over sorting':58} {ratio:11.2f}x")
    return ratio


if __name__ == "__main__":
    main()
