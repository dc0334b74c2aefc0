"""Block events: the integers that bets are placed on, counted from a profile and stored for ever.

All columns' events stand in one flat array, column after column:

- numeric family, 16: "x <= cut" for the 13 evidence cuts, over the rows that hold a value; then missing,
  non-finite and outside the training minimum and maximum, over all rows. A CONFIDENCE column has a 17th, the
  mean confidence, whose hits are in units of 2^-32 and whose total is rows * 2^32;
- categorical, K + 3: each of the K categories, other, unseen, over the rows that hold a value; then missing,
  over all rows.

`hits / totals` is always the share (or mean) in [0, 1]. A total of 0 says that there was nothing to bet on.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from detectors.decision.stored import pack_integers, seal, unpack_integers, unseal
from detectors.profile import Baseline, CategoricalColumn, Column, NumericColumn, Profile
from detectors.types import ColumnRole, DetectorError, IntArray

CONFIDENCE_UNIT: Final = 2**32
"""Hits of one row whose confidence is 1."""
MAX_CONFIDENCE_ROWS: Final = 2**31 - 1
"""Rows of a block with a confidence column: one more could carry the sum past int64."""
_MAGIC: Final = b"DBE\x01"


class EventKind(StrEnum):
    """What an event says of a row (MEAN: of a block)."""

    BELOW = "below"
    MISSING = "missing"
    NON_FINITE = "non_finite"
    OUT_OF_RANGE = "out_of_range"
    MEAN = "mean"
    CATEGORY = "category"
    OTHER = "other"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockEvents:
    """Event counts of one block (or of any span of rows): int64 `hits` [..., E] and `totals` [..., E].

    Integers only, so blocks merged in any order, or counted again from the same rows, are the same bits.
    """

    hits: IntArray
    totals: IntArray

    def __add__(self, other: "BlockEvents") -> "BlockEvents":
        """The events of both blocks' rows; refuses another baseline's events and sums beyond int64."""
        if self.hits.shape != other.hits.shape:
            raise DetectorError(
                f"blocks of {self.hits.shape[-1]} and {other.hits.shape[-1]} events cannot be merged; "
                "count both on one baseline"
            )
        totals = self.totals + other.totals
        if np.any(totals < self.totals):
            raise DetectorError(f"a merged block passes {MAX_CONFIDENCE_ROWS} rows; choose a shorter block")
        return BlockEvents(hits=self.hits + other.hits, totals=totals)

    def encode(self) -> bytes:
        """Compact bytes of one block: differences as varints, totals run by run; about 0.6 KB for 36 columns."""
        if self.hits.ndim != 1:
            raise DetectorError(f"one block is stored at a time; these events have shape {self.hits.shape}")
        events = self.hits.size
        changed = np.flatnonzero(np.diff(self.totals, prepend=self.totals[:1] - 1))
        lengths = np.diff(changed, append=events)
        levels = np.diff(self.totals[changed], prepend=0)
        head = np.array([events, changed.size], dtype=np.int64)
        steps = np.diff(self.hits, prepend=0)
        return seal(_MAGIC, pack_integers(np.concatenate([head, lengths, levels, steps])))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The block that was encoded, bit for bit; DetectorError on damage."""
        numbers = unpack_integers(unseal(_MAGIC, data, "block events"), "block events")
        events, runs = (int(n) for n in numbers[:2]) if numbers.size >= 2 else (-1, -1)
        if events < 0 or runs < 0 or numbers.size != 2 + 2 * runs + events:
            raise DetectorError("block events: the stored lengths disagree; restore the row from a backup")
        lengths = numbers[2 : 2 + runs]
        levels = np.cumsum(numbers[2 + runs : 2 + 2 * runs])
        if np.any(lengths < 0) or int(lengths.sum()) != events:
            raise DetectorError("block events: the stored runs do not add up; restore the row from a backup")
        return cls(hits=np.cumsum(numbers[2 + 2 * runs :]), totals=np.repeat(levels, lengths))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventIndex:
    """Where each event's rows lie in a baseline's count vector. Make it once per baseline and keep it.

    `column` int64 [E]: index of the event's column; `starts` int64 [C]: each column's first event; `kinds` [E];
    `item` int64 [E]: which cut point or category; `first`, `stop` int64 [E]: its slots; `tail` int64 [N] and
    `tail_slot` int64 [N]: events (out of range) that own one more slot; `over_rows` bool [E]: counted over all
    rows, not over those with a value; `mean` int64 [F]: the events in units of 2^-32; `trained`: the events of
    the training rows.
    """

    baseline: Baseline
    column: IntArray
    starts: IntArray
    kinds: tuple[EventKind, ...]
    item: IntArray
    first: IntArray
    stop: IntArray
    tail: IntArray
    tail_slot: IntArray
    over_rows: npt.NDArray[np.bool_]
    mean: IntArray
    trained: BlockEvents

    @classmethod
    def of(cls, baseline: Baseline) -> Self:
        """The index of a baseline's events."""
        layout = baseline.layout
        rows: list[tuple[int, EventKind, int, int, int]] = []
        starts: list[int] = []
        for position, (column, place) in enumerate(zip(layout.columns, layout.slices, strict=True)):
            starts.append(len(rows))
            rows.extend((position, *event) for event in _events_of(column, int(place.start)))
        kinds = tuple(row[1] for row in rows)
        column_of, item, first, stop = (
            np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 2, 3, 4)
        )
        over_rows = np.array([kind in _OVER_ROWS for kind in kinds])
        tail = np.array([e for e, kind in enumerate(kinds) if kind is EventKind.OUT_OF_RANGE], dtype=np.int64)
        mean = np.array([e for e, kind in enumerate(kinds) if kind is EventKind.MEAN], dtype=np.int64)
        nothing = BlockEvents(hits=np.zeros(0, dtype=np.int64), totals=np.zeros(0, dtype=np.int64))
        draft = cls(
            baseline=baseline,
            column=column_of,
            starts=np.array(starts, dtype=np.int64),
            kinds=kinds,
            item=item,
            first=first,
            stop=stop,
            tail=tail,
            tail_slot=layout.cell_stop - 1,
            over_rows=over_rows,
            mean=mean,
            trained=nothing,
        )
        fields = {name: getattr(draft, name) for name in cls.__slots__}
        return cls(**fields | {"trained": draft.count(baseline.profile)})

    def count(self, profile: Profile) -> BlockEvents:
        """The events of one profile of this baseline."""
        return self.count_stack(profile.counts, np.asarray(profile.rows, dtype=np.int64))

    def count_stack(self, counts: IntArray, rows: IntArray) -> BlockEvents:
        """Events [..., E] of counts int64 [..., layout.length] over rows int64 [...]."""
        layout = self.baseline.layout
        if counts.shape[-1] != layout.length:
            raise DetectorError(
                f"a profile of {counts.shape[-1]} slots was not counted on this baseline of {layout.length}"
            )
        # Sums of int64 wrap round and their differences wrap back: exact whatever the fixed sums add up to.
        sums = np.zeros((*counts.shape[:-1], layout.length + 1), dtype=np.int64)
        np.cumsum(counts, axis=-1, out=sums[..., 1:])
        hits = sums[..., self.stop] - sums[..., self.first]
        hits[..., self.tail] += counts[..., self.tail_slot]
        present = layout.present(counts, rows)
        totals = np.where(self.over_rows, rows[..., np.newaxis], present[..., self.column])
        if np.any(totals[..., self.mean] > MAX_CONFIDENCE_ROWS):
            raise DetectorError(
                f"a block of {int(totals.max())} rows passes {MAX_CONFIDENCE_ROWS}, the most whose confidence "
                "can be summed; choose a shorter block"
            )
        totals[..., self.mean] *= CONFIDENCE_UNIT
        return BlockEvents(hits=hits, totals=totals)

    def count_one(self, event: int, counts: IntArray, rows: int) -> tuple[int, int]:
        """`(hits, total)` of one event in one count vector [length], for messages; (0, 0) beyond what can be summed."""
        column = int(self.column[event])
        present = rows if self.over_rows[event] else rows - int(counts[self.baseline.layout.missing[column]])
        hits = int(counts[self.first[event] : self.stop[event]].sum())
        hits += int(counts[self.tail_slot[self.tail == event]].sum())
        if self.kinds[event] is not EventKind.MEAN:
            return hits, present
        return (hits, present * CONFIDENCE_UNIT) if present <= MAX_CONFIDENCE_ROWS else (0, 0)

    def describe(self, event: int) -> str:
        """The event in words, such as "age ≤ 39.2"."""
        column = self.baseline.columns[int(self.column[event])]
        return _describe(column, self.kinds[event], int(self.item[event]))


