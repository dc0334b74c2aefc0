"""`driftd serve`."""

import gc
from typing import Literal

import click

from monitor.cli.running import CommandFailed, Session


@click.command()
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Default: the configuration's log.format."
)
@click.pass_obj
def serve(session: Session, log_format: Literal["text", "json"] | None) -> None:
    """Run the daemon until it is told to stop by SIGTERM or Ctrl-C."""
    gc.disable()  # what is imported stays: searching it for cycles again and again takes a sixth of the start
    from monitor.logs import configure

    config = session.config()
    configure(config.log.level, log_format or config.log.format)
    from monitor.server import StartFailed
    from monitor.server import serve as run

    gc.enable()
    try:
        run(config, session.load)
    except StartFailed as error:
        raise CommandFailed(str(error)) from None
