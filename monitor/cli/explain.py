"""`driftd explain`."""

import math
from typing import Any, Final

import click

from alerts.times import span
from monitor.cli.backend import open_backend
from monitor.cli.running import FAILED, Session, print_json, print_table
from monitor.cli.showing import minute, words

_SOURCES: Final = {
    "preset A": "preset A",
    "preset C": "preset C",
    "learned": "learned",
    "configured": "your own",
    "chance": "2.2/√n, what chance gives",
    "rule": "the rule",
}
_STATISTICS: Final = {
    "missing": "psi of missing",
    "non_finite": "psi of infinite",
    "out_of_range": "psi of out of range",
}
_SMALLEST_P: Final = 1e-15


@click.command()
@click.argument("alert", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
@click.pass_context
def explain(context: click.Context, session: Session, alert: int, as_json: bool) -> None:
    """Recompute the verdict of ALERT from what was stored, and show what it rests on.

    Ends with 1 where a verdict does not come out bit for bit as it was stored.
    """
    with open_backend(session) as backend:
        found = backend.get(f"/v1/alerts/{alert}/explanation")
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not all(check["identical"] for check in found["recomputed"]):
        context.exit(FAILED)


def _show(found: dict[str, Any]) -> None:
    if found["kind"] == "performance":
        _show_limits(found)
    else:
        _show_drift(found)
    click.echo()
    for check in found["recomputed"]:
        _recomputed(check)


def _show_limits(found: dict[str, Any]) -> None:
    click.echo(f"alert {found['alert']}: {found['column']}: {found['summary']}")
    where = " ".join(word for word in (found["model"], found["version"]) if word)
    click.echo(f"performance of {where}, {found['state']}, fired {minute(found['fired_at'])} UTC")
    click.echo(
        f"\nTESTS: {found['labelled']:,} labelled of {found['rows']:,} predictions of the 24 h up to "
        f"{minute(found['upto'])} UTC; P-VALUE: how likely so bad a day is where every prediction just meets the limit"
    )
    print_table(
        ("MEASURE", "VALUE", "LIMIT", "P-VALUE", "PAGES FROM"),
        [
            (
                words(test["measure"]),
                f"{test['value']:.4g}",
                f"{test['limit']:g}",
                _p_value(test["p_value"]),
                f"{test['level']:.2g}",
            )
            for test in found["tests"]
        ],
    )


def _show_drift(found: dict[str, Any]) -> None:
    where = " ".join(word for word in (found["model"], found["version"], found["segment"]) if word)
    click.echo(f"alert {found['alert']}: {found['column']}: {found['moved']}")
    click.echo(f"{words(found['kind'])} of {where}, {found['state']}, fired {minute(found['fired_at'])} UTC")
    click.echo(f"baseline: {found['baseline']}")
    if found["rule"]:
        click.echo(f"decided by the rule {found['rule']}, which no budget of false pages covers")
    _effect_key(found)
    _evidence_key(found["evidence"])
    _distances(found)
    _budget(found["budget"])


def _effect_key(found: dict[str, Any]) -> None:
    click.echo(
        f"\nEFFECT: large enough? Over {span(found['window_seconds'])}, {found['rows']:,} values against "
        f"{found['baseline_rows']:,} of training (n_eff {found['n_effective']:,.0f})"
    )
    print_table(
        ("STATISTIC", "WINDOW", "VALUE", "THRESHOLD", "FROM", "ROWS", ""),
        [
            (
                _STATISTICS.get(line["detector"], line["detector"]),
                span(line["window_seconds"]),
                f"{line['statistic']:.4g}",
                f"{line['threshold']:.4g}",
                _SOURCES[line["source"]],
                f"{line['rows']:,}",
                "holds" if line["holds"] else "",
            )
            for line in found["effects"]
        ],
    )


def _evidence_key(key: dict[str, Any]) -> None:
    click.echo(f"\nEVIDENCE: certain enough? {key['value']:.4g} of the 1 that pages, bands {_bands(key)}")
    if key["leading"] is None:
        return
    since = f"; growing since about {minute(key['since'])} UTC" if key["since"] else ""
    click.echo(f"strongest bet: {key['leading']} goes {key['direction']}{since}")
    print_table(
        (f"BLOCK OF {span(key['block_seconds'])}", "ROWS", "SHARE", "BAND", "", "EVIDENCE"),
        [
            (
                minute(line["start"]),
                f"{line['rows']:,}",
                f"{line['share']:.4f}",
                f"[{line['low']:.4f}, {line['high']:.4f}]",
                _side(line),
                "-" if line["evidence"] is None else f"{line['evidence']:.3g}",
            )
            for line in key["blocks"]
        ],
    )


def _bands(key: dict[str, Any]) -> str:
    if key["learned_from"] is None:
        return f"from training and tolerance ({words(key['learning'])})"
    return (
        f"{words(key['learning'])} from {key['source']} of {minute(key['learned_from'])} to "
        f"{minute(key['learned_to'])} UTC"
    )


def _side(line: dict[str, Any]) -> str:
    if line["share"] > line["high"]:
        return "above"
    return "below" if line["share"] < line["low"] else ""


def _distances(found: dict[str, Any]) -> None:
    click.echo(f"\nFOR THE READER: other distances over {span(found['window_seconds'])}; they decide nothing")
    print_table(
        ("DISTANCE", "VALUE", "P-VALUE", "MEASURES"),
        [
            (words(line["detector"]), _bracket(line), _p_value(line["p_value"]), line["measures"])
            for line in found["distances"]
        ],
    )


def _bracket(line: dict[str, Any]) -> str:
    low, high = line["low"], line["high"]
    if low is None or high is None or low == high:
        return f"{line['statistic']:.4g}"
    return f"{low:.4g} to {high:.4g}"


def _p_value(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"< {_SMALLEST_P:.0e}" if value < _SMALLEST_P else f"{value:.2g}"


def _budget(budget: dict[str, Any]) -> None:
    click.echo(
        f"\nBUDGET: at most {budget['spent']:.3g} of {budget['false_pages_per_year']:g} false pages spent in "
        f"{budget['year']}, over {budget['watched_days']:.4g} days of traffic; this column has "
        f"{budget['share']:.2%} of it, {budget['per_block']:.3g} a block"
    )


def _recomputed(check: dict[str, Any]) -> None:
    at = f"{check['reason']} {minute(check['at'])} UTC"
    if check["identical"]:
        kept = (
            " (its blocks are kept no longer: from the copy)"
            if check.get("blocks_from") == "transition"
            else ""
        )
        click.echo(f"recomputed: identical ({at}){kept}")
        return
    click.echo(f"recomputed: DIFFERENT ({at})")
    for difference in check["differences"]:
        click.echo(f"  {difference}")
