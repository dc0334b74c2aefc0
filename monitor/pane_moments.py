"""The moments of a run of panes, side by side in order of time.

Means are merged anew at every boundary, over all panes of every window, because float sums must not slide. In one block of
memory that is a few passes over an array; pane by pane it would be most of a boundary's cost.
"""

from typing import Final

import numpy as np

from detectors.types import FloatArray, IntArray

_SPARE: Final = 64
"""Panes that fit before the first move, and at least a quarter more than are held after every other."""


class PaneMoments:
    """Moments [C, 3] (n, mean, sum of squared deviations) by the start of their pane, in epoch seconds."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._first, self._stop = 0, 0
        self._starts: IntArray = np.zeros(0, dtype=np.int64)
        self._values: FloatArray = np.zeros((3, 0, columns))

    def put(self, start: int, moments: FloatArray) -> None:
        """Take in a pane, or another version of one that is here."""
        place = self._place(start)
        known = place < self._stop and self._starts[place] == start
        if not known:
            place = self._insert(place)
        self._starts[place] = start
        self._values[:, place] = moments.T

    def drop_before(self, start: int) -> None:
        """Forget the panes that begin before `start`."""
        self._first = self._place(start)

    def clear(self) -> None:
        """Forget them all."""
        self._first = self._stop = 0

    def between(self, first: int, end: int) -> FloatArray:
        """The moments of the panes that begin in [first, end): a view [P, C, 3], good until the next change."""
        return np.moveaxis(self._values[:, self._place(first) : self._place(end)], 0, -1)

    def clusters(self, first: int, end: int, seconds: int) -> IntArray:
        """How many stretches of `seconds`, counted from `first`, hold a finite value: int64 [C]."""
        held = slice(self._place(first), self._place(end))
        number = (self._starts[held] - first) // seconds
        if number.size == 0:
            return np.zeros(self._columns, dtype=np.int64)
        changes = np.ones(number.size, dtype=np.bool_)
        np.not_equal(number[1:], number[:-1], out=changes[1:])
        some = np.logical_or.reduceat(self._values[0, held] > 0, np.flatnonzero(changes), axis=0)
        clusters: IntArray = some.sum(axis=0)
        return clusters

    def _place(self, start: int) -> int:
        """Where the panes from `start` on begin."""
        return self._first + int(np.searchsorted(self._starts[self._first : self._stop], start))

    def _insert(self, place: int) -> int:
        """Make room for one more pane at a place, which is where it has moved to."""
        if self._stop == self._starts.size:
            place -= self._first
            self._repack()
        here, there = slice(place, self._stop), slice(place + 1, self._stop + 1)
        self._starts[there] = self._starts[here].copy()
        self._values[:, there] = self._values[:, here].copy()
        self._stop += 1
        return place

    def _repack(self) -> None:
        """Move the panes to the front of a block with room for a quarter more."""
        held, size = slice(self._first, self._stop), self._stop - self._first
        room = size + max(_SPARE, size // 4)
        starts, values = np.zeros(room, dtype=np.int64), np.zeros((3, room, self._columns))
        starts[:size], values[:, :size] = self._starts[held], self._values[:, held]
        self._starts, self._values = starts, values
        self._first, self._stop = 0, size
