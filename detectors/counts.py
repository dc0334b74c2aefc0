"""Counts on a baseline's cells: where each column's counts lie, profiles that add up, and the baseline itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from detectors.cells import narrow_cuts
from detectors.columns import CategoricalColumn, Column, ConfidenceRule, NumericColumn, TensorMap
from detectors.types import ColumnRole, DetectorError, FloatArray, IntArray

CONFIDENCE_SCALE: Final = 2**32
"""A confidence of 1 in `fixed_sum`."""
CHUNK_SLOTS: Final = 65_536
"""Slots of a chunk: the scratch arrays of so many stay in the cache."""


class CellChunk(NamedTuple):
    """A run of numeric columns whose slots fit the scratch arrays, for kernels that go through all cells.

    `columns` are among the numeric ones, `begin` and `end` slots. The columns' first cells `starts`, int64, and `spans`,
    from a column's first cell to the next column's, count from `begin`. `exact` says that every column is.
    """

    columns: slice
    begin: int
    end: int
    starts: IntArray
    spans: tuple[tuple[int, int], ...]
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where each column's slots lie in the one int64 vector [length] that counts a pane or a window.

    Slots of a numeric column (also BOOLEAN and TEXT) with k cuts: 2k+1 cells
    `(-inf,c0) {c0} (c0,c1) ... {c(k-1)} (c(k-1),inf)`, then `missing`, `non_finite`, and for a CONFIDENCE
    column `fixed_sum` = sum of round(confidence * 2^32). Infinities are in an end cell *and* in `non_finite`.
    Slots of a categorical column: K categories, `other`, `unseen`, `missing`.

    Index arrays, all int64. With C columns, of them N numeric, M categorical and F confidences, in column order:
    `missing` [C]: slot of missing; `numeric` [N]: index among the columns; `cell_start` [N]: first cell;
    `cell_stop` [N]: one past the last cell; `non_finite` [N]: slot; `categorical` [M]: index among the columns;
    `category_start` [M]: first category; `category_stop` [M]: one past `unseen`; `confidence` [F]: index among the
    columns; `fixed_sum` [F]: slot. `is_cell` bool [length] marks the cells of numeric columns.
    `psi_edges` [E], `psi_bins` [S], `psi_start` [C], `psi_spans` [C]: `np.add.reduceat(counts, psi_edges)[psi_bins]`
    are the PSI bins of all columns one after another, of column c `psi_spans[c]` >= 1 of them from `psi_start[c]`.
    `psi_column` [S] is the column of each bin. `chunks` cover all cells in order; the longest has `widest_chunk` slots.
    `lookups` [C]: for a categorical column, category text → slot offset, for a numeric one None.
    `narrow` [C]: the cut points of a numeric column as float32 where that holds them exactly, else None.
    """

    columns: tuple[Column, ...]
    length: int
    slices: tuple[slice, ...]
    missing: IntArray
    numeric: IntArray
    cell_start: IntArray
    cell_stop: IntArray
    non_finite: IntArray
    categorical: IntArray
    category_start: IntArray
    category_stop: IntArray
    confidence: IntArray
    fixed_sum: IntArray
    is_cell: npt.NDArray[np.bool_]
    psi_edges: IntArray
    psi_bins: IntArray
    psi_start: IntArray
    psi_spans: IntArray
    psi_column: IntArray
    chunks: tuple[CellChunk, ...]
    widest_chunk: int
    lookups: tuple[Mapping[str, int] | None, ...]
    narrow: tuple[npt.NDArray[np.float32] | None, ...]
    positions: Mapping[str, int]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> Self:
        """Lay the columns out in their order. Names must differ, and there must be at least one."""
        columns = tuple(columns)
        positions = {column.name: position for position, column in enumerate(columns)}
        if not columns:
            raise DetectorError("a baseline needs at least one column")
        if len(positions) < len(columns):
            names = [column.name for column in columns]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DetectorError(f"columns named twice: {', '.join(twice)}; give each its own name")
        ends = np.cumsum([0, *(_slots(column) for column in columns)])
        slices = tuple(slice(int(start), int(stop)) for start, stop in pairwise(ends))
        starts = ends[:-1].astype(np.int64)
        is_numeric = np.array([isinstance(column, NumericColumn) for column in columns])
        sizes = np.array([_values(column) for column in columns], dtype=np.int64)
        is_confidence = np.array([_has_fixed_sum(column) for column in columns])
        is_cell = np.zeros(int(ends[-1]), dtype=np.bool_)
        for start, size, numeric in zip(starts, sizes, is_numeric, strict=True):
            is_cell[start : start + size] = numeric
        missing = starts + sizes
        edges, bins, bin_start = _psi_bins(columns, starts)
        spans = np.diff(bin_start, append=bins.size)
        exact = [column.exact for column in columns if isinstance(column, NumericColumn)]
        chunks = _chunks(starts[is_numeric], missing[is_numeric], exact)
        return cls(
            columns=columns,
            length=int(ends[-1]),
            slices=slices,
            missing=missing,
            numeric=np.flatnonzero(is_numeric).astype(np.int64),
            cell_start=starts[is_numeric],
            cell_stop=missing[is_numeric],
            non_finite=missing[is_numeric] + 1,
            categorical=np.flatnonzero(~is_numeric).astype(np.int64),
            category_start=starts[~is_numeric],
            category_stop=missing[~is_numeric],
            confidence=np.flatnonzero(is_confidence).astype(np.int64),
            fixed_sum=missing[is_confidence] + 2,
            is_cell=is_cell,
            psi_edges=edges,
            psi_bins=bins,
            psi_start=bin_start,
            psi_spans=spans,
            psi_column=np.repeat(np.arange(len(columns)), spans),
            chunks=chunks,
            widest_chunk=max((chunk.end - chunk.begin for chunk in chunks), default=0),
            lookups=tuple(_lookup(column) for column in columns),
            narrow=tuple(narrow_cuts(c.cuts) if isinstance(c, NumericColumn) else None for c in columns),
            positions=positions,
        )

    def position(self, name: str) -> int:
        """The index of a column; an unknown name is refused with the names there are."""
        try:
            return self.positions[name]
        except KeyError:
            raise DetectorError(f"no column {name!r}; the baseline has {', '.join(self.positions)}") from None

    def present(self, counts: IntArray, rows: IntArray | int) -> IntArray:
        """Rows with a value, per column: int64 [..., C] from counts [..., length] and rows [...]."""
        total = np.asarray(rows, dtype=np.int64)[..., np.newaxis]
        present: IntArray = total - counts[..., self.missing]
        return present


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """What was counted over some rows: of a baseline, a pane, a block or a window.

    `rows` are all rows, missing values included. `counts` is int64 [layout.length]. `moments` is float64
    [C, 3]: n, mean and sum of squared deviations of the finite values (clipped to ±1e150), zeros for
    categorical columns. Counts may be added and subtracted; moments are only ever merged afresh, because a
    running float sum never forgets an expired 1e300.
    """

    rows: int
    counts: IntArray
    moments: FloatArray

    @classmethod
    def zeros(cls, layout: Layout) -> Self:
        """The profile of no rows."""
        return cls(
            rows=0,
            counts=np.zeros(layout.length, dtype=np.int64),
            moments=np.zeros((len(layout.columns), 3)),
        )

    @classmethod
    def merge(cls, profiles: Sequence["Profile"]) -> Self:
        """The profile of all the rows of `profiles` (at least one, all of one layout)."""
        if not profiles:
            raise DetectorError("merge needs at least one profile; start from Profile.zeros(layout)")
        if len({profile.counts.shape for profile in profiles}) > 1:
            raise DetectorError("profiles of different layouts cannot be merged; count them on one baseline")
        counts = profiles[0].counts.copy()
        for profile in profiles[1:]:
            counts += profile.counts
        moments = merge_moments(np.stack([profile.moments for profile in profiles]))
        return cls(rows=sum(profile.rows for profile in profiles), counts=counts, moments=moments)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """The immutable profile of the training data of one model version.

    `pane_seconds` is the length of the panes counted against it. `source` says in words where the rows came
    from. `fingerprint` is the sha256, in hex, of `codec.encode_baseline(baseline)`.
    Derived, int64: `present` [C], the training rows with a value; `cell_counts` [layout.length], the counts at the
    cells of numeric columns and 0 elsewhere; `interval_counts` [layout.length], those of them that are no exact points;
    `cell_rows` [layout.length], `present` at each such cell and 0 elsewhere; `psi_counts` [S], the PSI bins. `spread` float64 [C] is the standard deviation of the finite training
    values (clipped as in the moments), 0 where there is none.
    """

    columns: tuple[Column, ...]
    layout: Layout
    profile: Profile
    pane_seconds: int
    tensors: tuple[TensorMap, ...]
    confidence: ConfidenceRule | None
    source: str
    fingerprint: str
    present: IntArray = field(init=False, repr=False)
    cell_counts: IntArray = field(init=False, repr=False)
    interval_counts: IntArray = field(init=False, repr=False)
    cell_rows: IntArray = field(init=False, repr=False)
    psi_counts: IntArray = field(init=False, repr=False)
    spread: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        layout, counts = self.layout, self.profile.counts
        present = layout.present(counts, self.profile.rows)
        widths = [part.stop - part.start for part in layout.slices]
        n, _, m2 = self.profile.moments.T
        cell_counts = np.where(layout.is_cell, counts, 0)
        interval_counts = cell_counts.copy()
        for start, stop in zip(layout.cell_start.tolist(), layout.cell_stop.tolist(), strict=True):
            interval_counts[start + 1 : stop : 2] = 0
        derived = {
            "present": present,
            "cell_counts": cell_counts,
            "interval_counts": interval_counts,
            "cell_rows": np.where(layout.is_cell, np.repeat(present, widths), 0),
            "psi_counts": np.add.reduceat(counts, layout.psi_edges)[layout.psi_bins],
            "spread": np.sqrt(m2 / np.maximum(n - 1, 1.0)),
        }
        for name, array in derived.items():
            object.__setattr__(self, name, array)


