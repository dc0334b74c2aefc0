"""A coarser view of a baseline: fewer cut points, exact counts on them.

Segments are many and small, so they are counted on 64 cuts per column instead of 1024. The cuts are a subset of
the baseline's own, which always holds its minimum, maximum, deciles and evidence cuts; the training counts on
them are sums of the fine ones, so nothing has to be counted again and both views describe the same rows.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from detectors import codec
from detectors.columns import Column, NumericColumn
from detectors.counts import Baseline, Layout, Profile
from detectors.types import IntArray

SEGMENT_CUTS: Final = 64


def coarsen(baseline: Baseline, cap: int = SEGMENT_CUTS) -> Baseline:
    """The baseline on at most `cap` cuts per column (more where its deciles and evidence cuts need them).

    Deterministic: stored counts of segments depend on it. A column that has no more cuts than `cap` stays as it is.

    >>> import numpy as np
    >>> from detectors.profile import ColumnData, build_baseline
    >>> from detectors.types import ColumnRole, ColumnType
    >>> data = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
    ...                   values=np.random.default_rng(1).normal(size=5000))
    >>> coarse = coarsen(build_baseline([data], 60, (), None, "docs"))
    >>> coarse.columns[0].cuts.size, coarse.profile.rows
    (64, 5000)
    """
    kept = [kept_cuts(column, cap) for column in baseline.columns]
    columns = [_with(column, cuts) for column, cuts in zip(baseline.columns, kept, strict=True)]
    layout = Layout.of(columns)
    parts = [
        _merged(column, baseline.profile.counts[place], cuts)
        for column, place, cuts in zip(baseline.columns, baseline.layout.slices, kept, strict=True)
    ]
    profile = Profile(
        rows=baseline.profile.rows, counts=np.concatenate(parts), moments=baseline.profile.moments.copy()
    )
    draft = replace(baseline, columns=layout.columns, layout=layout, profile=profile, fingerprint="")
    return replace(draft, fingerprint=codec.fingerprint(draft))


def kept_cuts(column: Column, cap: int = SEGMENT_CUTS) -> IntArray:
    """Indexes of the cuts that the coarse view keeps, rising: those that carry a meaning, then others evenly in between."""
    if not isinstance(column, NumericColumn):
        return np.zeros(0, dtype=np.int64)
    size = column.cuts.size
    if size <= cap:
        return np.arange(size, dtype=np.int64)
    needed = np.unique(np.concatenate([[0, size - 1], column.decile_cuts, column.evidence_cuts]))
    free = np.setdiff1d(np.arange(size), needed)
    room = max(cap - needed.size, 0)
    chosen = free[(np.arange(room) * free.size) // max(room, 1)] if room else free[:0]
    return np.union1d(needed, chosen).astype(np.int64)


def _with(column: Column, kept: IntArray) -> Column:
    if not isinstance(column, NumericColumn) or kept.size == column.cuts.size:
        return column
    return replace(
        column,
        cuts=column.cuts[kept],
        exact=False,
        decile_cuts=np.searchsorted(kept, column.decile_cuts).astype(np.int64),
        evidence_cuts=np.searchsorted(kept, column.evidence_cuts).astype(np.int64),
    )


def _merged(column: Column, slots: IntArray, kept: IntArray) -> IntArray:
    """The slots of one column on the kept cuts: points stay, what lies between them becomes one interval."""
    if not isinstance(column, NumericColumn) or kept.size == column.cuts.size:
        return slots
    cells = 2 * column.cuts.size + 1
    points = 2 * kept + 1
    starts = np.empty(2 * kept.size + 1, dtype=np.int64)
    starts[0], starts[1::2], starts[2::2] = 0, points, points + 1
    merged = np.add.reduceat(slots[:cells], starts)
    return np.concatenate([merged, slots[cells:]])
