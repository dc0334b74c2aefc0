"""Decoders made for one baseline, whose features are all floats: a JSON body in one pass, without a dictionary per row.

They take what the general decoders take, and nothing more: a body they refuse is read again by those, which say what
is wrong with it. An object with a key twice is not refused here; as everywhere, its keys are counted.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from detectors.profile import Baseline
from detectors.types import ColumnRole, FloatArray
from monitor.ingest.cells import Scalar, is_float_column
from monitor.ingest.envelope import Head

MOST_FEATURES: Final = 512
_KEPT: Final = 64


class TypedRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A row whose features are a struct of the baseline's own."""

    features: Any
    ts: str | int | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    tags: dict[str, str | None] | UnsetType | None = UNSET
    prediction: Scalar | UnsetType = UNSET
    confidence: float | UnsetType | None = UNSET


class _ColumnsHead(Head, forbid_unknown_fields=True):
    columns: dict[str, list[float | None]] | UnsetType = UNSET  # type: ignore[assignment]  # decoded at once


def feature_names(baseline: Baseline) -> tuple[str, ...]:
    """The features in the baseline's order."""
    return tuple([column.name for column in baseline.columns if column.role is ColumnRole.FEATURE])


def floats_only(baseline: Baseline) -> bool:
    """Whether every feature is a float column."""
    features = [column for column in baseline.columns if column.role is ColumnRole.FEATURE]
    return bool(features) and all(is_float_column(column) for column in features)


@lru_cache(maxsize=_KEPT)
def head_decoder(baseline: Baseline) -> msgspec.json.Decoder[Any] | None:
    """A decoder of a whole body, with `rows` [N] of `TypedRow` or `columns` of float lists; None for other baselines."""
    names = feature_names(baseline)
    if not floats_only(baseline) or len(names) > MOST_FEATURES:
        return None
    fields = [f"f{position}" for position in range(len(names))]
    features = msgspec.defstruct(
        "Features",
        [(field, float | None) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    row = msgspec.defstruct(
        "Row",
        [("features", features)],
        bases=(TypedRow,),
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )
    head = msgspec.defstruct(
        "RowsHead",
        [("rows", list[row] | UnsetType, UNSET)],  # type: ignore[valid-type]  # made above
        bases=(_ColumnsHead,),
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(head)


def columns_of(features: Sequence[Any], names: int) -> FloatArray:
    """The features [N] of typed rows as float64 [names, N]; null is NaN."""
    cells = map(msgspec.structs.astuple, features)
    try:
        # A struct takes the floats of a tuple at a fifth of what numpy asks for each element of an iterator.
        flat = np.frombuffer(b"".join(starmap(_row_struct(names).pack, cells)), dtype=np.float64)
    except struct.error:
        rows = list(map(msgspec.structs.astuple, features))
        flat = np.array(rows, dtype=np.float64).reshape(-1)
    return np.ascontiguousarray(flat.reshape(len(features), names).T)


@lru_cache(maxsize=_KEPT)
def _row_struct(names: int) -> struct.Struct:
    return struct.Struct(f"={names}d")
