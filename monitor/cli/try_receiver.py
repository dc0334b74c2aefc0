"""`driftd test-alert`."""

from typing import Any
from urllib.parse import quote

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import CommandFailed, Session, print_json


@click.command("test-alert")
@click.argument("receiver")
@click.option("--json", "as_json", is_flag=True, help="Print the exchange as JSON.")
@click.pass_obj
def try_alert(session: Session, receiver: str, as_json: bool) -> None:
    """Send RECEIVER a test notification the way a real one is sent, and show what came back."""
    with open_backend(session) as backend:
        done = backend.expect(backend.call("POST", f"/v1/receivers/{quote(receiver, safe='')}/test"))
    if as_json:
        print_json(done)
    else:
        _show(done)
    status = f"HTTP {done['http_status']}" if done["http_status"] is not None else "no reply"
    if not done["delivered"]:
        what = status if done["attempted"] else "not sent"
        raise CommandFailed(f"{receiver}: {what} after {done['duration_ms']} ms: {done['detail']}")
    if not as_json:
        click.echo(f"delivered: {status} after {done['duration_ms']} ms")


def _show(done: dict[str, Any]) -> None:
    """The exchange, as curl -v would show it."""
    click.echo(f"> {done['request_line']}")
    for name, value in done["headers"]:
        click.echo(f"> {name}: {value}")
    click.echo(f">\n{done['body']}")
    if done["attempted"]:
        click.echo(f"< {done['detail']}")
