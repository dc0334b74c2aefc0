"""Which columns' blocks close at which boundary, where block lengths differ by column.

Blocks are stored at one length, the base; a longer one is the sum of those inside it, aligned to the epoch (days are UTC
days). At every boundary each column whose block ends there bets on that block, with a budget by its own length:

for closed in closing(calibration, base_seconds, base_blocks, after=upto, upto=boundary, valid_from=start):
    evidence = advance(evidence, closed.events, calibration.bands, calibration.budget(pages, weights),
                       block_start=closed.starts, columns=closed.columns)

A bet must be placed before its block is seen, and once. So a column's block that began before its `Terms` came into force is
not bet on: part of it has been bet on in blocks of another length, or was looked at to learn its bands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from detectors.decision.calibration import Calibration
from detectors.decision.events import BlockEvents
from detectors.decision.stored import seal, unseal
from detectors.types import DetectorError, IntArray

_MAGIC: Final = b"DTE\x01"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """What each column bets on: blocks of `seconds` int64 [C] that begin at or after `since` int64 [C], epoch seconds."""

    seconds: IntArray
    since: IntArray

    @classmethod
    def of(cls, calibration: Calibration, since: int) -> Self:
        """A calibration's block lengths, in force for every column from `since` on."""
        return cls(seconds=calibration.block_seconds, since=np.full_like(calibration.block_seconds, since))

    def under(
        self, calibration: Calibration, at: int, anew: npt.NDArray[np.bool_] | Literal[False] = False
    ) -> "Terms":
        """Those of another calibration from `at` on: a column whose block length stays keeps its block under way,
        unless it is marked in `anew` bool [C].
        """
        kept = (self.seconds == calibration.block_seconds) & ~np.asarray(anew)
        return Terms(seconds=calibration.block_seconds, since=np.where(kept, self.since, at))

    def encode(self) -> bytes:
        """The exact numbers: sealed, little-endian int64 `seconds`, then `since`."""
        return seal(_MAGIC, np.concatenate([self.seconds, self.since]).astype("<i8").tobytes())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What was encoded; DetectorError on damage."""
        seconds, since = (
            np.frombuffer(unseal(_MAGIC, data, "terms"), dtype="<i8").astype(np.int64).reshape(2, -1)
        )
        return cls(seconds=seconds, since=since)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClosedBlocks:
    """What closes at one boundary (epoch seconds): each column's own block in `events` [E], zero for the others.

    `starts` int64 [C]: where each column's block began; `columns` bool [C]: those that close.
    """

    boundary: int
    starts: IntArray
    columns: npt.NDArray[np.bool_]
    events: BlockEvents


def first_needed(calibration: Calibration, after: int) -> int:
    """Start of the oldest base block that a block closing later than `after` may hold, in epoch seconds."""
    return int((after // calibration.block_seconds * calibration.block_seconds).min())


class OpenBlocks:
    """The blocks of every length that are under way: base blocks go in, in order, whole ones come out.

    Holds one sum per length, so a block of a week costs no more memory than one of a minute.
    """

    def __init__(self, calibration: Calibration, base_seconds: int, *, after: int, terms: Terms) -> None:
        """Blocks that ended by `after`, and those that the terms leave out, never come out.

        Refuses a column's length that is no multiple of the base.
        """
        seconds = terms.seconds
        if np.any(seconds % base_seconds):
            raise DetectorError(
                f"block lengths {sorted(set(seconds.tolist()))} are not all multiples of {base_seconds} s"
            )
        self._seconds = seconds
        self._lengths: tuple[int, ...] = tuple(sorted(set(seconds.tolist())))
        sizes = np.diff(calibration.starts, append=calibration.bands.low.size)
        self._column = np.repeat(np.arange(seconds.size), sizes)
        self._after = after
        self._since = terms.since
        self._open: dict[int, tuple[int, BlockEvents]] = {}
        self._last: int | None = None

    def add(self, start: int, events: BlockEvents) -> Iterator[ClosedBlocks]:
        """Take in the base block at `start`, after everything that closed before it."""
        if self._last is not None and start <= self._last:
            raise DetectorError(
                f"the base block at {start} comes after that at {self._last}; add them up first"
            )
        yield from self.close(start)
        self._last = start
        for length in self._lengths:
            begun, whole = self._open.get(length, (start // length * length, None))
            self._open[length] = (begun, events if whole is None else whole + events)

    def close(self, upto: int) -> Iterator[ClosedBlocks]:
        """Every boundary up to `upto` at which a block with rows closes, in order."""
        ended = sorted(
            (begun + length, length) for length, (begun, _) in self._open.items() if begun + length <= upto
        )
        for boundary, group in groupby(ended, key=lambda end: end[0]):
            closed = self._at(boundary, [length for _, length in group])
            if closed.columns.any():
                self._after = boundary
                yield closed

    def _at(self, boundary: int, lengths: list[int]) -> ClosedBlocks:
        hits, totals = np.zeros((2, self._column.size), dtype=np.int64)
        closes = np.zeros(self._seconds.size, dtype=np.bool_)
        for length in lengths:
            begun, events = self._open.pop(length)
            if boundary <= self._after:
                continue
            due = (self._seconds == length) & (begun >= self._since)
            np.copyto(hits, events.hits, where=due[self._column])
            np.copyto(totals, events.totals, where=due[self._column])
            closes |= due
        return ClosedBlocks(
            boundary=boundary,
            starts=boundary - self._seconds,
            columns=closes,
            events=BlockEvents(hits=hits, totals=totals),
        )


def closing(
    calibration: Calibration,
    base_seconds: int,
    blocks: Iterable[tuple[int, BlockEvents]],
    *,
    after: int,
    upto: int,
    valid_from: int,
) -> Iterator[ClosedBlocks]:
    """Every boundary in (after, upto] at which a block with rows closes, in order.

    `blocks` are base blocks by start, in any order, each once and complete, at least those from
    `first_needed(calibration, after)` up to `upto`; others are left aside. `valid_from` is when the calibration came
    into force.
    """
    terms = Terms.of(calibration, valid_from)
    under_way = OpenBlocks(calibration, base_seconds, after=after, terms=terms)
    for start, events in sorted(blocks, key=lambda block: block[0]):
        if start + base_seconds <= upto:
            yield from under_way.add(start, events)
    yield from under_way.close(upto)
