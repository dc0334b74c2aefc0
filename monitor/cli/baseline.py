"""`driftd baseline build`, `show`, `list` and `accept`."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitor.cli.backend import open_backend
from monitor.cli.from_traffic import build_from_traffic, refuse_options_of_files
from monitor.cli.ports import OperationError, StoredBaseline, baseline_operations
from monitor.cli.running import CommandFailed, Session, print_json, print_table
from monitor.cli.showing import minute, user

if TYPE_CHECKING:
    from detectors.types import ColumnType
    from monitor.config import Config
    from monitor.training import BuildResult, LearningOptions, TrainingOptions


@click.group()
def baseline() -> None:
    """Build, show and list baselines: profiles of the training data that production is compared with."""


def _pairs(what: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, str]]:
    def split(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not equals or not name or not value:
                raise click.BadParameter(f"{text!r} is not {what}")
            if name in pairs:
                raise click.BadParameter(f"{name!r} is given twice")
            pairs[name] = value
        return pairs

    return split


@baseline.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--model", required=True, help="The model's name.")
@click.option("--version", help="The model version. Default: the artefact's own.")
@click.option(
    "--artefact",
    "--artifact",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The model's ONNX file: gives dtypes and column order, and is run for predictions.",
)
@click.option("--prediction", metavar="COLUMN", help="The column with the model's predictions.")
@click.option("--confidence", metavar="COLUMN", help="The column with their confidence, 0 to 1.")
@click.option("--include", multiple=True, metavar="COLUMN", help="Watch only these features. Repeatable.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Leave a column out. Repeatable.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="COLUMN=TYPE",
    callback=_pairs("COLUMN=TYPE"),
    help="numeric, categorical, boolean or text, where it is not what it looks like.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="[COLUMN=]DTYPE",
    help="The model's dtype, such as float32: of one column, or of all numeric features.",
)
@click.option(
    "--tensor",
    "tensors",
    multiple=True,
    metavar="NAME=COLUMN,…",
    callback=_pairs("NAME=COLUMN,COLUMN,…"),
    help="The columns of an (N, F) input tensor, in order.",
)
@click.option(
    "--time",
    metavar="COLUMN",
    help="When each row happened, RFC 3339: how columns move by nature is learned from it. No feature.",
)
@click.option("--missing", multiple=True, metavar="WORD", help="One more word for a missing value.")
@click.option("--delimiter", default=",", show_default=True, help="Between the values of a CSV file.")
@click.option("--pane", metavar="DURATION", help="The length of a pane. Default: the configuration's.")
@click.option(
    "--from-traffic", is_flag=True, help="Build it from the version's retained rows, not from FILES."
)
@click.option("--from", "start", metavar="TIME", help="Where the traffic begins, RFC 3339.")
@click.option("--to", "end", metavar="TIME", help="Where it ends; not included.")
@click.option("--dry-run", is_flag=True, help="Build and report, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def build(
    session: Session,
    files: tuple[Path, ...],
    model: str,
    version: str | None,
    artefact: Path | None,
    prediction: str | None,
    confidence: str | None,
    include: tuple[str, ...],
    ignore: tuple[str, ...],
    types: Mapping[str, str],
    dtypes: tuple[str, ...],
    tensors: Mapping[str, str],
    time: str | None,
    missing: tuple[str, ...],
    delimiter: str,
    pane: str | None,
    from_traffic: bool,
    start: str | None,
    end: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build the baseline of a model version from training data: FILES are CSV (also .gz, .zst) or Parquet.

    A "" in --tensor skips a position: --tensor x=age,,income

    With --from-traffic it is built from the version's own rows of --from to --to, as far as they are kept.
    """
    if from_traffic:
        refuse_options_of_files(
            {
                "FILES": files,
                "--artefact": artefact,
                "--prediction": prediction,
                "--confidence": confidence,
                "--dtype": dtypes,
                "--tensor": tensors,
                "--time": time,
                "--missing": missing,
            }
        )
        body = {
            "from": start,
            "to": end,
            "include": include,
            "ignore": ignore,
            "types": {column: kind.value for column, kind in _types(types).items()},
            "pane_seconds": None if pane is None else _pane_seconds(session.config(), model, pane),
            "dry_run": dry_run,
        }
        build_from_traffic(session, model=model, version=version, body=body, as_json=as_json)
        return
    if not files:
        raise click.UsageError("give FILES of training data, or --from-traffic with --from and --to")
    if start is not None or end is not None:
        raise click.UsageError("--from and --to choose a span of the traffic; add --from-traffic")
    from monitor.training import TrainingError, TrainingOptions
    from monitor.training import build as build_baseline

    config = session.config()
    general, by_column = _dtypes(dtypes)
    pane_seconds = _pane_seconds(config, model, pane)
    options = TrainingOptions(
        model=model,
        version=version,
        files=files,
        artefact=artefact,
        prediction=prediction,
        confidence=confidence,
        include=include,
        ignore=ignore,
        types=_types(types),
        dtype=general,
        dtypes=by_column,
        tensors={name: tuple(column.strip() for column in text.split(",")) for name, text in tensors.items()},
        missing=missing,
        delimiter="\t" if delimiter == "\\t" else delimiter,
        pane_seconds=pane_seconds,
        learning=None if time is None else _learning(config, model, time, pane_seconds),
    )
    try:
        with _progress(options) as progress:
            result = build_baseline(options, progress)
    except TrainingError as error:
        raise CommandFailed(str(error)) from None
    if result.version is None:
        raise click.UsageError("--version is missing, and no artefact says which version this is")
    if not dry_run:
        try:
            baseline_operations().register_baseline(
                config, model=model, version=result.version, result=result
            )
        except OperationError as error:
            raise CommandFailed(str(error)) from None
    if time is not None and not config.settings(model).learning:
        unused = f"learning = false for {model}: what --time teaches is stored, but not judged by"
        result = replace(result, warnings=(*result.warnings, unused))
    _report(result, as_json, stored=not dry_run)


