"""`driftd status`."""

from typing import Any

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import Session, print_json, print_table
from monitor.cli.showing import minute, words

_SHOWN = 2
"""Columns of a model in its line."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show how the daemon, its models and its receivers stand."""
    with open_backend(session) as backend:
        found = backend.get("/v1/status")
    if as_json:
        print_json(found)
        return
    click.echo(_line(found))
    if found["models"]:
        labelled = any(m["performance"] for m in found["models"])
        print_table(
            (
                *("MODEL", "STATE", "VERSIONS", "FIRING", "PENDING", "LAST ARRIVAL", "EVALUATED UP TO"),
                *(("PERFORMANCE",) if labelled else ()),
            ),
            [
                (
                    m["name"],
                    words(m["state"]),
                    ", ".join(m["versions"]),
                    str(m["firing"]),
                    str(m["pending"]),
                    minute(m["last_arrival_at"]),
                    minute(m["evaluated_upto"]),
                    *((_performance(m["performance"]),) if labelled else ()),
                )
                for m in found["models"]
            ],
        )
    if found["receivers"]:
        print_table(
            ("RECEIVER", "KIND", "DESTINATION", "STATE", "WAITING", "SENT", "DEAD"),
            [
                (
                    r["name"],
                    r["kind"],
                    r["destination"],
                    _state(r),
                    str(r["waiting"]),
                    str(r["sent"]),
                    str(r["dead"]),
                )
                for r in found["receivers"]
            ],
        )


def _line(found: dict[str, Any]) -> str:
    if found["running"]:
        daemon = f"driftd {found['version']} runs since {minute(found['started_at'])} UTC"
    else:
        daemon = f"driftd {found['version']}: no daemon runs; this is the store as it was left"
    return (
        f"{daemon}; database {found['database']}; {found['waiting_batches']} batches wait to be folded; "
        f"{found['firing']} alerts firing, {found['pending']} pending"
    )


def _performance(columns: list[dict[str, Any]]) -> str:
    """The last mature day of the first columns, such as "late 0.914 of 90%": the share, or mean error, of how many."""
    more = f", {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(_figure(column) for column in columns[:_SHOWN]) + more


def _figure(column: dict[str, Any]) -> str:
    if not column["labelled"]:
        return f"{column['column']} not labelled"
    accuracy = column["accuracy"]
    said = f"±{column['mean_absolute_error']:.3g}" if accuracy is None else f"{accuracy:.3f}"
    return f"{column['column']} {said} of {column['coverage']:.0%}"


def _state(receiver: dict[str, Any]) -> str:
    if receiver["broken_since"]:
        return f"broken since {minute(receiver['broken_since'])}: {receiver['reason'] or ''}"
    return f"on hold until {minute(receiver['hold_until'])}" if receiver["hold_until"] else "ok"
