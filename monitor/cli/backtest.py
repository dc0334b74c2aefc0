"""`driftd backtest`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from monitor.cli.running import CommandFailed, Session, print_json, print_table

if TYPE_CHECKING:
    from monitor.backtest import Change, ModelReport, Page

_MARK = 5
"""Progress is told on a terminal in steps of so many per cent."""


@click.command()
@click.option("--last", default="30d", show_default=True, help='How much event time, such as "30d".')
@click.option("--model", help="Only one model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def backtest(session: Session, last: str, model: str | None, as_json: bool) -> None:
    """Replay the store under the configuration --config, and list the pages that would appear, vanish or move.

    Reads the configuration's state directory, beside a running daemon or without one, and writes nothing.
    """
    from monitor.backtest import backtest as run
    from monitor.backtest.reporting import UnknownModel
    from storage.engine import Database
    from storage.errors import StorageError

    span, config = _span(last), session.config()
    try:
        with Database.open_readonly(config.storage.state_dir) as reader:
            reports = run(reader, config, last=span, model=model, progress=_progress())
    except (StorageError, UnknownModel) as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        print_json([_plain(asdict(report)) for report in reports])
        return
    if not reports:
        click.echo("the store has no model")
    for report in reports:
        _show(report)


def _span(text: str) -> timedelta:
    from monitor.quantities import parse_duration

    try:
        span = parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--last: {error}") from None
    if span <= timedelta(0):
        raise click.UsageError("--last: give a length of time, such as 30d")
    return span


def _show(report: "ModelReport") -> None:
    from alerts.times import for_readers

    click.echo(
        f"{report.model}: {for_readers(report.start)} to {for_readers(report.end)}, {report.boundaries:,} boundaries "
        f"decided again: {_count(report.paged)} paged, {report.would_page} would"
    )
    for note in report.notes:
        click.echo(f"  note: {note}")
    if not report.changes:
        click.echo("  no difference")
        return
    print_table(
        ("WHEN", "CHANGE", "COLUMN", "VERSION", "WAS", "WOULD BE", "ALERT"),
        [_row(change) for change in report.changes],
    )


def _count(pages: int) -> str:
    return f"{pages} page{'' if pages == 1 else 's'}"


def _row(change: "Change") -> Sequence[str]:
    page = change.before or change.after
    assert page is not None
    where = f"{page.column} ({page.segment})" if page.segment else page.column
    alert = change.before.alert if change.before is not None else None
    return (
        change.at.strftime("%Y-%m-%d %H:%M"),
        _words(change),
        where,
        page.version,
        _page(change.before),
        _page(change.after),
        "" if alert is None else str(alert),
    )


def _words(change: "Change") -> str:
    if change.delay_seconds:
        return f"{_length(abs(change.delay_seconds))} {change.kind}"
    return change.kind


def _page(page: "Page | None") -> str:
    """A page in a cell: what it rested on."""
    from alerts.times import span

    if page is None:
        return "-"
    if page.statistic is None or page.threshold is None or page.window_seconds is None:
        return page.severity
    evidence = "" if page.evidence is None else f", evidence {page.evidence:.3g}"
    return (
        f"{page.severity}: {page.detector} {page.statistic:.3g} (limit {page.threshold:.3g}) "
        f"over {span(page.window_seconds)}{evidence}"
    )


def _length(seconds: float) -> str:
    """Such as "3 d 4 h", "2 h 15 m" or "7 m"."""
    minutes = round(seconds / 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m"))
    said = [f"{value} {unit}" for value, unit in parts if value]
    return " ".join(said[:2]) or "0 m"


def _plain(value: Any) -> Any:
    """Dataclasses' dictionaries with times in RFC 3339."""
    from alerts.times import rfc3339

    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return rfc3339(value) if isinstance(value, datetime) else value


def _progress() -> Callable[[str, float], None] | None:
    """Per cent on stderr, for a person who waits."""
    if not sys.stderr.isatty():
        return None

    def told(model: str, share: float) -> None:
        click.echo(f"\r\x1b[K{model}: {_MARK * int(100 * share / _MARK)} %\r", nl=False, err=True)

    return told
