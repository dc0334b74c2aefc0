"""Building a baseline from training values, and counting production rows on its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors import codec
from detectors.cells import CUT_CAP, choose_cuts, count_sorted
from detectors.columns import (
    CATEGORY_CAP,
    MIN_ROWS,
    OTHERS_CAP,
    AnyArray,
    CategoricalColumn,
    Column,
    ColumnData,
    ConfidenceRule,
    NumericColumn,
    TensorMap,
    can_represent,
    canonical_numbers,
    category_counts,
    check_column,
    check_integers,
)
from detectors.counts import CONFIDENCE_SCALE, Baseline, Layout, Profile
from detectors.types import ColumnRole, ColumnType, DetectorError, FloatArray, IntArray

__all__ = [
    "MOMENT_CLIP",
    "Baseline",
    "CategoricalColumn",
    "Column",
    "ColumnData",
    "ConfidenceRule",
    "Layout",
    "NumericColumn",
    "Profile",
    "TensorMap",
    "build_baseline",
    "build_column",
    "can_represent",
    "profile_rows",
]

MOMENT_CLIP: Final = 1e150
"""Finite values beyond this count as this in the moments, whose squares would overflow."""


def build_column(
    name: str,
    role: ColumnRole,
    type: ColumnType,  # noqa: A002  # the word of the configuration and of ColumnData
    dtype: str,
    values: AnyArray,
    *,
    cut_cap: int = CUT_CAP,
) -> tuple[Column, Profile]:
    """A column's cut points or categories from its training values [m >= 100], and their profile on it alone.

    `dtype` is the model's numpy dtype, to which values are rounded here and in production alike ("bool" for
    BOOLEAN, "int64" for TEXT). Constant and all-missing columns work. Refused with a DetectorError: m < 100,
    text in a numeric column, integers beyond 2^53 (declare them categorical).
    """
    check_column(name, role, type, dtype)
    if values.shape[0] < MIN_ROWS:
        raise DetectorError(
            f"column {name!r}: {values.shape[0]} training rows; a baseline needs at least {MIN_ROWS}, better 1000"
        )
    if type is ColumnType.CATEGORICAL:
        column: Column = _choose_categories(name, role, dtype, values)
        return column, _count(Layout.of([column]), values.shape[0], [values])
    if type is ColumnType.NUMERIC:
        check_integers(name, dtype, values)
    numbers = canonical_numbers(name, type, dtype, values)
    cuts, exact, deciles, evidence = choose_cuts(numbers, cut_cap)
    column = NumericColumn(
        name=name,
        role=role,
        type=type,
        dtype=dtype,
        cuts=cuts,
        exact=exact,
        decile_cuts=deciles,
        evidence_cuts=evidence,
    )
    return column, _count(Layout.of([column]), values.shape[0], [numbers])


def build_baseline(
    columns: Sequence[ColumnData],
    pane_seconds: int,
    tensors: Sequence[TensorMap],
    confidence: ConfidenceRule | None,
    source: str,
    *,
    cut_cap: int = CUT_CAP,
) -> Baseline:
    """The baseline of training columns of equal length m >= 100.

    `cut_cap` is the number of cut points per column (64 for segments).

    >>> import numpy as np
    >>> column = ColumnData(name="age", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32",
    ...                     values=np.random.default_rng(1).normal(40, 9, 5000))
    >>> baseline = build_baseline([column], 60, (), None, "docs")
    >>> baseline.layout.columns[0].cuts.size, baseline.layout.length, baseline.profile.rows
    (1022, 2047, 5000)
    """
    if pane_seconds < 1:
        raise DetectorError(f"pane_seconds is {pane_seconds}; a pane lasts at least 1 second")
    lengths = {data.name: data.values.shape[0] for data in columns}
    if len(set(lengths.values())) > 1:
        raise DetectorError(f"training columns differ in length: {lengths}; pass the same rows of each")
    built = [
        build_column(data.name, data.role, data.type, data.dtype, data.values, cut_cap=cut_cap)
        for data in columns
    ]
    layout = Layout.of([column for column, _ in built])
    _check_tensors(layout, tensors)
    profile = Profile(
        rows=built[0][1].rows,
        counts=np.concatenate([part.counts for _, part in built]),
        moments=np.concatenate([part.moments for _, part in built]),
    )
    draft = Baseline(
        columns=layout.columns,
        layout=layout,
        profile=profile,
        pane_seconds=pane_seconds,
        tensors=tuple(tensors),
        confidence=confidence,
        source=source,
        fingerprint="",
    )
    return replace(draft, fingerprint=codec.fingerprint(draft))


def profile_rows(baseline: Baseline, values: Mapping[str, AnyArray]) -> Profile:
    """Count one group of rows on the baseline's cells.

    `values` holds an array [n] per column of the baseline, all of one length; names beyond them are ignored.
    Values are rounded to the column's dtype first. Numeric columns take float, int or bool arrays, or objects
    with None; TEXT takes strings or their lengths; CATEGORICAL takes objects, strings, integers, booleans.
    """
    layout = baseline.layout
    absent = [column.name for column in layout.columns if column.name not in values]
    if absent:
        raise DetectorError(
            f"rows lack the columns {', '.join(absent)}; send NaN or null where a value is missing"
        )
    arrays = [values[column.name] for column in layout.columns]
    rows = arrays[0].shape[0]
    for column, array in zip(layout.columns, arrays, strict=True):
        if array.shape[0] != rows:
            raise DetectorError(f"column {column.name!r} has {array.shape[0]} rows where others have {rows}")
    return _count(layout, rows, arrays)


def _count(layout: Layout, rows: int, arrays: Sequence[AnyArray]) -> Profile:
    profile = Profile.zeros(layout)
    for position, column in enumerate(layout.columns):
        slots = profile.counts[layout.slices[position]]
        if isinstance(column, NumericColumn):
            moments = profile.moments[position]
            _count_numbers(column, layout.narrow[position], arrays[position], slots, moments)
        else:
            _count_categories(column, layout.lookups[position] or {}, arrays[position], slots)
    return Profile(rows=rows, counts=profile.counts, moments=profile.moments)


def _check_tensors(layout: Layout, tensors: Sequence[TensorMap]) -> None:
    for tensor in tensors:
        unknown = [name for name in tensor.columns if name and name not in layout.positions]
        if unknown:
            raise DetectorError(
                f"tensor {tensor.name!r} feeds unknown columns {', '.join(unknown)}; "
                f"the baseline has {', '.join(layout.positions)}"
            )


def _count_numbers(
    column: NumericColumn,
    narrow: npt.NDArray[np.float32] | None,
    values: AnyArray,
    slots: IntArray,
    moments: FloatArray,
) -> None:
    """Fill the column's `slots` and `moments` [3], both zeros before."""
    ordered = np.sort(canonical_numbers(column.name, column.type, column.dtype, values))
    cells = 2 * column.cuts.size + 1
    present, non_finite = count_sorted(ordered, column.cuts, narrow, slots[:cells])
    slots[cells] = ordered.size - present
    slots[cells + 1] = non_finite
    if column.role is ColumnRole.CONFIDENCE:
        slots[cells + 2] = _fixed_sum(ordered[:present])
    _moments(ordered[:present], non_finite, moments)


