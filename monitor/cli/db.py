"""`driftd db backup`, which is SQLite's; PostgreSQL has its own."""

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
    """Write a consistent copy of the database to the new file TARGET, whether the daemon runs or not.

    On PostgreSQL use pg_dump.
    """
    from monitor.config import SecretError
    from monitor.location import location
    from storage.engine import Database
    from storage.errors import StorageError

    try:
        with Database.open_readonly(location(session.config())) as reader:
            size = reader.backup(target)
    except (SecretError, StorageError) as error:
        raise CommandFailed(str(error)) from None
    click.echo(f"wrote {target}: {size:,} bytes")
