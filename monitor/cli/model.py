"""`driftd model show`."""

from typing import Any
from urllib.parse import quote

import click

from alerts.times import span
from monitor.cli.backend import open_backend
from monitor.cli.running import CommandFailed, Session, print_json, print_table
from monitor.cli.showing import minute, words

_LENGTHS = ((172_800, 86_400, "d"), (5_400, 3_600, "h"), (0, 60, "min"))
"""From how many seconds on an estimate is told in a unit, and its length."""

_FIGURES = ("ACCURACY", "MAE", "RMSE", "BIAS")


@click.group()
def model() -> None:
    """Show how models are judged."""


@model.command()
@click.argument("name", metavar="MODEL")
@click.option("--version", help="Only this version. Default: the one that answered last.")
@click.option("--segment", metavar="TAG=VALUE", help="Only rows of one segment, such as region=eu.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, of every version unless one is named.")
@click.pass_obj
def show(session: Session, name: str, version: str | None, segment: str | None, *, as_json: bool) -> None:
    """Show what each column of MODEL has learned, what pages, how soon, how right predictions turned out to be, and how its
    traffic and segments stand."""
    with open_backend(session) as backend:
        found = backend.get(f"/v1/models/{quote(name, safe='')}", segment=segment)
    if version is not None:
        found["versions"] = [v for v in found["versions"] if v["version"] == version]
        if not found["versions"]:
            raise CommandFailed(f"model {name!r} has no version {version!r}")
    if as_json:
        print_json(found)
        return
    wanted = version or found["model"]["current"]
    click.echo(_headline(found, wanted))
    if found["traffic"] is not None:
        click.echo(_traffic(found["traffic"]))
    for shown in found["versions"]:
        if shown["version"] == wanted:
            _version(shown)


def _headline(found: dict[str, Any], version: str | None) -> str:
    summary = found["model"]
    part = f", segment {found['segment']}" if found["segment"] else ""
    return (
        f"{summary['name']}, version {version or 'none'}{part}: {words(summary['state'])}; {summary['firing']} alerts firing, "
        f"{summary['pending']} pending; evaluated up to {minute(summary['evaluated_upto']) or 'nothing yet'}"
    )


def _traffic(found: dict[str, Any]) -> str:
    now = f"traffic {_rate(found['rate'])} rows a minute"
    if found["usual"] is None:
        return (
            f"{now}; usual at this hour of the week: not known before 4 weeks of it, {found['weeks']} so far"
        )
    return (
        f"{now}, {words(found['status'])}; usual at this hour of the week: {_rate(found['usual'])} "
        f"({_rate(found['low'])} to {_rate(found['high'])})"
    )


def _version(shown: dict[str, Any]) -> None:
    if not shown["rules"]:
        click.echo("no baseline yet: nothing is judged")
        return
    states = {column["name"]: column["state"] for column in shown["columns"]}
    print_table(
        (
            *("COLUMN", "STATE", "EVIDENCE", "LEARNING", "SEES IN 6H", "DELAY", "BLOCK", "TAU"),
            *("PAGES FROM D", "FROM PSI", "THRESHOLDS", "BUDGET", "STRONGEST BET"),
        ),
        [_row(rule, states.get(rule["name"], "")) for rule in shown["rules"]],
    )
    if shown["performance"]:
        print_table(
            ("PERFORMANCE OF", "PREDICTIONS", "LABELLED", *_FIGURES, "MEAN CONFIDENCE", "24H UP TO"),
            [_performance(found) for found in shown["performance"]],
        )
    if shown["segments"]:
        print_table(
            ("SEGMENT", "STATE", "FIRING", "ROWS", "EVALUATED UP TO"),
            [
                (s["segment"], words(s["state"]), str(s["firing"]), str(s["rows"]), minute(s["evaluated_at"]))
                for s in shown["segments"]
            ],
        )


def _row(rule: dict[str, Any], state: str) -> tuple[str, ...]:
    known = rule["learning"] in ("learned", "too_variable")
    unknown = "never" if known else "?"
    detectable, delay, tau = rule["detectable"], rule["delay_seconds"], rule["tau_seconds"]
    return (
        rule["name"],
        words(state),
        f"{rule['evidence']:.3g}",
        _learning(rule),
        unknown if detectable is None else f"D {detectable:.2f}",
        unknown if delay is None else _hours(delay),
        span(rule["block_seconds"]),
        "?" if tau is None else _hours(tau),
        _limits(rule["thresholds"], "ks"),
        _limits(rule["thresholds"], "psi"),
        rule["ks_from"] if rule["ks_from"] == rule["psi_from"] else f"{rule['ks_from']}, {rule['psi_from']}",
        f"{rule['budget']:.2g} a year ({rule['budget_share']:.1%})",
        _bet(rule["leading"]),
    )


def _performance(found: dict[str, Any]) -> tuple[str, ...]:
    accuracy = found["accuracy"]
    interval = "" if accuracy is None else f" ({found['accuracy_low']:.3f} to {found['accuracy_high']:.3f})"
    errors = ("mean_absolute_error", "root_mean_squared_error", "mean_error")
    return (
        found["column"],
        f"{found['rows']:,}",
        f"{found['labelled']:,} ({found['coverage']:.0%})",
        "" if accuracy is None else f"{accuracy:.3f}{interval}",
        *("" if found[error] is None else f"{found[error]:.4g}" for error in errors),
        "" if found["confidence"] is None else f"{found['confidence']:.3f}",
        minute(found["end"]),
    )


def _learning(rule: dict[str, Any]) -> str:
    if rule["learning"] == "mismatch":
        return "baseline mismatch"
    if rule["learning_since"]:
        return f"learning since {minute(rule['learning_since'])}"
    source = f" from {rule['source']}" if rule["learning"] == "learned" else ""
    return words(rule["learning"]) + source


def _limits(thresholds: list[dict[str, Any]], statistic: str) -> str:
    said = (f"{span(t['seconds'])} {t[statistic]:.3g}" for t in thresholds if t[statistic] is not None)
    return ", ".join(said) or "never"


def _bet(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    form = ".3g" if found["kind"] == "mean" else ".1%"
    trained, low, high = (format(found[key], form) for key in ("trained", "low", "high"))
    return f"{found['event']}: trained {trained}, band {low} to {high}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(seconds: float) -> str:
    size, unit = next((size, unit) for least, size, unit in _LENGTHS if seconds >= least)
    return f"{seconds / size:.0f}{unit}" if seconds >= 10 * size else f"{seconds / size:.2g}{unit}"
