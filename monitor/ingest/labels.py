"""Labels as they are posted: what predictions should have been, by the ids of their requests.

The bodies are those of predictions, columnar JSON (`ids`, `columns`, `ts`) or tensors (`driftd.id`, `driftd.ts`), whose
columns are the labels of the prediction columns of their names. `ts` is when a label became known, which of two
labels of one prediction decides: the later one stays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.profile import Baseline, CategoricalColumn, Column
from detectors.types import ColumnRole, ColumnType, IntArray
from monitor.ingest.accept import corrected_times, time_pointer
from monitor.ingest.batch import Tensor
from monitor.ingest.cells import cells_tensor
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import Decoded, Faults
from monitor.ingest.envelope import Opened, check_name
from monitor.ingest.errors import Issue, unprocessable
from monitor.ingest.frame import canonical_texts, locate
from monitor.ingest.times import refusal
from storage.labels import Label

ID_LENGTH: Final = 200
VALUE_LENGTH: Final = 1000
LABELS: Final = 500_000
"""The most in one body: each is an object of its own from here to the disk."""
_INT64_MIN: Final = int(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedLabels:
    """The outcome for one body of labels: those to store, rows accepted and rejected, at most 100 issues."""

    id: str | None
    labels: tuple[Label, ...]
    accepted: int
    rejected: int
    errors: tuple[Issue, ...] = ()
    warnings: tuple[Issue, ...] = ()


def prediction_columns(baseline: Baseline) -> dict[str, Column]:
    """The columns of a baseline that can be labelled, by name."""
    return {c.name: c for c in baseline.columns if c.role is ColumnRole.PREDICTION}


def is_number(column: Column) -> bool:
    """Whether being near counts: a number, rather than a category, a truth value or a text."""
    return not isinstance(column, CategoricalColumn) and column.type is ColumnType.NUMERIC


def is_measured(column: Column) -> bool:
    """Whether only being near counts: a number with decimals, which hardly ever equals its label; whole ones may be classes."""
    return is_number(column) and column.dtype.startswith("float")


def labelled_column(baseline: Baseline, name: str) -> str | None:
    """The prediction column that a name means, as `locate` finds the tensors of predictions; None where it means none, or
    (the name of their role) several.
    """
    predictions = prediction_columns(baseline)
    if name in predictions:
        return name
    tensors = {name: Tensor(name=name, datatype="BYTES", shape=(1,), data=b"")}
    found = predictions.keys() & locate(baseline, tensors).keys()
    return found.pop() if len(found) == 1 else None


def accept_labels(
    opened: Opened, baselines: Sequence[Baseline], *, now_ns: int, future_ns: int, sent_ns: int | None = None
) -> AcceptedLabels:
    """Keep the rows that have a request id and a label that its column can have; IngestError where there can be none.

    `baselines` are those of the model's versions: a name that is a prediction column of none is refused, unless there is
    no baseline yet. `future_ns` is how far ahead a label may become known. `sent_ns`: see `accept`.
    """
    if opened.style == "rows":
        raise unprocessable("/rows", 'labels come as "ids" with "columns", or as tensors with "driftd.id"')
    decoded = decode_body(opened, None)
    if decoded.row_ids is None:
        place = "/ids" if opened.style == "columns" else "/inputs"
        raise unprocessable(place, "labels need the ids of their requests, one per row")
    faults = decoded.faults
    ids = _request_ids(decoded, faults)
    found = _tensors(decoded, opened)
    if len(found) * decoded.rows > LABELS:
        raise unprocessable(
            "", f"a body holds at most {LABELS} labels, not {len(found) * decoded.rows}; send several"
        )
    columns = [
        _texts(tensor, pointer, _meant(tensor.name, pointer, baselines), faults) for tensor, pointer in found
    ]
    times, warnings = corrected_times(decoded, now_ns, sent_ns)
    for row in np.flatnonzero(times > now_ns + future_ns).tolist():
        detail = refusal(int(times[row]), now_ns, (_INT64_MIN, now_ns + future_ns))
        faults.reject(row, time_pointer(decoded, row), detail)
    for row in np.flatnonzero(faults.good).tolist():
        if all(values[row] is None for _, values in columns):
            faults.reject(row, "", f"row {row} has no label; send it once it is known")
    return AcceptedLabels(
        id=opened.id,
        labels=tuple(_labels(ids, columns, times, faults)),
        accepted=decoded.rows - faults.rejected,
        rejected=faults.rejected,
        errors=tuple(faults.issues),
        warnings=warnings,
    )


def _request_ids(decoded: Decoded, faults: Faults) -> list[str]:
    assert decoded.row_ids is not None
    ids = [text or "" for text in decoded.row_ids.texts()]
    for row, given in enumerate(ids):
        if not 0 < len(given) <= ID_LENGTH and not faults.is_bad(row):
            faults.reject(
                row, f"/ids/{row}", f"a request id has 1 to {ID_LENGTH} characters, not {len(given)}"
            )
    return ids


def _tensors(decoded: Decoded, opened: Opened) -> list[tuple[Tensor, str]]:
    """The labels, a tensor per name, and where its values stand."""
    if decoded.style == "tensors":
        pointers = [f"{pointer}/data" for pointer in decoded.tensor_pointers]
        found = list(zip(decoded.tensors, pointers, strict=True))
    else:
        found = [
            (cells_tensor(cells, None, decoded.faults), cells.place.prefix.removesuffix("/"))
            for cells in decoded.cells
        ]
    if not found:
        raise unprocessable("", "the body holds no label")
    for tensor, pointer in found:
        check_name(tensor.name, pointer, opened.limits)
        if tensor.width != 1:
            raise unprocessable(
                pointer.removesuffix("/data") + "/shape",
                f"{tensor.name!r} has {tensor.width} values per row; a label is one",
            )
    return found


def _meant(name: str, pointer: str, baselines: Sequence[Baseline]) -> list[Column]:
    """The prediction columns that a name means, over the model's versions."""
    found = [
        prediction_columns(baseline)[column]
        for baseline in baselines
        if (column := labelled_column(baseline, name)) is not None
    ]
    if baselines and not found:
        known = sorted({column for baseline in baselines for column in prediction_columns(baseline)})
        there = f"they are {', '.join(map(repr, known))}" if known else "there is none in its baselines"
        raise unprocessable(pointer, f"{name!r} is no prediction column of this model; {there}")
    return found


