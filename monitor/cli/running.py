"""How commands are found, what they share, and how they fail."""

import importlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from monitor.vectors import prefer_fast_sort

if TYPE_CHECKING:
    from monitor.config import Config

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

_CONFIG_PATHS = (Path("driftd.toml"), Path("/etc/driftd/driftd.toml"))


class CommandFailed(click.ClickException):
    """The command could not do what it was asked; the message is what the user reads. Exit code 1."""

    exit_code = FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What all commands share: where the configuration and the token for the daemon are, if anybody said so."""

    config_path: Path | None = None
    token_file: Path | None = None

    def found_config(self) -> Path | None:
        """The file that was asked for, else the first of the usual places that has one."""
        if self.config_path is not None:
            return self.config_path
        return next((path for path in _CONFIG_PATHS if path.is_file()), None)

    def load(self) -> "Config":
        """The configuration, or ConfigError with every mistake in it."""
        from monitor.config import Config, load

        path = self.found_config()
        return Config() if path is None else load(path)

    def config(self) -> "Config":
        """The configuration, built-in defaults where there is no file. Fails with every mistake in it."""
        from monitor.config import ConfigError

        try:
            return self.load()
        except ConfigError as error:
            raise CommandFailed(str(error)) from None


def config_option() -> click.Option:
    """`--config`, which stands before or after a command's name."""
    return click.Option(
        ["--config", "-c", "config_path"],
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember,
        help="The configuration file. Default: $DRIFTD_CONFIG, ./driftd.toml, /etc/driftd/driftd.toml.",
    )


def token_option() -> click.Option:
    """`--token-file`, for commands that may have to ask a running daemon."""
    return click.Option(
        ["--token-file", "token_file"],
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=_remember,
        help="The file with the token for the daemon. Default: $DRIFTD_TOKEN_FILE.",
    )


def _remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    session = context.find_object(Session) or Session()
    given = {} if value is None else {str(parameter.name): value}
    context.obj = replace(session, **given)


def take_options(command: click.Command, options: Sequence[click.Option]) -> None:
    """Add options to a command and to everything below it, unless they are there already."""
    known = {parameter.name for parameter in command.params}
    command.params.extend(option for option in options if option.name not in known)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            take_options(below, options)


class LazyGroup(click.Group):
    """A group whose commands are imported when called; `commands_at` maps name → ("module:attribute", help line).

    Every command takes --config, before and after its name, and --token-file unless it `asks_nobody`.
    """

    def __init__(
        self,
        *args: Any,
        commands_at: Mapping[str, tuple[str, str]],
        asks_nobody: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at
        self._asks_nobody = frozenset(asks_nobody)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._commands_at, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands_at:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._commands_at[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is no command"
        asks = () if cmd_name in self._asks_nobody else (token_option(),)
        take_options(command, (config_option(), *asks))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        rows = [(name, line) for name, (_, line) in sorted(self._commands_at.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, with errors of one line and the exit codes of this program."""
        # Before any command's module imports numpy.
        prefer_fast_sort()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(MISUSED)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "driftd"
            _stop(f"{path}: {_one_line(error.format_message())} (see {path} --help)", MISUSED)
        except click.ClickException as error:
            _stop(f"driftd: {error.format_message()}", error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _stop("driftd: interrupted", INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has read enough, as in `driftd … | head`.
            sys.stderr.close()
            sys.exit(0)
        sys.exit(result if isinstance(result, int) else 0)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stop(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


def print_json(value: object) -> None:
    """A value as JSON on stdout; NaN is a bug, not a number."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows as a table on a terminal, as tab-separated lines for a pipe."""
    if not sys.stdout.isatty():
        for row in (headers, *rows):
            click.echo("\t".join(_one_line(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: a column called "[red]" is no markup
    Console().print(table)
