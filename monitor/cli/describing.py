"""A baseline in the words of a table."""

from dataclasses import dataclass

import numpy as np

from detectors.profile import Baseline, CategoricalColumn, NumericColumn
from detectors.types import IntArray

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDescription:
    """One column: `categories` counts its rows per category, most frequent first, None for numbers.

    `low`, `median` and `high` are of the finite training values; the median is exact where the cuts are, else
    the cut point nearest to it. None for categories, and for a column without values.
    """

    name: str
    role: str
    type: str
    dtype: str
    rows: int
    missing: int
    cuts: int | None
    exact: bool | None
    low: float | None
    median: float | None
    high: float | None
    categories: dict[str, int] | None
    other_rows: int

    def as_json(self) -> dict[str, object]:
        """The column as a JSON object."""
        return {
            "name": self.name,
            "role": self.role,
            "type": self.type,
            "dtype": self.dtype,
            "rows": self.rows,
            "missing": self.missing,
            "cuts": self.cuts,
            "exact": self.exact,
            "min": self.low,
            "median": self.median,
            "max": self.high,
            "categories": self.categories,
            "other_rows": self.other_rows,
        }

    def as_row(self) -> tuple[str, ...]:
        """The column as a row of text cells."""
        cuts = "" if self.cuts is None else f"{self.cuts}{'' if self.exact else ' of more'}"
        quantiles = ("" if value is None else f"{value:.6g}" for value in (self.low, self.median, self.high))
        names = [*(self.categories or ())]
        more = f" +{len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        categories = ", ".join(names[:_SHOWN]) + more
        return (
            self.name, self.role, self.type, self.dtype, str(self.rows), str(self.missing), cuts, *quantiles, categories
        )  # fmt: skip


def describe(baseline: Baseline) -> list[ColumnDescription]:
    """Every column of a baseline, in its order."""
    layout, profile = baseline.layout, baseline.profile
    return [
        _describe(column, profile.counts[layout.slices[position]], profile.rows)
        for position, column in enumerate(layout.columns)
    ]


def _describe(column: NumericColumn | CategoricalColumn, slots: IntArray, rows: int) -> ColumnDescription:
    if isinstance(column, CategoricalColumn):
        known = len(column.categories)
        counts = {name: int(n) for name, n in zip(column.categories, slots[:known], strict=True)}
        return ColumnDescription(
            name=column.name,
            role=column.role.value,
            type=column.type.value,
            dtype=column.dtype,
            rows=rows,
            missing=int(slots[known + 2]),
            cuts=None,
            exact=None,
            low=None,
            median=None,
            high=None,
            categories=counts,
            other_rows=int(slots[known] + slots[known + 1]),
        )
    cells = slots[: 2 * column.cuts.size + 1]
    present = int(cells.sum())
    return ColumnDescription(
        name=column.name,
        role=column.role.value,
        type=column.type.value,
        dtype=column.dtype,
        rows=rows,
        missing=int(slots[cells.size]),
        cuts=int(column.cuts.size),
        exact=column.exact,
        low=float(column.cuts[0]) if present else None,
        median=_median(column, cells, present) if present else None,
        high=float(column.cuts[-1]) if present else None,
        categories=None,
        other_rows=0,
    )


def _median(column: NumericColumn, cells: IntArray, present: int) -> float:
    """The smallest cut point with at least half of the values at or below it: the lower median, where cuts are values."""
    at_or_below = np.cumsum(cells)[1::2]
    position = int(np.searchsorted(at_or_below, (present + 1) // 2))
    return float(column.cuts[min(position, column.cuts.size - 1)])
