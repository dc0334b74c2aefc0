"""`driftd baseline build --from-traffic`: the retained rows of a span in place of training files."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import Session, print_json, print_table
from monitor.cli.showing import minute


def build_from_traffic(
    session: Session, *, model: str, version: str | None, body: Mapping[str, Any], as_json: bool
) -> None:
    """Ask the daemon, or the store beside none, and report. `body` is that of the API."""
    if version is None:
        raise click.UsageError("--version is missing: whose traffic?")
    for name in ("from", "to"):
        if body[name] is None:
            raise click.UsageError(f"--{name} is missing: which span of the traffic? RFC 3339 times")
    path = f"/v1/models/{quote(model, safe='')}/versions/{quote(version, safe='')}/baseline/from-traffic"
    given = {name: value for name, value in body.items() if value is not None}
    with open_backend(session) as backend:
        done = backend.expect(backend.call("POST", path, json_body=given))
    if as_json:
        print_json(done)
        return
    for warning in done["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    _show(done)


def _show(done: Mapping[str, Any]) -> None:
    from monitor.quantities import format_duration

    taught = any(column["learning"] for column in done["columns"])
    print_table(
        ("COLUMN", "ROLE", "TYPE", "DTYPE", "MISSING", *(("LEARNING", "BLOCK") if taught else ())),
        [
            (
                *(c["name"], c["role"], c["type"], c["dtype"], str(c["missing"])),
                *((c["learning"], format_duration(timedelta(seconds=c["block_seconds"]))) if taught else ()),
            )
            for c in done["columns"]
        ],
    )
    click.echo(
        f"{'stored' if done['stored'] else 'built, not stored'}: baseline {done['fingerprint'][:12]} of "
        f"{done['model']} {done['version']}, {done['rows']} rows of {minute(done['start'])} to "
        f"{minute(done['end'])} UTC, {done['kept_share']:.0%} of those there were"
    )


def refuse_options_of_files(given: Mapping[str, object]) -> None:
    """Options that say how to read files have no meaning here; `given` are the options by name."""
    for name, value in given.items():
        if value:
            raise click.UsageError(f"--from-traffic takes the rows as they came; leave {name} out")
