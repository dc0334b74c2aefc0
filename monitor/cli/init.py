"""`driftd init`."""

from importlib import resources
from pathlib import Path

import click

from monitor.cli.running import CommandFailed


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="driftd.toml")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(path: Path, force: bool) -> None:
    """Write an example configuration to PATH (default: driftd.toml).

    Every key is in it, explained and commented out at its default.
    """
    text = example_config()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandFailed(f"{path} exists; --force overwrites it") from None
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    click.echo(f"wrote {path}; say what differs, then: driftd check-config {path}")


def example_config() -> str:
    """config.example.toml, from the installed package, else from the checkout that holds it."""
    packaged = resources.files("monitor").joinpath("config.example.toml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    beside = Path(__file__).resolve().parents[2] / "config.example.toml"
    if not beside.is_file():
        raise CommandFailed("config.example.toml is missing from this installation; install driftd again")
    return beside.read_text(encoding="utf-8")
