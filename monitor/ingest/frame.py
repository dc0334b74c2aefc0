"""From a batch's tensors to one array per baseline column, as `detectors.profile.profile_rows` counts them."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.columns import canonical_text
from detectors.profile import Baseline, CategoricalColumn, Column, ConfidenceRule
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.batch import Batch, Tensor, joined, layout

AnyArray = npt.NDArray[Any]

_ALIASES: Final[Mapping[ColumnRole, str]] = {
    ColumnRole.PREDICTION: "prediction",
    ColumnRole.CONFIDENCE: "confidence",
}
"""Names under which the JSON formats send what the baseline may call otherwise."""
_BLOCK_ROWS: Final = 256
_TRUTH: Final = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The tensor a column comes from, and its position among the tensor's elements per row."""

    tensor: Tensor
    position: int


def locate(baseline: Baseline, tensors: Mapping[str, Tensor]) -> Mapping[str, Source]:
    """Where each baseline column comes from: its mapped tensor, else a tensor of its own name, else its role's name.

    Columns without a source are left out; a mapped tensor of another width counts as absent.
    """
    sources: dict[str, Source] = {}
    for mapped in baseline.tensors:
        tensor = tensors.get(mapped.name)
        if tensor is not None and tensor.width == len(mapped.columns):
            for position, name in enumerate(mapped.columns):
                if name:
                    sources[name] = Source(tensor=tensor, position=position)
    for column in baseline.columns:
        for name in (column.name, _ALIASES.get(column.role, column.name)):
            tensor = tensors.get(name)
            if column.name not in sources and tensor is not None and tensor.width == 1:
                sources[column.name] = Source(tensor=tensor, position=0)
    return sources


def frame(
    batches: Sequence[Batch], baseline: Baseline, only: Container[str] | None = None
) -> Mapping[str, AnyArray]:
    """An array [rows of all batches] per baseline column, by name, in the order of the batches (at least one).

    `only` names the columns that are asked for, where not all are.

    Batches of one layout are taken together, and cost hardly more than one. A column that a batch does not carry is
    missing in its every row.

    NUMERIC comes in the column's dtype (float64 where an integer or boolean column has missing values),
    CATEGORICAL as object array of canonical text or None, TEXT as object array of str or None, CONFIDENCE
    derived by the baseline's rule. A batch taken before its baseline was known may hold what the baseline
    would have refused: values that cannot be read as the column's type are missing.
    """
    runs = [list(run) for _, run in groupby(batches, layout)]
    frames = [_frame(run, baseline, only) for run in runs]
    if len(frames) == 1:
        return frames[0]
    return {name: np.concatenate([one[name] for one in frames]) for name in frames[0]}


def _frame(run: Sequence[Batch], baseline: Baseline, only: Container[str] | None) -> Mapping[str, AnyArray]:
    """Batches of one layout."""
    rows = sum(batch.rows for batch in run)
    tensors: dict[str, Tensor] = {}
    wide: dict[str, AnyArray] = {}
    for parts in zip(*(batch.tensors for batch in run), strict=True):
        first = parts[0]
        if len(run) > 1 and _is_split(first, baseline):
            # Transposed from where they lie: joining them first would only copy them once more.
            tensors[first.name] = first
            wide[first.name] = transposed([part.array() for part in parts])
        else:
            tensors[first.name] = joined(parts)
    sources = locate(baseline, tensors)
    values: dict[str, AnyArray] = {}
    for column in baseline.columns:
        if only is not None and column.name not in only:
            continue
        derived = _derived(column, baseline.confidence, tensors)
        if derived is not None:
            values[column.name] = _cast(column, derived)
            continue
        source = sources.get(column.name)
        if isinstance(column, CategoricalColumn):
            values[column.name] = _categories(source, rows, wide)
        elif column.type is ColumnType.TEXT:
            values[column.name] = _texts(source, rows)
        elif source is None:
            values[column.name] = np.full(rows, np.nan, dtype=np.float64)
        elif source.tensor.datatype == "BYTES":
            values[column.name] = _cast(column, _numbers_of_text(source))
        else:
            values[column.name] = _cast(column, _position(source, wide))
    return values


def _is_split(tensor: Tensor, baseline: Baseline) -> bool:
    """Whether nothing but columns is made of a tensor, each of one of its positions."""
    rule = baseline.confidence
    return tensor.datatype != "BYTES" and tensor.width > 1 and (rule is None or rule.tensor != tensor.name)