def _texts(
    tensor: Tensor, pointer: str, columns: Sequence[Column], faults: Faults
) -> tuple[str, list[str | None]]:
    """A name and its labels [N] as text, None where there is none; what no version's column can have rejects its row."""
    values: list[str | None] = (
        [text or None for text in tensor.texts()]
        if tensor.datatype == "BYTES"
        else canonical_texts(tensor.name, tensor.array()[:, 0]).tolist()
    )
    numbers_only = bool(columns) and not any(_takes_text(column) for column in columns)
    for row, value in enumerate(values):
        if value is None or faults.is_bad(row):
            continue
        if len(value) > VALUE_LENGTH:
            faults.reject(row, f"{pointer}/{row}", f"a label has at most {VALUE_LENGTH} characters")
        elif "\x00" in value:
            faults.reject(row, f"{pointer}/{row}", "the text holds a NUL; send text without")
        elif numbers_only and number_of(value) is None:
            faults.reject(row, f"{pointer}/{row}", f"{tensor.name!r} is a number, not {value[:40]!r}")
    return tensor.name, values


def _takes_text(column: Column) -> bool:
    return isinstance(column, CategoricalColumn) or column.type is ColumnType.TEXT


_TRUTH: Final[Mapping[str, float]] = {"true": 1.0, "false": 0.0}


def number_of(text: str) -> float | None:
    """The finite number that a label is, None where it is none; true and false are 1 and 0."""
    try:
        number = _TRUTH[text] if text in _TRUTH else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _labels(
    ids: Sequence[str], columns: Sequence[tuple[str, list[Any]]], times: IntArray, faults: Faults
) -> list[Label]:
    good = np.flatnonzero(faults.good).tolist()
    return [
        Label(request_id=ids[row], column=name, value=values[row], at_ns=int(times[row]))
        for name, values in columns
        for row in good
        if values[row] is not None
    ]
