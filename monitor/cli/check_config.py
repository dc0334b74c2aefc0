"""`driftd check-config`."""

from pathlib import Path

import click

from monitor.cli.running import CommandFailed, Session, print_json


@click.command("check-config")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print {ok, file, errors, warnings} instead of lines.")
@click.pass_obj
def check_config(session: Session, path: Path | None, strict: bool, as_json: bool) -> None:
    """Check the configuration file PATH (default: the one that would be used).

    Prints every error with its file, line and key, and warns of what is allowed but unwise, and of columns
    that no registered baseline has.
    """
    from monitor.config import ConfigError, check, load
    from monitor.config_columns import check_columns

    path = path or session.found_config()
    if path is None:
        raise click.UsageError(
            "there is no configuration file to check; name one, or write one with `driftd init`"
        )
    errors: tuple[str, ...] = ()
    warnings: list[str] = []
    try:
        config = load(path)
        warnings = [*check(config), *check_columns(config)]
    except ConfigError as error:
        errors = error.errors
    failed = bool(errors) or (strict and bool(warnings))
    if as_json:
        print_json({"ok": not failed, "file": str(path), "errors": list(errors), "warnings": warnings})
    else:
        for line in errors:
            click.echo(line, err=True)
        for warning in warnings:
            click.echo(f"{path}: warning: {warning}", err=True)
    if failed:
        if as_json:
            click.get_current_context().exit(1)
        raise CommandFailed(f"{path}: {len(errors)} errors, {len(warnings)} warnings")
    if not as_json:
        click.echo(f"{path}: ok")