def block_events(baseline: Baseline, profile: Profile) -> BlockEvents:
    """The events of one profile. Where blocks come by the minute, keep `EventIndex.of(baseline)` and call `count`."""
    return EventIndex.of(baseline).count(profile)


_OVER_ROWS: Final = frozenset({EventKind.MISSING, EventKind.NON_FINITE, EventKind.OUT_OF_RANGE})


def _events_of(column: Column, start: int) -> list[tuple[EventKind, int, int, int]]:
    """`(kind, item, first slot, one past the last slot)` of one column's events, in order."""
    if isinstance(column, CategoricalColumn):
        known = len(column.categories)
        named = [(EventKind.CATEGORY, i, start + i, start + i + 1) for i in range(known)]
        ends = (EventKind.OTHER, EventKind.UNSEEN, EventKind.MISSING)
        return named + [(kind, 0, start + known + i, start + known + i + 1) for i, kind in enumerate(ends)]
    cells = 2 * column.cuts.size + 1
    below = [(EventKind.BELOW, cut, start, start + 2 * cut + 2) for cut in column.evidence_cuts.tolist()]
    missing = start + cells
    rates = [
        (EventKind.MISSING, 0, missing, missing + 1),
        (EventKind.NON_FINITE, 0, missing + 1, missing + 2),
        (EventKind.OUT_OF_RANGE, 0, start, start + 1),
    ]
    if column.role is ColumnRole.CONFIDENCE:
        rates.append((EventKind.MEAN, 0, missing + 2, missing + 3))
    return below + rates


def _describe(column: Column, kind: EventKind, item: int) -> str:
    name = column.name
    if kind is EventKind.BELOW and isinstance(column, NumericColumn):
        return f"{name} ≤ {column.cuts[item]:.6g}"
    if kind is EventKind.OUT_OF_RANGE and isinstance(column, NumericColumn):
        return f"{name} outside [{column.cuts[0]:.6g}, {column.cuts[-1]:.6g}]"
    if kind is EventKind.CATEGORY and isinstance(column, CategoricalColumn):
        return f"{name} = {column.categories[item]}"
    words = {
        EventKind.MISSING: "{} missing",
        EventKind.NON_FINITE: "{} infinite",
        EventKind.MEAN: "mean of {}",
        EventKind.OTHER: "{} one of the rarer categories",
        EventKind.UNSEEN: "{} never seen in training",
    }
    return words[kind].format(name)
