"""The command line: `driftd COMMAND`.

Exit codes: 0 done, 1 failed, 2 used wrongly. Every error is one line on stderr (a configuration's mistakes one
line each). Commands are imported when they are called, so that `driftd --help` waits for none of their libraries.
"""

from pathlib import Path

import click

from monitor.cli.running import LazyGroup, Session

__all__ = ["main"]

_COMMANDS = {
    "baseline": ("monitor.cli.baseline:baseline", "Build, show and list baselines of training data."),
    "check-config": ("monitor.cli.check_config:check_config", "Check a configuration file."),
    "init": ("monitor.cli.init:init", "Write a configuration file to start from."),
}
"""Each command's place and its line in --help, which must not cost an import."""


@click.group(cls=LazyGroup, commands_at=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="DRIFTD_CONFIG",
    help="The configuration file. Default: $DRIFTD_CONFIG, ./driftd.toml, /etc/driftd/driftd.toml.",
)
@click.version_option(package_name="driftd", message="driftd %(version)s")
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Watch deployed ONNX models for drift, and tell people in time."""
    context.obj = Session(config_path=config)
