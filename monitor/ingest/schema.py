"""Does a batch fit the baseline of its model version? Columns found, types right, cut points representable."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from detectors.profile import Baseline, CategoricalColumn, Column, can_represent
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.batch import NUMPY_NAMES, Tensor
from monitor.ingest.cells import cells_tensor
from monitor.ingest.decoded import Decoded, Style
from monitor.ingest.errors import Issue, UnprocessableError, pointer_token, unprocessable
from monitor.ingest.frame import Source, confidence_tensor, locate
from monitor.ingest.oip import check_text_elements

_MAX_WARNINGS = 100
_OF_TENSORS = ("tensors", "arrow")
_REMEMBERED_TENSORS = 64

_Shapes = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, datatype and the shape of one row, per tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionHandle:
    """What ingest knows of a model version; `baseline` is None while it is PENDING_BASELINE."""

    version_id: int
    version: str
    baseline: Baseline | None
    baseline_id: int | None = None
    stage: str = "production"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelHandle:
    """What ingest knows of a model: its versions by their names."""

    model_id: int
    name: str
    versions: Mapping[str, VersionHandle]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The tensors of all rows (bad ones included, they are in the batch's faults), and what was odd about them."""

    tensors: tuple[Tensor, ...]
    warnings: tuple[Issue, ...]


