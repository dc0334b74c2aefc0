"""The command line: `driftd COMMAND`.

Exit codes: 0 done, 1 failed, 2 used wrongly. Every error is one line on stderr (a configuration's mistakes one
line each). Commands are imported when they are called, so that `driftd --help` waits for none of their libraries.
"""

from pathlib import Path

import click

from monitor.cli.running import CommandFailed, LazyGroup, Session
from monitor.packages import ForeignPackage, check_packages

__all__ = ["main"]

_COMMANDS = {
    "alerts": ("monitor.cli.alerts:alerts", "List, show and acknowledge alerts."),
    "backtest": (
        "monitor.cli.backtest:backtest",
        "Replay the store under another configuration, and list the pages that change.",
    ),
    "baseline": ("monitor.cli.baseline:baseline", "Build, show, list and accept baselines of training data."),
    "check-config": ("monitor.cli.check_config:check_config", "Check a configuration file."),
    "db": ("monitor.cli.db:db", "Back up the database."),
    "demo": ("monitor.demo.command:demo", "Watch a real model drift and the alert arrive."),
    "explain": ("monitor.cli.explain:explain", "Recompute an alert's verdict and show what it rests on."),
    "init": ("monitor.cli.init:init", "Write a configuration file to start from."),
    "model": ("monitor.cli.model:model", "Show how a model is judged, its segments and its traffic."),
    "replay": ("monitor.cli.replay:replay", "Say which alerts history would have raised."),
    "serve": ("monitor.cli.serve:serve", "Run the daemon."),
    "silence": ("monitor.cli.silence:silence", "Mute alerts for a time."),
    "simulate": (
        "monitor.cli.simulate:simulate",
        "Measure how often a rule pages for nothing, and how soon for a shift.",
    ),
    "status": ("monitor.cli.status:status", "Show how the daemon and its models stand."),
    "test-alert": ("monitor.cli.try_receiver:try_alert", "Send a test notification to a receiver."),
}
"""Each command's place and its line in --help, which must not cost an import."""

_ASK_NOBODY = ("backtest", "check-config", "demo", "init", "serve", "simulate", "db")


@click.group(
    cls=LazyGroup,
    commands_at=_COMMANDS,
    asks_nobody=_ASK_NOBODY,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="DRIFTD_CONFIG",
    help="The configuration file. Default: $DRIFTD_CONFIG, ./driftd.toml, /etc/driftd/driftd.toml.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="DRIFTD_TOKEN_FILE",
    help="The file with the token for a running daemon. Default: $DRIFTD_TOKEN_FILE.",
)
@click.version_option(package_name="driftd", message="driftd %(version)s")
@click.pass_context
def main(context: click.Context, config: Path | None, token_file: Path | None) -> None:
    """Watch deployed ONNX models for drift, and tell people in time."""
    try:
        check_packages()
    except ForeignPackage as error:
        raise CommandFailed(str(error)) from None
    context.obj = Session(config_path=config, token_file=token_file)
