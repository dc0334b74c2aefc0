"""`driftd silence add`, `list` and `expire`."""

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import Session, print_json, print_table
from monitor.cli.showing import minute, user


@click.group()
def silence() -> None:
    """Mute alerts for a time. They are still recorded."""


@silence.command()
@click.option("--model", help="Alerts of this model.")
@click.option("--column", help="Alerts of this column.")
@click.option(
    "--matcher",
    "matchers",
    multiple=True,
    metavar="LABEL=VALUE",
    help='Alerts whose label matches, with =, !=, =~ or !~: column=~"amount.*". Repeatable; all must match.',
)
@click.option("--for", "duration", required=True, metavar="DURATION", help='For how long: "4h", "3d".')
@click.option("--comment", default="", help="Why.")
@click.option("--author", default=user, help="Who you are. Default: $USER.")
@click.option("--json", "as_json", is_flag=True, help="Print the silence as JSON.")
@click.pass_obj
def add(
    session: Session,
    model: str | None,
    column: str | None,
    matchers: tuple[str, ...],
    duration: str,
    comment: str,
    author: str,
    as_json: bool,
) -> None:
    """Mute the alerts that match everything given, from now on."""
    from alerts.routing import Matcher, MatchOp

    named = [(name, value) for name, value in (("model", model), ("column", column)) if value is not None]
    texts = [str(Matcher(name, MatchOp.EQUAL, value)) for name, value in named] + list(matchers)
    if not texts:
        raise click.UsageError("say what to mute, with --model, --column or --matcher")
    body = {"matchers": texts, "duration": duration, "comment": comment, "author": author}
    with open_backend(session) as backend:
        done = backend.expect(backend.call("POST", "/v1/silences", json_body=body))
    if as_json:
        print_json(done)
    else:
        click.echo(f"silence {done['id']} until {minute(done['ends_at'])} UTC: {', '.join(done['matchers'])}")


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, everything: bool, as_json: bool) -> None:
    """List silences, newest first."""
    with open_backend(session) as backend:
        found = backend.get("/v1/silences")["silences"]
    shown = [s for s in found if everything or s["state"] != "expired"]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("ID", "STATE", "UNTIL", "MATCHERS", "AUTHOR", "COMMENT"),
        [
            (
                str(s["id"]),
                s["state"],
                minute(s["expired_at"] or s["ends_at"]),
                ", ".join(s["matchers"]),
                s["author"],
                s["comment"],
            )
            for s in shown
        ],
    )


@silence.command()
@click.argument("silence_id", metavar="SILENCE", type=click.IntRange(min=1))
@click.pass_obj
def expire(session: Session, silence_id: int) -> None:
    """End SILENCE now."""
    with open_backend(session) as backend:
        backend.expect(backend.call("DELETE", f"/v1/silences/{silence_id}"))
    click.echo(f"silence {silence_id} has ended")