def merge_moments(moments: FloatArray) -> FloatArray:
    """Merge n, mean, M2 over the first axis: [P, C, 3] → [C, 3].

    Chan, Golub & LeVeque (1982) and Pébay (2008), over all parts at once: the mean by weights with one
    correction pass, and M2 = Σ M2ᵢ + Σ nᵢ (meanᵢ − mean)².
    """
    n, mean, m2 = moments[..., 0], moments[..., 1], moments[..., 2]
    total, centre = merge_means(n, mean)
    merged_m2 = m2.sum(axis=0) + (n * (mean - centre) ** 2).sum(axis=0)
    merged: FloatArray = np.stack([total, centre, merged_m2], axis=-1)
    return merged


def merge_means(n: FloatArray, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Merge n and mean alone, [P, C] → [C] each: the same bits as in `merge_moments`, at half its cost."""
    total: FloatArray = n.sum(axis=0)
    share = n / np.maximum(total, 1.0)
    weighted = share * mean
    centre: FloatArray = weighted.sum(axis=0)
    np.subtract(mean, centre, out=weighted)
    np.multiply(share, weighted, out=weighted)
    return total, centre + weighted.sum(axis=0)


def _values(column: Column) -> int:
    if isinstance(column, NumericColumn):
        return 2 * column.cuts.size + 1
    return len(column.categories) + 2


def _has_fixed_sum(column: Column) -> bool:
    return isinstance(column, NumericColumn) and column.role is ColumnRole.CONFIDENCE


def _slots(column: Column) -> int:
    extra = 1 if isinstance(column, CategoricalColumn) else 3 if _has_fixed_sum(column) else 2
    return _values(column) + extra


def _lookup(column: Column) -> Mapping[str, int] | None:
    if isinstance(column, NumericColumn):
        return None
    named = {text: offset for offset, text in enumerate(column.categories)}
    return named | dict.fromkeys(column.others, len(column.categories))


def _chunks(starts: IntArray, stops: IntArray, exact: Sequence[bool]) -> tuple[CellChunk, ...]:
    """Runs of numeric columns, given their first cells and the ends of their last; a wide column is a run by itself."""
    chunks: list[CellChunk] = []
    first = 0
    while first < starts.size:
        begin = int(starts[first])
        last = max(first + 1, int(np.searchsorted(stops, begin + CHUNK_SLOTS, side="right")))
        run, end = slice(first, last), int(stops[last - 1])
        inside = starts[run] - begin
        spans = tuple(pairwise([*inside.tolist(), end - begin]))
        chunks.append(CellChunk(run, begin, end, inside, spans, all(exact[run])))
        first = last
    return tuple(chunks)


def _psi_bins(columns: tuple[Column, ...], starts: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Edges for one `np.add.reduceat` over everything; the stretch between two columns is no bin."""
    edges: list[int] = []
    bins: list[int] = []
    bin_start: list[int] = []
    for column, start in zip(columns, starts.tolist(), strict=True):
        bin_start.append(len(bins))
        if isinstance(column, NumericColumn):
            first = [start, *(start + 2 * cut + 2 for cut in column.decile_cuts.tolist())]
        else:
            first = list(range(start, start + _values(column)))
        bins.extend(range(len(edges), len(edges) + len(first)))
        edges.extend([*first, start + _values(column)])
    return (
        np.array(edges, dtype=np.int64),
        np.array(bins, dtype=np.int64),
        np.array(bin_start, dtype=np.int64),
    )
