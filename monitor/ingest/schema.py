"""Does a batch fit the baseline of its model version? Columns found, types right, cut points representable."""

from collections.abc import Mapping
from dataclasses import dataclass

from detectors.profile import Baseline, CategoricalColumn, Column, can_represent
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.batch import NUMPY_NAMES, Tensor
from monitor.ingest.cells import cells_tensor
from monitor.ingest.decoded import Decoded
from monitor.ingest.errors import Issue, UnprocessableError, pointer_token, unprocessable
from monitor.ingest.frame import Source, confidence_tensor, locate
from monitor.ingest.oip import check_text_elements

_MAX_WARNINGS = 100
_OF_TENSORS = ("tensors", "arrow")


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
    named = {tensor.name: tensor for tensor in tensors}
    sources = locate(baseline, named)
    if decoded.style in _OF_TENSORS:
        _check_tensors(decoded, baseline, sources)
    missing = [c for c in baseline.columns if c.role is ColumnRole.FEATURE and c.name not in sources]
    if missing:
        base = {
            "columns": "/columns/",
            "tensors": "/inputs/",
            "rows": "/rows/0/features/",
            "arrow": "/columns/",
        }[decoded.style]
        issues = [
            Issue(pointer=base + pointer_token(c.name), detail=f"the column {c.name!r} is missing")
            for c in missing[:_MAX_WARNINGS]
        ]
        raise UnprocessableError(f"the batch lacks {', '.join(repr(c.name) for c in missing[:5])}", issues)
    return Fitted(tensors=tensors, warnings=_warnings(decoded, baseline, named, sources))


def _column_of(name: str, baseline: Baseline | None) -> Column | None:
    if baseline is None:
        return None
    by_name = {column.name: column for column in baseline.columns}
    if name in by_name:
        return by_name[name]
    if name in ("prediction", "confidence"):
        return next((column for column in baseline.columns if column.role.value == name), None)
    return None


def _check_tensors(decoded: Decoded, baseline: Baseline, sources: Mapping[str, Source]) -> None:
    pointers = {tensor.name: at for tensor, at in zip(decoded.tensors, decoded.tensor_pointers, strict=True)}
    tensors = {tensor.name: tensor for tensor in decoded.tensors}
    for mapped in baseline.tensors:
        tensor = tensors.get(mapped.name)
        if tensor is not None and mapped.columns and tensor.width != len(mapped.columns):
            raise unprocessable(
                f"{pointers[mapped.name]}/shape",
                f"tensor {mapped.name!r} has {tensor.width} values per row, the baseline has {len(mapped.columns)}",
            )
    checked: set[str] = set()
    for column in baseline.columns:
        source = sources.get(column.name)
        if source is None or confidence_tensor(column, baseline.confidence, tensors) is not None:
            continue
        tensor = source.tensor
        pointer = pointers[tensor.name]
        _check_datatype(column, tensor, pointer)
        # Arrow text has been looked at, by whole columns.
        if tensor.datatype == "BYTES" and tensor.name not in checked and decoded.style == "tensors":
            checked.add(tensor.name)
            check_text_elements(tensor, pointer, decoded.faults)


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
    decoded: Decoded, baseline: Baseline, tensors: Mapping[str, Tensor], sources: Mapping[str, Source]
) -> tuple[Issue, ...]:
    used = {source.tensor.name for source in sources.values()} | {mapped.name for mapped in baseline.tensors}
    rule = baseline.confidence
    if rule is not None and rule.tensor is not None:
        used.add(rule.tensor)
    places = _pointers(decoded)
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
    fingerprint = decoded.parameters.get("baseline_fingerprint")
    if fingerprint is not None and fingerprint != baseline.fingerprint:
        warnings.append(
            Issue(
                pointer="/parameters/baseline_fingerprint",
                detail="the sender knows another baseline than the one in use",
            )
        )
    return tuple(warnings[:_MAX_WARNINGS])


def _pointers(decoded: Decoded) -> Mapping[str, str]:
    if decoded.style in _OF_TENSORS:
        return {tensor.name: at for tensor, at in zip(decoded.tensors, decoded.tensor_pointers, strict=True)}
    if decoded.style == "columns":
        return {cells.name: cells.place.prefix.removesuffix("/") for cells in decoded.cells}
    return {cells.name: cells.place.at(0) for cells in decoded.cells}