def _types(given: Mapping[str, str]) -> "dict[str, ColumnType]":
    from detectors.types import ColumnType

    known = [kind.value for kind in ColumnType]
    for column, kind in given.items():
        if kind not in known:
            raise click.UsageError(f"--type {column}={kind}: the types are {', '.join(known)}")
    return {column: ColumnType(kind) for column, kind in given.items()}


def _dtypes(given: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    from detectors.columns import NUMERIC_DTYPES

    general: str | None = None
    by_column: dict[str, str] = {}
    for text in given:
        column, equals, dtype = text.rpartition("=")
        if dtype not in NUMERIC_DTYPES:
            raise click.UsageError(f"--dtype {text}: the dtypes are {', '.join(sorted(NUMERIC_DTYPES))}")
        if equals:
            by_column[column] = dtype
        elif general not in (None, dtype):
            raise click.UsageError(f"--dtype {general} and --dtype {dtype} contradict each other")
        else:
            general = dtype
    return general, by_column


def _pane_seconds(config: "Config", model: str, pane: str | None) -> int:
    from monitor.config_schema import pane_fits
    from monitor.quantities import parse_duration

    if pane is None:
        return int(config.settings(model).pane.total_seconds())
    try:
        seconds = parse_duration(pane) / timedelta(seconds=1)
    except ValueError as error:
        raise click.UsageError(f"--pane: {error}") from None
    if not pane_fits(seconds):
        raise click.UsageError("--pane: whole seconds that divide an hour, or whole hours that divide a day")
    return int(seconds)


def _learning(config: "Config", model: str, time: str, pane_seconds: int) -> "LearningOptions":
    """What the daemon judges the model by."""
    from monitor.training import LearningOptions

    settings = config.settings(model)
    block = int(settings.evidence_block.total_seconds())
    return LearningOptions(
        time=time,
        windows=tuple(int(window.total_seconds()) for window in settings.windows),
        block_seconds=max(block // pane_seconds, 1) * pane_seconds,
        false_pages_per_year=settings.false_pages_per_year,
        weights=settings.weights,
        ignored=frozenset(settings.ignore),
    )


@contextmanager
def _progress(options: "TrainingOptions") -> "Iterator[Callable[[Path, int], None] | None]":
    """A line of progress on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"reading {options.files[0].name}") as status:
        yield lambda path, rows: status.update(f"{path.name}: {rows:,} rows")


def _report(result: "BuildResult", as_json: bool, *, stored: bool) -> None:
    profile = result.baseline.profile
    taught = _taught(result)
    if as_json:
        print_json(
            {
                "model": result.model,
                "version": result.version,
                "fingerprint": result.baseline.fingerprint,
                "stored": stored,
                "rows": profile.rows,
                "artefact_sha256": result.artefact_sha256,
                "warnings": list(result.warnings),
                "columns": [
                    {
                        "name": column.name,
                        "role": column.role.value,
                        "type": column.type.value,
                        "dtype": column.dtype,
                        "source": column.source,
                        "missing": column.missing,
                    }
                    | (
                        {"learning": taught[column.name][0], "block_seconds": taught[column.name][1]}
                        if taught
                        else {}
                    )
                    for column in result.columns
                ],
            }
        )
        return
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    print_table(
        ("COLUMN", "ROLE", "TYPE", "DTYPE", "MISSING", *(("LEARNING", "BLOCK") if taught else ())),
        [
            (
                *(c.name, c.role.value, c.type.value, c.dtype, str(c.missing)),
                *((taught[c.name][0], _length(taught[c.name][1])) if taught else ()),
            )
            for c in result.columns
        ],
    )
    done = "stored" if stored else "built, not stored"
    click.echo(
        f"{done}: baseline {result.baseline.fingerprint[:12]} of {result.model} {result.version}, {profile.rows} rows"
    )


def _taught(result: "BuildResult") -> dict[str, tuple[str, int]]:
    """Per column its state and block length in seconds; empty where the rows have no time."""
    found = result.calibration
    if found is None:
        return {}
    names = [column.name for column in result.baseline.columns]
    states = [state.value for state in found.states]
    return dict(zip(names, zip(states, found.block_seconds.tolist(), strict=True), strict=True))


def _length(seconds: int) -> str:
    from monitor.quantities import format_duration

    return format_duration(timedelta(seconds=seconds))


@baseline.command()
@click.argument("model")
@click.option("--version", help="The model version. Default: the one registered last.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(session: Session, model: str, version: str | None, as_json: bool) -> None:
    """Show the columns of MODEL's baseline: types, rows, missing, cut points, quantiles, categories."""
    from monitor.cli.describing import describe

    try:
        stored, found = baseline_operations().load_baseline(session.config(), model=model, version=version)
    except OperationError as error:
        raise CommandFailed(str(error)) from None
    columns = describe(found)
    if as_json:
        print_json(
            {**_stored(stored), "pane_seconds": found.pane_seconds, "columns": [c.as_json() for c in columns]}
        )
        return
    click.echo(f"{stored.model} {stored.version}: {stored.source}, baseline {stored.fingerprint[:12]}")
    print_table(
        ("COLUMN", "ROLE", "TYPE", "DTYPE", "ROWS", "MISSING", "CUTS", "MIN", "MEDIAN", "MAX", "CATEGORIES"),
        [column.as_row() for column in columns],
    )


@baseline.command("list")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, model: str | None, as_json: bool) -> None:
    """List the baselines of all models, or of MODEL, newest first."""
    try:
        found = baseline_operations().list_baselines(session.config(), model=model)
    except OperationError as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        print_json([_stored(stored) for stored in found])
        return
    print_table(
        ("MODEL", "VERSION", "BASELINE", "ROWS", "CREATED", "CURRENT", "COUNTED AGAIN", "SOURCE"),
        [
            (
                s.model,
                s.version,
                s.fingerprint[:12],
                str(s.rows),
                _time(s),
                "yes" if s.current else "",
                _counted_again(s),
                s.source,
            )
            for s in found
        ],
    )


@baseline.command()
@click.argument("alert", type=click.IntRange(min=1))
@click.option("--comment", default="", help="Why this is normal.")
@click.option("--author", default=user, help="Who you are. Default: $USER.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def accept(session: Session, alert: int, comment: str, author: str, as_json: bool) -> None:
    """Say that what moved is normal now: the traffic of ALERT's window becomes the baseline, and it is resolved."""
    with open_backend(session) as backend:
        done = backend.expect(
            backend.call(
                "POST", f"/v1/alerts/{alert}/accept", json_body={"comment": comment, "author": author}
            )
        )
    if as_json:
        print_json(done)
        return
    click.echo(
        f"baseline {done['fingerprint'][:12]} of {done['model']} {done['version']}: {done['rows']} rows of "
        f"{minute(done['start'])} to {minute(done['end'])} UTC; resolved: {', '.join(map(str, done['resolved']))}"
    )


def _time(stored: StoredBaseline) -> str:
    return stored.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _counted_again(stored: StoredBaseline) -> str:
    """Which retained rows were folded onto it: how many, since when, and how complete they are."""
    found = stored.refold
    if found is None:
        return ""
    if found["start"] is None:
        return "no rows kept" if found["finished"] else "waits" if stored.current else ""
    share = "" if found["kept_share"] in (None, 1.0) else f", {found['kept_share']:.0%} kept"
    under_way = "" if found["finished"] else ", under way" if stored.current else ", left off"
    return f"{found['rows']} rows, {minute(found['start'])} to {minute(found['end'])}{share}{under_way}"


def _stored(stored: StoredBaseline) -> dict[str, object]:
    return {
        "model": stored.model,
        "version": stored.version,
        "fingerprint": stored.fingerprint,
        "source": stored.source,
        "rows": stored.rows,
        "created_at": _time(stored),
        "current": stored.current,
        "refold": stored.refold,
    }
