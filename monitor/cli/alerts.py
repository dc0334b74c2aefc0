"""`driftd alerts list`, `show`, `ack` and `routes`."""

from typing import Any

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import Session, print_json, print_table
from monitor.cli.showing import minute, user, words


@click.group()
def alerts() -> None:
    """List, show and acknowledge alerts."""


@alerts.command("list")
@click.option(
    "--state",
    type=click.Choice(["open", "pending", "firing", "resolved", "all"]),
    default="open",
    show_default=True,
    help="Which alerts.",
)
@click.option("--model", help="Only those of one model.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, state: str, model: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first."""
    wanted = None if state == "all" else state
    with open_backend(session) as backend:
        found = backend.get("/v1/alerts", state=wanted, model=model, limit=str(limit))["alerts"]
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "STATE", "SEVERITY", "KIND", "MODEL", "VERSION", "SINCE", "WHAT"),
        [
            (
                str(a["id"]),
                _state(a),
                a["severity"],
                words(a["kind"]),
                a["model"],
                a["version"],
                minute(a["firing_since"] or a["active_since"]),
                a["title"],
            )
            for a in found
        ],
    )


@alerts.command()
@click.argument("alert", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(session: Session, alert: int, as_json: bool) -> None:
    """Show ALERT with its history, who is on it, and who was told."""
    with open_backend(session) as backend:
        found = backend.get(f"/v1/alerts/{alert}")
    if as_json:
        print_json(found)
        return
    shown = found["alert"]
    click.echo(f"alert {shown['id']}: {shown['title']}")
    where = " ".join(word for word in (shown["model"], shown["version"], shown["segment"]) if word)
    click.echo(f"{_state(shown)}, {shown['severity']} {words(shown['kind'])} of {where or 'driftd'}")
    evidence = shown["detail"].get("evidence")
    if evidence:
        click.echo(
            f"{evidence['detector']} {evidence['statistic']:.4g} (limit {evidence['threshold']:.4g}) over "
            f"{evidence['window_seconds']} s, {evidence['rows']:,} rows against {evidence['baseline_rows']:,}"
        )
    if shown["detail"].get("rule"):
        click.echo(f"decided by {shown['detail']['rule']}, which no budget of false pages covers")
    if shown["detail"].get("baseline"):
        click.echo(f"baseline: {shown['detail']['baseline']}")
    print_table(
        ("AT", "WHAT", "BY"),
        [
            *(
                (minute(t["at"]), f"{t['from_state']} → {t['to_state']}: {t['reason']}", "")
                for t in found["transitions"]
            ),
            *(
                (minute(a["at"]), f"acknowledged: {a['comment']}".rstrip(": "), a["author"])
                for a in found["acks"]
            ),
            *(
                (minute(n["created_at"]), f"{n['kind']} message {n['status']}", n["receiver"])
                for n in found["notifications"]
            ),
        ],
    )


@alerts.command()
@click.argument("alert", type=click.IntRange(min=1))
@click.option("--comment", default="", help="What you will do.")
@click.option("--author", default=user, help="Who you are. Default: $USER.")
@click.pass_obj
def ack(session: Session, alert: int, comment: str, author: str) -> None:
    """Say that you are on ALERT: its incident is not repeated."""
    with open_backend(session) as backend:
        backend.expect(
            backend.call("POST", f"/v1/alerts/{alert}/ack", json_body={"comment": comment, "author": author})
        )
    click.echo(f"alert {alert} is acknowledged by {author}")


@alerts.command()
@click.option(
    "--model", default="", help="Of this model. Default: of no model, as when a receiver is broken."
)
@click.option("--kind", default="feature_drift", show_default=True, help="What went wrong.")
@click.option("--severity", default="critical", show_default=True, help="How severe it is.")
@click.option("--version", default="", help="Of this version.")
@click.option("--segment", default="", help="Of this segment, TAG=VALUE.")
@click.option("--column", default="", help="Of this column.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def routes(session: Session, /, as_json: bool, **about: str) -> None:
    """Show whom the configuration would tell of an alert, and when. Nothing is sent."""
    from monitor.routes import destinations

    try:
        found = destinations(session.config(), **about)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("nobody is told of it")
        return
    print_table(
        ("RECEIVER", "ROUTE", "WAIT", "INTERVAL", "REPEAT"),
        [
            (f["receiver"], f["route"], f["group_wait"], f["group_interval"], f["repeat_interval"])
            for f in found
        ],
    )


def _state(alert: dict[str, Any]) -> str:
    marks = []
    if alert["resolution"]:
        marks.append(words(alert["resolution"]))
    if alert["acknowledged"]:
        marks.append("acknowledged")
    if alert["silenced_by"]:
        marks.append("silenced")
    return f"{alert['state']} ({', '.join(marks)})" if marks else str(alert["state"])