def fit(decoded: Decoded, baseline: Baseline | None) -> Fitted:
    """Check every column against the baseline, adding to `decoded.faults` the rows it rejects.

    UnprocessableError (422) where the batch as a whole cannot be used: a feature missing from a columnar or OIP
    body, a tensor of the wrong width or datatype, a datatype in which the baseline's cut points do not exist.
    """
    if decoded.style in _OF_TENSORS:
        tensors = decoded.tensors
    else:
        by_cell = {cells.name: _column_of(cells.name, baseline) for cells in decoded.cells}
        tensors = tuple(cells_tensor(cells, by_cell[cells.name], decoded.faults) for cells in decoded.cells)
    if not tensors:
        raise unprocessable("", "the batch holds no column")
    if baseline is None:
        return Fitted(tensors=tensors, warnings=())
    fitting = _fitting_of(
        baseline,
        decoded.style,
        tuple((tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in tensors),
        _pointers(decoded),
        decoded.parameters.get("baseline_fingerprint"),
    )
    for position in fitting.texts:
        check_text_elements(tensors[position], decoded.tensor_pointers[position], decoded.faults)
    return Fitted(tensors=tensors, warnings=fitting.warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitting:
    """What follows from names, datatypes and shapes alone: warnings, and the tensors whose text has to be looked at."""

    warnings: tuple[Issue, ...]
    texts: tuple[int, ...]


def _fitting_of(
    baseline: Baseline, style: Style, shapes: _Shapes, pointers: tuple[str, ...], fingerprint: Any
) -> _Fitting:
    """A sender's batches look alike: the answer for their shapes is remembered, unless they are too many to keep."""
    if len(shapes) > _REMEMBERED_TENSORS or not isinstance(fingerprint, str | None):
        return _fitting(baseline, style, shapes, pointers, fingerprint)
    return _remembered(baseline, style, shapes, pointers, fingerprint)


def _fitting(
    baseline: Baseline, style: Style, shapes: _Shapes, pointers: tuple[str, ...], fingerprint: Any
) -> _Fitting:
    # No row is looked at, so tensors of one row without their data stand for the batch's.
    named = {
        name: Tensor(name=name, datatype=datatype, shape=(1, *shape), data=b"")
        for name, datatype, shape in shapes
    }
    places = dict(zip(named, pointers, strict=True))
    sources = locate(baseline, named)
    texts: set[str] = set()
    if style in _OF_TENSORS:
        texts = _check_tensors(baseline, named, places, sources)
    _check_complete(baseline, style, sources)
    # Arrow text has been looked at, by whole columns.
    checked = texts if style == "tensors" else ()
    return _Fitting(
        warnings=_warnings(baseline, named, places, sources, fingerprint),
        texts=tuple(position for position, name in enumerate(named) if name in checked),
    )


_remembered = lru_cache(maxsize=512)(_fitting)


def _check_complete(baseline: Baseline, style: Style, sources: Mapping[str, Source]) -> None:
    missing = [c for c in baseline.columns if c.role is ColumnRole.FEATURE and c.name not in sources]
    if missing:
        base = {
            "columns": "/columns/",
            "tensors": "/inputs/",
            "rows": "/rows/0/features/",
            "arrow": "/columns/",
        }[style]
        issues = [
            Issue(pointer=base + pointer_token(c.name), detail=f"the column {c.name!r} is missing")
            for c in missing[:_MAX_WARNINGS]
        ]
        raise UnprocessableError(f"the batch lacks {', '.join(repr(c.name) for c in missing[:5])}", issues)


def _column_of(name: str, baseline: Baseline | None) -> Column | None:
    if baseline is None:
        return None
    by_name = {column.name: column for column in baseline.columns}
    if name in by_name:
        return by_name[name]
    if name in ("prediction", "confidence"):
        return next((column for column in baseline.columns if column.role.value == name), None)
    return None


def _check_tensors(
    baseline: Baseline,
    tensors: Mapping[str, Tensor],
    pointers: Mapping[str, str],
    sources: Mapping[str, Source],
) -> set[str]:
    """Refuse wrong widths and datatypes; the BYTES tensors among the sources."""
    for mapped in baseline.tensors:
        tensor = tensors.get(mapped.name)
        if tensor is not None and mapped.columns and tensor.width != len(mapped.columns):
            raise unprocessable(
                f"{pointers[mapped.name]}/shape",
                f"tensor {mapped.name!r} has {tensor.width} values per row, the baseline has {len(mapped.columns)}",
            )
    texts: set[str] = set()
    for column in baseline.columns:
        source = sources.get(column.name)
        if source is None or confidence_tensor(column, baseline.confidence, tensors) is not None:
            continue
        _check_datatype(column, source.tensor, pointers[source.tensor.name])
        if source.tensor.datatype == "BYTES":
            texts.add(source.tensor.name)
    return texts


def _check_datatype(column: Column, tensor: Tensor, pointer: str) -> None:
    at = f"{pointer}/datatype"
    if isinstance(column, CategoricalColumn):
        return
    if column.type is ColumnType.TEXT:
        if tensor.datatype != "BYTES":
            raise unprocessable(at, f"column {column.name!r} is text; send BYTES, not {tensor.datatype}")
        return
    if tensor.datatype == "BYTES":
        raise unprocessable(
            at, f"column {column.name!r} is {column.type.value}; send {_datatype(column.dtype)}, not BYTES"
        )
    dtype = NUMPY_NAMES[tensor.datatype]
    if dtype != column.dtype and not can_represent(column.cuts, dtype):
        raise unprocessable(
            at,
            f"{tensor.datatype} cannot represent every cut point of column {column.name!r}, "
            f"which was trained on {column.dtype}; send {_datatype(column.dtype)}",
        )


def _datatype(dtype: str) -> str:
    return next((name for name, known in NUMPY_NAMES.items() if known == dtype), "FP64")


def _warnings(
    baseline: Baseline,
    tensors: Mapping[str, Tensor],
    places: Mapping[str, str],
    sources: Mapping[str, Source],
    fingerprint: Any,
) -> tuple[Issue, ...]:
    used = {source.tensor.name for source in sources.values()} | {mapped.name for mapped in baseline.tensors}
    rule = baseline.confidence
    if rule is not None and rule.tensor is not None:
        used.add(rule.tensor)
    warnings = [
        Issue(pointer=places[name], detail=f"{name!r} is not in the baseline; kept, not monitored")
        for name in tensors
        if name not in used
    ]
    warnings += [
        Issue(pointer="", detail=f"nothing gives the {c.role.value} column {c.name!r}; it counts as missing")
        for c in baseline.columns
        if c.role is not ColumnRole.FEATURE
        and c.name not in sources
        and confidence_tensor(c, rule, tensors) is None
    ]
    if fingerprint is not None and fingerprint != baseline.fingerprint:
        warnings.append(
            Issue(
                pointer="/parameters/baseline_fingerprint",
                detail="the sender knows another baseline than the one in use",
            )
        )
    return tuple(warnings[:_MAX_WARNINGS])


def _pointers(decoded: Decoded) -> tuple[str, ...]:
    """Where each tensor stands in the body."""
    if decoded.style in _OF_TENSORS:
        return decoded.tensor_pointers
    if decoded.style == "columns":
        return tuple([cells.place.prefix.removesuffix("/") for cells in decoded.cells])
    return tuple([cells.place.at(0) for cells in decoded.cells])
