"""The tables of docs/statistics-tables.md: how often each rule pages for nothing, and how soon for a planted shift.

`rules.py false-pages` and `rules.py delays` print one table each, by the simulator that ships (`driftd simulate`), with a
seed: the same command gives the same numbers on every machine. Both take hours on one core. With `--results FOLDER` what
a run came to is kept there as JSON, and a run that is there is not made again.
"""

# ruff: noqa: E402  # the imports have to wait for the path
import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# A script's own folder comes first on the path, where this file's neighbours would hide packages of the same names.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from detectors.simulation import RULES, simulate

OWN: Final = ("two_key_c", "two_key_a", "evidence_alone")
PEERS: Final = tuple(name for name, rule in RULES.items() if rule.condition is not None)
PERMANENT: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of the simulator."""

    scenario: str
    rules: tuple[str, ...]
    years: float
    rows_per_minute: float | None = None
    columns: int = 36
    budget: float = 0.1

    @property
    def name(self) -> str:
        """What tells it from the others; also the name of its file."""
        parts = (
            self.scenario,
            "+".join(self.rules),
            self.years,
            self.rows_per_minute,
            self.columns,
            self.budget,
        )
        return "_".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def false_pages() -> Iterator[Run]:
    """No shift: at least two model-years of the default rule on every kind of stable traffic, less of what pages at once."""
    stable = ("iid_60", "iid_2", "iid_01", "batches_60", "batches_2", "mild_60", "mild_2", "strong_60")
    for scenario in stable:
        yield Run(scenario=scenario, rules=("two_key_c",), years=2.0)
        yield Run(scenario=scenario, rules=("two_key_a", "evidence_alone"), years=0.5)
        yield Run(scenario=scenario, rules=PEERS, years=0.1 if scenario.endswith("60") else 0.25)
    for scenario in ("wander_1d", "wander_3d", "wander_7d"):
        yield Run(
            scenario=scenario, rules=("two_key_c", "two_key_a"), years=0.5, rows_per_minute=2.0, columns=6
        )


def delays() -> Iterator[Run]:
    """A step in every column, each column's share of the budget that of one of 36."""
    for scenario in ("shift_025", "shift_05", "shift_1", "shift_2", "shift_3", "scale_2"):
        yield Run(scenario=scenario, rules=("two_key_c",), years=0.06)
        yield Run(scenario=scenario, rules=("two_key_a", *PEERS), years=0.03)
    for rate, scenario in ((2.0, "shift_05"), (2.0, "shift_1"), (0.1, "shift_1"), (0.1, "shift_3")):
        yield Run(scenario=scenario, rules=("two_key_c",), years=0.06, rows_per_minute=rate)
        yield Run(scenario=scenario, rules=("two_key_a", *PEERS), years=0.03, rows_per_minute=rate)
    for scenario in ("shift_1", "shift_05"):
        yield Run(scenario=scenario, rules=("two_key_c",), years=0.06, budget=1.0)
    parts = (
        "shift_1_rows_10",
        "shift_1_rows_50",
        "shift_3_rows_10",
        "shift_3_rows_50",
        "scale_2_rows_10",
        "scale_2_rows_50",
    )
    for scenario in (
        *parts,
        "mild_shift_05",
        "mild_shift_1",
        "mild_shift_2",
        "strong_shift_1",
        "strong_shift_2",
    ):
        yield Run(scenario=scenario, rules=("two_key_c",), years=0.06)
        yield Run(scenario=scenario, rules=("two_key_a",), years=0.03)


TABLES: Final = {"false-pages": false_pages, "delays": delays}


def main() -> None:
    """Parse the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--results", type=Path, help="folder to keep results in, and to take them from")
    parser.add_argument("--jobs", type=int, default=1, help="simulations at a time (default 1)")
    parser.add_argument("--only", help="only scenarios whose name begins so")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    runs = [run for run in TABLES[options.table]() if run.scenario.startswith(options.only or "")]
    found = results(runs, options.results, options.jobs)
    print_table(options.table, [one for run in runs for one in found[run.name]])
    if options.json:
        print(json.dumps(found))


def results(runs: Sequence[Run], folder: Path | None, jobs: int) -> dict[str, list[dict[str, Any]]]:
    """The results of every run by its name, one for each of its rules."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        made = pool.map(result, runs, [folder] * len(runs))
        return {run.name: one for run, one in zip(runs, made, strict=True)}


def result(run: Run, folder: Path | None) -> list[dict[str, Any]]:
    """What a run came to, made now unless it is in the folder."""
    kept = None if folder is None else folder / f"{run.name}.json"
    if kept is not None and kept.exists():
        stored: list[dict[str, Any]] = json.loads(kept.read_text())
        return stored
    found = simulate(
        run.scenario,
        run.rules,
        years=run.years,
        seed=1,
        columns=run.columns,
        rows_per_minute=run.rows_per_minute,
        false_pages_per_year=run.budget,
    )
    rows = [one.as_dict() for one in found.values()]
    if kept is not None:
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(rows, allow_nan=False))
        part.rename(kept)
    return rows


def print_table(table: str, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as Markdown."""
    heads, cells = (FALSE_PAGES, _false_pages) if table == "false-pages" else (DELAYS, _delays)
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(cells(row)) + " |")


FALSE_PAGES: Final = (
    "scenario",
    "rule",
    "model-years",
    "false pages a year (95 %)",
    "column alerts a year",
    "in alarm (95 %)",
    "learned at the end",
)
DELAYS: Final = (
    "scenario",
    "rows/min",
    "rule",
    "budget",
    "shifts",
    "median hours (95 %)",
    "90 %",
    "missed",
    "in alarm before",
)


def _false_pages(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["false_pages_interval"]
    share = row["minutes_in_alarm_share"]
    rate = f"{row['false_pages_per_model_year']:.3g} ({_plain(low)}–{_plain(high)})"
    shares = "–".join(f"{end:.3g}" for end in row["minutes_in_alarm_interval"])
    return (
        _scenario(row),
        f"`{row['rule']}`",
        f"{row['model_years']:.2f}",
        "permanent" if share > PERMANENT else rate,
        _plain(row["column_alerts_per_model_year"]),
        f"{share:.3g} ({shares})",
        ", ".join(f"{count} {state}" for state, count in row["learned"].items())
        if row["rule"] in OWN
        else "",
    )


def _delays(row: dict[str, Any]) -> tuple[str, ...]:
    beyond = f"> {24 * row['horizon_days']:g}"
    low, high = (
        beyond if end is None else f"{end:.3g}" for end in row["delay_hours_median_interval"] or (None, None)
    )
    median, slow = (
        beyond if row[key] is None else f"{row[key]:.3g}" for key in ("delay_hours_median", "delay_hours_p90")
    )
    return (
        row["scenario"],
        f"{row['rows_per_minute']:g}",
        f"`{row['rule']}`",
        f"{row['false_pages_budget']:g}" if row["rule"] in OWN else "",
        str(row["shifts"]),
        median if row["delay_hours_median"] is None else f"{median} ({low}–{high})",
        slow,
        "–" if row["missed_share"] is None else f"{row['missed_share']:.3g}",
        f"{row['in_alarm_before_share']:.3g}",
    )


def _plain(value: float) -> str:
    """Two figures, and no exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _scenario(row: dict[str, Any]) -> str:
    return (
        row["scenario"]
        if row["columns"] == 36
        else f"{row['scenario']} ({row['columns']} columns, {row['rows_per_minute']:g}/min)"
    )


if __name__ == "__main__":
    main()
