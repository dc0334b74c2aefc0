"""Counting numeric columns, several at a time: in their cells, what is missing or infinite, and their moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from driftd_sidecar._cells import ColumnCells, NumericCells
from driftd_sidecar._guide import AnyArray, Guide, IntArray, Scale, scale_of

FloatArray = npt.NDArray[np.float64]
CONFIDENCE_SCALE = 2**32
MOMENT_CLIP = 1e150  # finite values beyond count as this in the moments, whose squares would overflow
_MIXTURES = 4  # of dtypes whose tables are kept
_TOGETHER = 8  # columns: what is made of them should stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Columns that are counted together, by their positions, as values of one dtype."""

    positions: list[int]
    dtype: np.dtype[Any]
    guide: Guide


class NumberCounter:
    """Counts the numeric ones of some columns. Guides are made for what comes, and kept."""

    def __init__(self, columns: Sequence[ColumnCells]) -> None:
        self._columns = {
            position: column for position, column in enumerate(columns) if isinstance(column, NumericCells)
        }
        self._scales: dict[tuple[int, int], Scale] = {}
        self._groups: dict[tuple[bool, ...], list[_Group]] = {}

    def count(self, values: Sequence[AnyArray], slots: IntArray, moments: FloatArray) -> None:
        """Fills the slots of all numeric columns, of the int64 zeros of all columns, and their `moments` [C, 3].

        `values` are all columns [C] of n values, the numeric ones float32 or float64 with NaN where missing.
        """
        narrow = tuple(values[position].dtype == np.float32 for position in self._columns)
        groups = self._groups.get(narrow)
        if groups is None:
            if len(self._groups) == _MIXTURES:
                self._groups.clear()
            groups = self._groups[narrow] = self._grouped(narrow)
        with np.errstate(invalid="ignore", over="ignore"):  # sums of what is infinite
            for group in groups:
                rows = np.array([values[position] for position in group.positions], group.dtype)
                self._count_group(group, rows, slots, moments)

    def _grouped(self, narrow: Sequence[bool]) -> list[_Group]:
        kinds: dict[object, list[tuple[int, Scale]]] = {}
        for (position, column), fits in zip(self._columns.items(), narrow, strict=True):
            cuts: AnyArray = column.narrow if fits and column.narrow is not None else column.cuts
            key = position, cuts.dtype.itemsize
            scale = self._scales.get(key)
            if scale is None:
                scale = self._scales[key] = scale_of(cuts)
            kinds.setdefault(scale.kind, []).append((position, scale))
        return [
            _Group(
                positions=[position for position, _ in some],
                dtype=some[0][1].cuts.dtype,
                guide=Guide([scale for _, scale in some]),
            )
            for alike in kinds.values()
            for some in (alike[first : first + _TOGETHER] for first in range(0, len(alike), _TOGETHER))
        ]

    def _count_group(self, group: _Group, values: AnyArray, slots: IntArray, moments: FloatArray) -> None:
        """As `count`, of the values [columns, n] of a group, which it overwrites."""
        rows = values.shape[1]
        wide = values.astype(np.float64)
        totals = wide.sum(axis=1)
        plain = np.isfinite(totals)
        if values.dtype == np.float64:
            plain &= (wide.max(axis=1) <= MOMENT_CLIP) & (wide.min(axis=1) >= -MOMENT_CLIP)
        missing = {at: np.isnan(values[at]) for at in (~plain).nonzero()[0].tolist()}
        for at, nan in missing.items():
            values[at, nan] = 0.0
        apart: dict[int, tuple[float, float, float]] = {}
        for at, cells in enumerate(group.guide.count(values)):
            column = self._columns[group.positions[at]]
            own, present = slots[column.start : column.start + column.slots], wide[at]
            own[: column.cells] = cells
            if at in missing:
                present = present[~missing[at]]
                finite = present[np.isfinite(present)]
                own[column.cell(0.0)] -= rows - present.size
                own[column.cells] = rows - present.size
                own[column.cells + 1] = present.size - finite.size
                apart[group.positions[at]] = _moments(finite.clip(-MOMENT_CLIP, MOMENT_CLIP))
            if column.role == "confidence":
                bounded = present.clip(0.0, 1.0)
                own[column.cells + 2] = int(np.rint(bounded * CONFIDENCE_SCALE).astype(np.int64).sum())
        means = totals / rows
        wide -= means[:, np.newaxis]
        wide *= wide
        moments[group.positions] = np.stack([np.full_like(means, rows), means, wide.sum(axis=1)], axis=1)
        for position, each in apart.items():
            moments[position] = each


def _moments(finite: FloatArray) -> tuple[float, float, float]:
    """n, mean and sum of squared deviations of values [n]."""
    if not finite.size:
        return 0.0, 0.0, 0.0
    mean = float(finite.sum()) / finite.size
    apart = finite - mean
    return float(finite.size), mean, float((apart * apart).sum())
