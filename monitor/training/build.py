"""From training files to a baseline: read in chunks, collect on disk, decide, count."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.columns import MIN_ROWS
from detectors.profile import Baseline, ColumnData, ConfidenceRule, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType, DetectorError
from monitor.training.artefact import Artefact, oip_datatype
from monitor.training.deciding import Decided, decide
from monitor.training.learning import learned
from monitor.training.options import (
    CONFIDENCE,
    PREDICTION,
    BuildResult,
    ColumnSummary,
    Progress,
    TrainingError,
    TrainingOptions,
)
from monitor.training.plan import Plan, Wanted, make_plan
from monitor.training.reading import Cells, Chunk, read_chunks
from monitor.training.spool import Spool, closing
from monitor.training.times import TimeSpool

AnyArray = npt.NDArray[Any]
_FEW_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Collected:
    """A column read to its end, and where it came from."""

    wanted: Wanted
    spool: Spool


def build(options: TrainingOptions, progress: Progress | None = None) -> BuildResult:
    """The baseline of training files, which may be larger than memory: they are spilled to disk by column.

    Memory is one chunk, one column of numbers, and 8 bytes a row for each column of categories; see
    `monitor.training.learning` for what learning adds. Raises TrainingError, naming file, row and column.
    """
    artefact = None if options.artefact is None else Artefact(options.artefact, options.tensors)
    plan = make_plan(options, artefact)
    # Spill files are as large as the numbers of the training data, and /tmp may be memory: TMPDIR moves them.
    with tempfile.TemporaryDirectory(prefix="driftd-training-", dir=options.spill_directory) as directory:
        collected = _collectors(plan, artefact, options, Path(directory))
        times = None if options.time is None else TimeSpool(options.time, Path(directory))
        with closing([c.spool for c in collected] + ([] if times is None else [times])):
            starts = _read(options, plan, artefact, collected, times, progress)
            decided = [_decided(c, starts) for c in collected]
            rows = collected[0].spool.rows
            baseline = _count(options, artefact, decided, collected)
            calibration = None
            if times is not None and options.learning is not None:
                calibration = learned(options.learning, baseline, [d.data for d in decided], times.values())
    return BuildResult(
        baseline=baseline,
        model=options.model,
        version=options.version or (artefact.version if artefact else None),
        artefact_sha256=artefact.sha256 if artefact else None,
        artefact_metadata=artefact.metadata if artefact else {},
        warnings=_warnings(options, plan, artefact, decided, rows),
        columns=tuple(_summary(c, d, baseline) for c, d in zip(collected, decided, strict=True)),
        calibration=calibration,
    )


def _collectors(
    plan: Plan, artefact: Artefact | None, options: TrainingOptions, directory: Path
) -> list[_Collected]:
    wanted = list(plan.wanted)
    if artefact is not None and plan.predicts:
        declared = options.types.get(PREDICTION)
        if artefact.probabilities is not None:
            declared = declared or ColumnType.CATEGORICAL  # labels, be they numbers
        wanted.append(
            Wanted(source=artefact.label.name, name=PREDICTION, role=ColumnRole.PREDICTION, declared=declared)
        )
    if artefact is not None and plan.rates:
        wanted.append(
            Wanted(
                source=artefact.probabilities.name,
                name=CONFIDENCE,
                role=ColumnRole.CONFIDENCE,
                declared=ColumnType.NUMERIC,
            )
        )
    return [
        _Collected(
            wanted=column,
            spool=Spool(
                column.source,
                directory,
                number,
                declared=column.declared,
                words_only=column.words_only,
                missing=options.missing,
            ),
        )
        for number, column in enumerate(wanted)
    ]


def _read(
    options: TrainingOptions,
    plan: Plan,
    artefact: Artefact | None,
    collected: Sequence[_Collected],
    times: TimeSpool | None,
    progress: Progress | None,
) -> list[tuple[int, Path]]:
    """Spill every chunk; returns where each file starts among all rows."""
    names = [wanted.source for wanted in plan.wanted]
    rows_per_chunk = max(1_000, options.cells_per_chunk // max(len(names), 1))
    starts: list[tuple[int, Path]] = []
    rows = 0
    for path in options.files:
        starts.append((rows, path))
        for chunk in read_chunks(path, names, options.delimiter, rows_per_chunk, time=options.time):
            if times is not None:
                times.add(chunk.columns[times.name], _place(chunk))
            read = {
                column.wanted.source: column.spool.add(chunk.columns[column.wanted.source], _place(chunk))
                for column in collected[: len(names)]
            }
            if artefact is not None and (plan.predicts or plan.rates):
                _predict(artefact, chunk, read, {c.wanted.name: c.spool for c in collected[len(names) :]})
            rows += chunk.rows
            if progress is not None:
                progress(path, rows)
    if rows < MIN_ROWS:
        raise TrainingError(
            f"{', '.join(map(str, options.files))}: {rows} rows; a baseline needs at least {MIN_ROWS}, better 1000"
        )
    return starts


def _place(chunk: Chunk) -> Callable[[int], str]:
    return lambda row: f"{chunk.path}, row {chunk.first_row + row}"


def _predict(
    artefact: Artefact, chunk: Chunk, read: Mapping[str, AnyArray], spools: Mapping[str, Spool]
) -> None:
    at = f"{chunk.path}, rows {chunk.first_row} to {chunk.first_row + chunk.rows - 1}"
    prediction, confidence = artefact.run(read, at)
    for name, values in ((PREDICTION, prediction), (CONFIDENCE, confidence)):
        if name not in spools or values is None:
            continue
        if values.shape[0] != chunk.rows:
            raise TrainingError(f"{at}: the model answers {values.shape[0]} rows to {chunk.rows}")
        spools[name].add(Cells(values=values), _place(chunk))


def _decided(column: _Collected, starts: Sequence[tuple[int, Path]]) -> Decided:
    def at(row: int) -> str:
        start, path = next(item for item in reversed(starts) if item[0] <= row)
        return f"{path}, row {row - start + 1}"

    wanted = column.wanted
    return decide(column.spool, wanted.name, wanted.role, wanted.dtype, at)


def _count(
    options: TrainingOptions,
    artefact: Artefact | None,
    decided: Sequence[Decided],
    collected: Sequence[_Collected],
) -> Baseline:
    data = [d.data for d in decided]
    if artefact is not None:
        tensors, rule = artefact.tensor_maps(), artefact.rule
        held = {column.name for column in data}
        tensors = tuple(t for t in tensors if t.kind == "input" or set(t.columns) <= held)
        tensors = tuple(_known_only(t, held) for t in tensors)
    else:
        tensors, rule = _declared_tensors(options, data), None
    if rule is None and any(column.role is ColumnRole.CONFIDENCE for column in data):
        rule = ConfidenceRule(kind="given", tensor=None)
    renamed = [
        TensorMap(
            name=c.wanted.source,
            datatype=oip_datatype(d.data.dtype if d.data.type is not ColumnType.TEXT else "string"),
            kind="output",
            columns=(c.wanted.name,),
        )
        for c, d in zip(collected, decided, strict=True)
        if c.wanted.role is not ColumnRole.FEATURE
        and c.wanted.source != c.wanted.name
        and c.wanted.source in (options.prediction, options.confidence)
    ]
    taken = {tensor.name for tensor in tensors}
    tensors = (*tensors, *(tensor for tensor in renamed if tensor.name not in taken))
    source = ", ".join(path.name for path in options.files)
    try:
        return build_baseline(data, options.pane_seconds, tensors, rule, source)
    except DetectorError as error:
        raise TrainingError(str(error)) from error


def _known_only(tensor: TensorMap, held: set[str]) -> TensorMap:
    columns = tuple(name if name in held else "" for name in tensor.columns)
    return TensorMap(name=tensor.name, datatype=tensor.datatype, kind=tensor.kind, columns=columns)


def _declared_tensors(options: TrainingOptions, data: Sequence[ColumnData]) -> tuple[TensorMap, ...]:
    """Tensors named by the user: the dtype of one is what holds all of its columns."""
    by_name = {column.name: column for column in data}
    maps = []
    for tensor, names in options.tensors.items():
        lacking = [name for name in names if name and name not in by_name]
        if lacking:
            raise TrainingError(f"--tensor {tensor}: {lacking[0]!r} is no column of the baseline")
        columns = [by_name[name] for name in names if name]
        words = [column.type in (ColumnType.TEXT, ColumnType.CATEGORICAL) for column in columns]
        if any(words) and not all(words):
            raise TrainingError(f"--tensor {tensor}: text and numbers cannot share a tensor")
        dtype = "string" if any(words) else np.result_type(*(np.dtype(c.dtype) for c in columns)).name
        maps.append(TensorMap(name=tensor, datatype=oip_datatype(dtype), kind="input", columns=names))
    return tuple(maps)


def _warnings(
    options: TrainingOptions, plan: Plan, artefact: Artefact | None, decided: Sequence[Decided], rows: int
) -> tuple[str, ...]:
    found = []
    if rows < _FEW_ROWS:
        found.append(
            f"{rows} rows are few: the smallest shift that can be told from chance is large; give 1000 or more"
        )
    if plan.left_out:
        found.append(f"no inputs of the model, so left out: {', '.join(plan.left_out)}")
    if artefact is not None and options.prediction is None and not plan.predicts:
        found.append("the model has no output that is a label or a number, so its prediction is not watched")
    return (*found, *(warning for column in decided for warning in column.warnings))


def _summary(column: _Collected, decided: Decided, baseline: Baseline) -> ColumnSummary:
    data = decided.data
    position = baseline.layout.positions[data.name]
    return ColumnSummary(
        name=data.name,
        role=data.role,
        type=data.type,
        dtype=data.dtype,
        source=column.wanted.source,
        missing=int(baseline.profile.counts[baseline.layout.missing[position]]),
    )
