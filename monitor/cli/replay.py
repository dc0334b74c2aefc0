"""`driftd replay`."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from monitor.cli.backend import open_backend
from monitor.cli.running import CommandFailed, Session, print_json, print_table
from monitor.cli.showing import minute, words

if TYPE_CHECKING:
    from detectors.profile import Baseline
    from monitor.replay import Replayed


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--model", required=True, help="The model whose settings and baseline are used.")
@click.option("--version", required=True, help="The version whose baseline the rows are compared with.")
@click.option(
    "--time", metavar="COLUMN", help="When each row happened, RFC 3339; needed for CSV and Parquet."
)
@click.option("--missing", multiple=True, metavar="WORD", help="One more word for a missing value.")
@click.option("--delimiter", default=",", show_default=True, help="Between the values of a CSV file.")
@click.option(
    "--baseline",
    "baseline_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An encoded baseline, as GET …/baseline gives it. Default: the version's own.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the replay's own state in this new directory, to look at with driftd serve.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def replay(
    session: Session,
    files: tuple[Path, ...],
    model: str,
    version: str,
    time: str | None,
    missing: tuple[str, ...],
    delimiter: str,
    baseline_file: Path | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Say which alerts the history in FILES would have raised, had driftd watched it as configured.

    FILES are CSV (also .gz, .zst) or Parquet tables in order of time, or bodies that were posted: .json, .jsonl and
    .ndjson with one body after another, .bin with binary envelopes. Nothing of a running daemon is touched, and nobody
    is told.
    """
    from detectors.types import DetectorError
    from monitor.operations import OperationError
    from monitor.replay import ReplayOptions
    from monitor.replay import replay as run
    from monitor.replay_files import ReplayError, TableFormat, is_bodies
    from storage.errors import StorageError

    if time is None and not all(is_bodies(path) for path in files):
        raise click.UsageError("--time is missing: which column says when each row happened?")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"--keep {keep}: the directory is not empty")
    baseline, calibration = _baseline(session, model, version, baseline_file)
    options = ReplayOptions(
        model=model,
        version=version,
        files=files,
        table=TableFormat(
            time=time, delimiter="\t" if delimiter == "\\t" else delimiter, missing=tuple(missing)
        ),
        calibration=calibration,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="driftd-replay-") as scratch:
            done = run(session.config(), baseline, options, keep or Path(scratch))
    except (ReplayError, OperationError, StorageError, DetectorError) as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        print_json(_plain(asdict(done)))
        return
    _show(done)


def _baseline(
    session: Session, model: str, version: str, path: Path | None
) -> "tuple[Baseline, bytes | None]":
    """The version's baseline and what its training taught; of a file the first alone."""
    from detectors.codec import decode_baseline
    from detectors.types import DetectorError

    if path is not None:
        try:
            return decode_baseline(path.read_bytes()), None
        except (OSError, DetectorError) as error:
            raise CommandFailed(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    at = f"/v1/models/{quote(model, safe='')}/versions/{quote(version, safe='')}/baseline"
    with open_backend(session) as backend:
        blob = backend.get(at)
        taught = backend.call("GET", f"{at}/calibration")
        calibration = None if taught.status == 404 else backend.expect(taught)
    return decode_baseline(blob), calibration


def _show(done: "Replayed") -> None:
    for warning in done.warnings:
        click.echo(f"warning: {warning}", err=True)
    if done.alerts:
        print_table(
            ("ALERT", "KIND", "SEVERITY", "SEGMENT", "ACTIVE SINCE", "FIRED", "RESOLVED"),
            [
                (
                    alert.title,
                    words(alert.kind),
                    alert.severity,
                    alert.segment,
                    _minute(alert.active_since),
                    _minute(alert.firing_since),
                    _minute(alert.resolved_at),
                )
                for alert in done.alerts
            ],
        )
    fired = sum(alert.firing_since is not None for alert in done.alerts)
    more = "".join(
        f", {count} {what}"
        for count, what in ((done.rejected, "refused"), (done.skipped, "of other versions left out"))
        if count
    )
    click.echo(
        f"{done.accepted} rows of {_minute(done.first)} to {_minute(done.last)} UTC{more}; {done.boundaries} boundaries "
        f"evaluated on baseline {done.fingerprint[:12]}: {fired or 'no'} {'alert' if fired == 1 else 'alerts'} "
        "would have fired"
    )


def _minute(at: datetime | None) -> str:
    return minute(None if at is None else at.isoformat())


def _plain(value: Any) -> Any:
    """Values as JSON has them; times in RFC 3339."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
