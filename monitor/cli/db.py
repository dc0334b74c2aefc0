"""`driftd db backup`."""

from pathlib import Path

import click

from monitor.cli.running import CommandFailed, Session


@click.group()
def db() -> None:
    """Work with the database."""


@db.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(session: Session, target: Path) -> None:
    """Write a consistent copy of the database to the new file TARGET, whether the daemon runs or not."""
    from storage.engine import Database
    from storage.errors import StorageError

    try:
        with Database.open_readonly(session.config().storage.state_dir) as reader:
            size = reader.backup(target)
    except StorageError as error:
        raise CommandFailed(str(error)) from None
    click.echo(f"wrote {target}: {size:,} bytes")
