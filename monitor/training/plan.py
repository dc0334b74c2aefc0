"""Which columns of the files are read, as what; decided from headers and signature before a row is read."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from detectors.types import ColumnRole, ColumnType
from monitor.training.artefact import Artefact
from monitor.training.options import CONFIDENCE, PREDICTION, TrainingError, TrainingOptions
from monitor.training.reading import column_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A column to read: `source` in the files becomes `name` in the baseline.

    `declared` is its type where that is known beforehand, `words_only` that its values are strings whatever
    they look like, `dtype` its numpy dtype where declared.
    """

    source: str
    name: str
    role: ColumnRole
    declared: ColumnType | None = None
    words_only: bool = False
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to read; `predicts` and `rates` say whether the model is run for prediction and for confidence."""

    wanted: tuple[Wanted, ...]
    predicts: bool
    rates: bool
    left_out: tuple[str, ...]


def make_plan(options: TrainingOptions, artefact: Artefact | None) -> Plan:
    """The columns to read of every file; raises TrainingError for names that are not there or not clear."""
    present = _common_columns(options)
    roles = {options.prediction: ColumnRole.PREDICTION, options.confidence: ColumnRole.CONFIDENCE}
    _check_time(options, artefact, present)
    features = _features(options, artefact, present)
    sources = [*features, *(source for source in roles if source is not None)]
    _all_there(options, sources, present)
    wanted = []
    for source in sources:
        role = roles.get(source, ColumnRole.FEATURE)
        name = {ColumnRole.PREDICTION: PREDICTION, ColumnRole.CONFIDENCE: CONFIDENCE}.get(role, source)
        wanted.append(_wanted(options, artefact, source, name, role))
    predicts = options.prediction is None and artefact is not None and artefact.label is not None
    rates = options.confidence is None and artefact is not None and artefact.probabilities is not None
    names = [*(w.name for w in wanted), *([PREDICTION] if predicts else []), *([CONFIDENCE] if rates else [])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrainingError(
            f"a feature is called {twice[0]!r} like the model's own; say --{twice[0]} {twice[0]}, "
            f"leave it out with --ignore {twice[0]}, or rename it"
        )
    left_out = (
        tuple(n for n in present if n not in (*sources, options.time, *options.ignore)) if artefact else ()
    )
    return Plan(wanted=tuple(wanted), predicts=predicts, rates=rates, left_out=left_out)


def _common_columns(options: TrainingOptions) -> tuple[str, ...]:
    if not options.files:
        raise TrainingError("no training file is given")
    first = column_names(options.files[0], options.delimiter)
    for path in options.files[1:]:
        other = column_names(path, options.delimiter)
        lacking = [
            name
            for name in first
            if name not in other and (name == options.time or name not in options.ignore)
        ]
        if lacking:
            raise TrainingError(f"{path}: lacks the column {lacking[0]!r}, which {options.files[0]} has")
    return first


def _check_time(options: TrainingOptions, artefact: Artefact | None, present: Sequence[str]) -> None:
    """The column of times is there, and is nothing else."""
    time = options.time
    if time is None:
        return
    if time not in present:
        raise TrainingError(f"{options.files[0]}: has no column {time!r} for --time{_meant(time, present)}")
    uses = {
        "--prediction": time == options.prediction,
        "--confidence": time == options.confidence,
        "--include": time in options.include,
        "--type": time in options.types,
        "--dtype": time in options.dtypes,
        "--tensor": any(time in columns for columns in options.tensors.values()),
    }
    for use in (name for name, used in uses.items() if used):
        raise TrainingError(f"--time {time}: the column of times is no feature; take it out of {use}")
    if artefact is not None and time in artefact.columns:
        raise TrainingError(
            f"--time {time}: {artefact.path} has an input of that name; give the times a column of their own"
        )


def _features(options: TrainingOptions, artefact: Artefact | None, present: Sequence[str]) -> list[str]:
    outputs = {options.prediction, options.confidence}
    if artefact is not None:
        fed = list(artefact.columns)
        refused = [
            name
            for name in fed
            if name in options.ignore or (options.include and name not in options.include)
        ]
        if refused and (options.prediction is None or options.confidence is None):
            raise TrainingError(
                f"{artefact.path}: the model needs the column {refused[0]!r} to be run; keep it, and put it under "
                "`ignore` in the configuration, or give --prediction and --confidence"
            )
        return [name for name in fed if name not in refused and name not in outputs]
    chosen = options.include or tuple(present)
    features = [
        name for name in chosen if name not in options.ignore and name not in outputs and name != options.time
    ]
    named = [name for columns in options.tensors.values() for name in columns if name]
    return features + [name for name in dict.fromkeys(named) if name not in features and name not in outputs]


def _all_there(options: TrainingOptions, sources: Sequence[str], present: Sequence[str]) -> None:
    asked = [*sources, *options.ignore, *options.types, *options.dtypes]
    for name in asked:
        if name not in present and name not in (PREDICTION, CONFIDENCE):
            raise TrainingError(f"{options.files[0]}: has no column {name!r}{_meant(name, present)}")
    if not any(source in present for source in sources):
        raise TrainingError(f"{options.files[0]}: no column is left to watch")
    for source in (options.prediction, options.confidence):
        if source is not None and source not in present:
            raise TrainingError(f"{options.files[0]}: has no column {source!r}{_meant(source, present)}")


def _meant(name: str, present: Collection[str]) -> str:
    close = difflib.get_close_matches(name, present, n=1)
    return f" (did you mean {close[0]}?)" if close else f"; it has {', '.join(present)}"


def _wanted(
    options: TrainingOptions, artefact: Artefact | None, source: str, name: str, role: ColumnRole
) -> Wanted:
    declared = options.types.get(source, options.types.get(name))
    dtype = options.dtypes.get(source, options.dtypes.get(name))
    words_only = False
    if role is ColumnRole.FEATURE and artefact is not None and source in artefact.columns:
        fed = artefact.columns[source]
        words_only = fed == "string"
        if fed == "bool":
            declared = declared or ColumnType.BOOLEAN
        elif not words_only:
            declared = declared or ColumnType.NUMERIC
            dtype = dtype or fed
    elif role is ColumnRole.FEATURE and declared in (None, ColumnType.NUMERIC):
        dtype = dtype or options.dtype
    if role is ColumnRole.CONFIDENCE:
        declared = declared or ColumnType.NUMERIC
    if dtype is not None and declared is None and source in options.dtypes:
        declared = ColumnType.NUMERIC
    return Wanted(source=source, name=name, role=role, declared=declared, words_only=words_only, dtype=dtype)
