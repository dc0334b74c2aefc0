"""`driftd reload`."""

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import CommandFailed, Session, print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print {changed, needs_restart}.")
@click.pass_obj
def reload(session: Session, as_json: bool) -> None:
    """Let the running daemon read its configuration again (as SIGHUP does): all of it, or nothing and why.

    server, storage and log are read at the start alone; what differs there is named.
    """
    with open_backend(session) as backend:
        answered = backend.call("POST", "/v1/reload")
        if answered.status == 422:
            for issue in answered.value["errors"]:
                click.echo(issue["detail"], err=True)
            raise CommandFailed("not reloaded: the old configuration stays")
        found = backend.expect(answered)
    if as_json:
        print_json(found)
        return
    click.echo(f"reloaded; changed: {', '.join(found['changed']) or 'nothing'}")
    for key in found["needs_restart"]:
        click.echo(f"{key} holds only after a restart", err=True)