def derive_confidence(kind: str, outputs: AnyArray) -> AnyArray:
    """Confidence [N] from a model output [N, C]; NaN where the row has NaN.

    `given`: C = 1, as it is. `probabilities`: the row's maximum. `positive_probability`: C = 1, max(p, 1 - p).
    `softmax`: the row's largest softmax share of logits, 1 / Σ exp(z - max z); one logit is the binary case
    max(σ(z), 1 - σ(z)). Training derives with the same function, so that equal outputs fall on equal points.

    >>> derive_confidence("positive_probability", np.array([[0.25], [0.5]])).tolist()
    [0.75, 0.5]
    """
    if kind == "probabilities":
        return np.asarray(outputs.max(axis=1))
    if kind == "softmax":
        logits = outputs.astype(np.float64)
        if logits.shape[1] == 1:
            logits = np.hstack([logits, np.zeros_like(logits)])
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    single = outputs[:, 0]
    if kind == "positive_probability":
        p = single.astype(np.float64)
        return np.maximum(p, 1.0 - p)
    return single


def confidence_tensor(
    column: Column, rule: ConfidenceRule | None, tensors: Mapping[str, Tensor]
) -> Tensor | None:
    """The tensor the rule derives this column from, if the batch carries it in a usable form."""
    if column.role is not ColumnRole.CONFIDENCE or rule is None or rule.tensor is None:
        return None
    tensor = tensors.get(rule.tensor)
    if tensor is None or tensor.datatype == "BYTES":
        return None
    if rule.kind in ("given", "positive_probability") and tensor.width != 1:
        return None
    return tensor


def _derived(column: Column, rule: ConfidenceRule | None, tensors: Mapping[str, Tensor]) -> AnyArray | None:
    tensor = confidence_tensor(column, rule, tensors)
    if tensor is None or rule is None:
        return None
    outputs = tensor.array()
    return derive_confidence(rule.kind, outputs.astype(np.float64) if outputs.dtype.kind != "f" else outputs)


def _position(source: Source, wide: dict[str, AnyArray]) -> AnyArray:
    """One column of a tensor; a wide tensor is transposed once, so that every column is contiguous."""
    tensor = source.tensor
    if tensor.width == 1:
        return tensor.array()[:, 0]
    if tensor.name not in wide:
        wide[tensor.name] = transposed([tensor.array()])
    return np.asarray(wide[tensor.name][source.position])


def transposed(parts: Sequence[AnyArray]) -> AnyArray:
    """Arrays [Nᵢ, W] as one contiguous [W, ΣNᵢ], a block that fits the cache at a time: numpy's own way is half as fast."""
    rows = sum(part.shape[0] for part in parts)
    columns = np.empty((parts[0].shape[1], rows), dtype=parts[0].dtype)
    start = 0
    for part in parts:
        for at in range(0, part.shape[0], _BLOCK_ROWS):
            block = part[at : at + _BLOCK_ROWS]
            columns[:, start : start + block.shape[0]] = block.T
            start += block.shape[0]
    return columns


def _cast(column: Column, values: AnyArray) -> AnyArray:
    """Round to the column's dtype; integers and booleans that came as floats stay floats, for their NaN."""
    dtype = np.dtype(column.dtype)
    if values.dtype == dtype or (dtype.kind != "f" and values.dtype.kind == "f"):
        return values
    if dtype.kind in "iub" and values.dtype.kind in "iub":
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _elements(source: Source) -> list[bytes | None]:
    return source.tensor.elements()[source.position :: source.tensor.width]


def _decoded(source: Source) -> list[str | None]:
    elements = _elements(source)
    texts: dict[bytes | None, str | None] = {
        raw: None if raw is None else raw.decode(errors="replace") for raw in set(elements)
    }
    return [texts[raw] for raw in elements]


def _texts(source: Source | None, rows: int) -> AnyArray:
    values = np.full(rows, None, dtype=object)
    if source is not None and source.tensor.datatype == "BYTES":
        values[:] = _decoded(source)
    return values


def _categories(source: Source | None, rows: int, wide: dict[str, AnyArray]) -> AnyArray:
    values = np.full(rows, None, dtype=object)
    if source is None:
        return values
    if source.tensor.datatype == "BYTES":
        values[:] = [text or None for text in _decoded(source)]
        return values
    return canonical_texts(source.tensor.name, _position(source, wide))


def canonical_texts(name: str, values: AnyArray) -> AnyArray:
    """Numbers or truth values [N] as categories are written: an object array of text, None for NaN."""
    found, inverse = np.unique(values, return_inverse=True)
    texts = np.full(found.shape, None, dtype=object)
    texts[:] = [canonical_text(name, value) or None for value in found.tolist()]
    return np.asarray(texts[inverse])


def _numbers_of_text(source: Source) -> AnyArray:
    return np.array([_number(text) for text in _decoded(source)], dtype=np.float64)


def _number(text: str | None) -> float:
    if text is None:
        return np.nan
    try:
        return _TRUTH[text] if text in _TRUTH else float(text)
    except ValueError:
        return np.nan
