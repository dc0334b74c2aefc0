"""`driftd demo`: a real model drifts on real data, and the alert arrives."""

import json
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from monitor.cli.running import CommandFailed
from monitor.demo import slack_view
from monitor.demo.story import Day, DemoFailed, Show, Story


@click.command()
@click.option(
    "--exit-after-alert", is_flag=True, help="End with 0 at the first alert, with 1 if none comes in time."
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON object on the last line.")
@click.option("--limit", default=180.0, show_default=True, help="Seconds until the demo gives up.")
@click.option("--seconds-per-day", default=0.15, show_default=True, help="How fast the months go by.")
def demo(*, exit_after_alert: bool, as_json: bool, limit: float, seconds_per_day: float) -> None:
    """Watch a real model drift on real data: New York flights of 2013, winter to summer."""
    if not exit_after_alert and not as_json and not sys.stdout.isatty():
        raise click.UsageError("without a terminal, say --exit-after-alert or --json: somebody has to end it")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    terminal = _Terminal(quiet=as_json)
    directory = Path(tempfile.mkdtemp(prefix="driftd-demo-"))
    story = Story(directory, terminal.show(), seconds_per_day=seconds_per_day)
    stay = not exit_after_alert and not as_json
    try:
        terminal.title()
        outcome = story.run(
            until_alert=exit_after_alert, limit_seconds=limit, then=terminal.linger if stay else lambda: None
        )
    except DemoFailed as error:
        raise CommandFailed(f"demo: {error}") from None
    except KeyboardInterrupt:
        terminal.end("stopped; nothing is left behind")
        return
    finally:
        story.close()
        shutil.rmtree(directory, ignore_errors=True)
    terminal.end(
        f"{outcome.rows_sent:,} rows sent, {outcome.rows_stored:,} stored, {outcome.windows_evaluated} windows evaluated, "
        f"{outcome.stable_alerts} alerts in the stable weeks, first alert after {outcome.seconds_to_first_alert} s"
    )
    if as_json:
        click.echo(json.dumps(asdict(outcome)))
    if not outcome.alerts:
        raise CommandFailed("demo: no alert came, although the weather changed")


class _Terminal:
    """Says what happens, on stderr where stdout is for JSON; progress in place where somebody watches."""

    def __init__(self, *, quiet: bool) -> None:
        self._stream = sys.stderr if quiet else sys.stdout
        self._live = self._stream.isatty()
        self._progress = ""

    def show(self) -> Show:
        return Show(step=self.step, day=self.day, alert=self.alert)

    def title(self) -> None:
        self._line(
            "A model that predicts late arrivals was trained on New York flights of January and February 2013."
        )
        self._line(
            "It now serves the flights it has not seen, then March to May. Nothing else changes but the world."
        )

        self._line("Five months pass in half a minute; times are moved so that the last flight leaves now.\n")

    def step(self, name: str, text: str) -> None:
        self._line(f"  {name:<9} {text}")

    def day(self, day: Day) -> None:
        filled = round(30 * day.served / day.of)
        bar = "█" * filled + "░" * (30 - filled)
        self._progress = f"  {day.date:%d %B %Y}  {bar}  {day.served:,} of {day.of:,} predictions"
        if self._live:
            self._stream.write(f"\r\x1b[K{self._progress}")
            self._stream.flush()

    def alert(self, body: dict[str, Any]) -> None:
        width = min(shutil.get_terminal_size((100, 24)).columns, 110)
        wrapped = [
            part
            for line in slack_view.lines(body)
            for part in (
                textwrap.wrap(line, width - 6, subsequent_indent="    ", break_long_words=False) or [""]
            )
        ]
        self._line(f"\n{self._progress}")
        self._line("  ┌─ #on-call " + "─" * (width - 14))
        for line in wrapped:
            self._line(f"  │ {line}")
        self._line("  └" + "─" * (width - 4) + "\n")

    def linger(self) -> None:
        self._line("\n  The daemon still runs: look at its page. Ctrl-C ends it and leaves nothing behind.")
        while True:
            time.sleep(3600)

    def end(self, text: str) -> None:
        self._line(f"\n  {text}")

    def _line(self, text: str) -> None:
        start = "\r\x1b[K" if self._live else ""
        self._stream.write(f"{start}{text}\n")
        self._stream.flush()
