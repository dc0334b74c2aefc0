"""`driftd simulate`."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from monitor.cli.running import print_json, print_table

if TYPE_CHECKING:
    from detectors.simulation import Result

_MARK = 5
"""Progress is told on a terminal in steps of so many per cent."""


@click.command()
@click.option("--scenario", metavar="NAME", help="The traffic to simulate; see --list.")
@click.option("--rule", "rules", metavar="NAME", multiple=True, help="The rule to judge; may be repeated.")
@click.option("--years", type=click.FloatRange(min=0, min_open=True), help="Model-years to simulate.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same result."
)
@click.option(
    "--columns", type=click.IntRange(1, 1000), default=36, show_default=True, help="Columns of the model."
)
@click.option(
    "--rows-per-minute",
    type=click.FloatRange(min=0, min_open=True),
    help="Mean rows a minute. Default: the scenario's.",
)
@click.option(
    "--false-pages-per-year",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="The budget of driftd's own rules.",
)
@click.option("--list", "as_list", is_flag=True, help="List scenarios and rules.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for every rule.")
def simulate(
    scenario: str | None,
    rules: Sequence[str],
    years: float | None,
    seed: int,
    columns: int,
    rows_per_minute: float | None,
    false_pages_per_year: float,
    as_list: bool,
    as_json: bool,
) -> None:
    """Measure how often a rule pages for nothing, and how soon it pages for a planted shift.

    Rates are per model-year, with intervals of 95 %. With a planted shift --years is the time to spend on it: every
    12 days (24 for a rule that learns) give as many delays as there are columns.
    """
    from detectors.simulation import RULES, SCENARIOS
    from detectors.simulation import simulate as run

    if as_list:
        _list(as_json)
        return
    if scenario is None or not rules or years is None:
        raise click.UsageError("give --scenario, --rule and --years, or --list")
    if scenario not in SCENARIOS:
        raise click.UsageError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
    for rule in rules:
        if rule not in RULES:
            raise click.UsageError(f"no rule {rule!r}; there are {', '.join(RULES)}")
    found = run(
        scenario,
        rules,
        years=years,
        seed=seed,
        columns=columns,
        rows_per_minute=rows_per_minute,
        false_pages_per_year=false_pages_per_year,
        progress=_progress(),
    )
    if as_json:
        for result in found.values():
            click.echo(json.dumps(result.as_dict(), allow_nan=False))
        return
    _show(list(found.values()))


def _list(as_json: bool) -> None:
    from detectors.simulation import RULES, SCENARIOS

    if as_json:
        print_json(
            {
                "scenarios": {
                    name: {"about": found.about, "rows_per_minute": found.rows_per_minute}
                    for name, found in SCENARIOS.items()
                },
                "rules": {name: found.about for name, found in RULES.items()},
            }
        )
        return
    print_table(
        ("SCENARIO", "ROWS/MIN", "ABOUT"),
        [(name, f"{found.rows_per_minute:g}", found.about) for name, found in SCENARIOS.items()],
    )
    print_table(("RULE", "ABOUT"), [(name, found.about) for name, found in RULES.items()])


def _show(results: Sequence["Result"]) -> None:
    if results[0].horizon_days is None:
        print_table(
            ("RULE", "MODEL-YEARS", "FALSE PAGES A YEAR", "COLUMN ALERTS A YEAR", "MINUTES IN ALARM"),
            [
                (
                    r.rule,
                    f"{r.model_years:.3g}",
                    _with_interval(r.false_pages_per_model_year, r.false_pages_interval, "{:.3g}"),
                    _number(r.column_alerts_per_model_year, "{:.3g}"),
                    _with_interval(r.minutes_in_alarm_share, r.minutes_in_alarm_interval, "{:.3%}"),
                )
                for r in results
            ],
        )
        return
    print_table(
        ("RULE", "SHIFTS", "HOURS TO THE PAGE", "90 %", "MISSED", "IN ALARM BEFORE"),
        [
            (
                r.rule,
                str(r.shifts),
                _with_interval(r.delay_hours_median, r.delay_hours_median_interval, "{:.3g}"),
                _number(r.delay_hours_p90, "{:.3g}"),
                _with_interval(r.missed_share, r.missed_interval, "{:.1%}"),
                _number(r.in_alarm_before_share, "{:.1%}"),
            )
            for r in results
        ],
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _with_interval(value: float | None, interval: tuple[float | None, float | None] | None, form: str) -> str:
    if interval is None:
        return _number(value, form)
    return f"{_number(value, form)} ({_number(interval[0], form)} to {_number(interval[1], form)})"


def _progress() -> Callable[[float], None] | None:
    """Per cent on stderr, for a person who waits."""
    if not sys.stderr.isatty():
        return None

    def told(share: float) -> None:
        click.echo(f"\r{_MARK * int(100 * share / _MARK)} %", nl=share >= 1.0, err=True)

    return told