def _fixed_sum(present: AnyArray) -> int:
    """Σ round(confidence · 2³²), an integer so that evidence is the same bits in any order of rows.

    Values outside [0, 1] count as its nearer end: the bet on the mean is one on a bounded variable.
    """
    bounded = np.clip(present.astype(np.float64), 0.0, 1.0)
    return int(np.rint(bounded * CONFIDENCE_SCALE).astype(np.int64).sum())


def _moments(present: AnyArray, non_finite: int, moments: FloatArray) -> None:
    if non_finite:
        present = present[np.isfinite(present)]
    n = present.size
    if n == 0:
        return
    wide = present.astype(np.float64)
    if wide[0] < -MOMENT_CLIP or wide[-1] > MOMENT_CLIP:
        wide = np.clip(wide, -MOMENT_CLIP, MOMENT_CLIP)
    mean = float(np.add.reduce(wide)) / n
    wide -= mean
    np.multiply(wide, wide, out=wide)  # a BLAS dot would start threads for this
    moments[:] = n, mean, float(np.add.reduce(wide))


def _choose_categories(name: str, role: ColumnRole, dtype: str, values: AnyArray) -> CategoricalColumn:
    counts, _ = category_counts(name, values)
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    others = ranked[CATEGORY_CAP:]
    return CategoricalColumn(
        name=name,
        role=role,
        type=ColumnType.CATEGORICAL,
        dtype=dtype,
        categories=tuple(ranked[:CATEGORY_CAP]),
        others=frozenset(others[:OTHERS_CAP]),
        others_truncated=len(others) > OTHERS_CAP,
    )


def _count_categories(
    column: CategoricalColumn, lookup: Mapping[str, int], values: AnyArray, slots: IntArray
) -> None:
    counts, missing = category_counts(column.name, values)
    known = len(column.categories)
    # A name forgotten for want of room cannot be told from a new one.
    unknown = known if column.others_truncated else known + 1
    for text, rows in counts.items():
        slots[lookup.get(text, unknown)] += rows
    slots[known + 2] = missing
