"""Rolling windows as running sums of panes.

A window is the integer sum of the panes in it, so sliding it costs one addition and one subtraction whatever
the traffic. Only integers slide: float moments are never subtracted (one expired 1e300 would poison a
running sum), they are kept per pane and merged anew where somebody asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.counts import Layout, Profile, merge_moments
from detectors.types import FloatArray, IntArray

FetchPanes = Callable[[Sequence[tuple[int, int]]], Mapping[int, Profile]]
"""Reads the stored panes whose start lies in one of the half-open spans, in epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStack:
    """Every window of one column set at one boundary.

    `counts` is int64 [windows, layout.length], `rows` int64 [windows].
    """

    seconds: tuple[int, ...]
    counts: IntArray
    rows: IntArray

    @property
    def empty(self) -> bool:
        return not bool(self.rows.any())


class RollingWindows:
    """The running sums of one baseline and segment, moved from boundary to boundary."""

    def __init__(self, layout: Layout, pane_seconds: int, windows: Sequence[int], fetch: FetchPanes) -> None:
        self._layout = layout
        self._pane = pane_seconds
        self._windows = tuple(windows)
        self._fetch = fetch
        self._boundary: int | None = None
        self._counts = np.zeros((len(self._windows), layout.length), dtype=np.int64)
        self._rows = np.zeros(len(self._windows), dtype=np.int64)
        self._moments: dict[int, tuple[int, FloatArray]] = {}

    @property
    def boundary(self) -> int | None:
        """The boundary the sums stand at, in epoch seconds; None before the first `move_to`."""
        return self._boundary

    def move_to(self, boundary: int) -> WindowStack:
        """Slide every window so that it ends at `boundary` (epoch seconds, exclusive)."""
        if self._boundary is None or not self._boundary <= boundary <= self._boundary + self._windows[0]:
            self._rebuild(boundary)
        elif boundary > self._boundary:
            self._slide(self._boundary, boundary)
        self._boundary = boundary
        return WindowStack(seconds=self._windows, counts=self._counts.copy(), rows=self._rows.copy())

    def add_late(self, start: int, delta: Profile, merged: Profile) -> None:
        """Take in rows that reached the pane at `start` after the windows had passed it.

        `delta` is what came, `merged` the whole pane as it is now stored.
        """
        if self._boundary is None or start >= self._boundary:
            return
        for index, seconds in enumerate(self._windows):
            if start >= self._boundary - seconds:
                self._counts[index] += delta.counts
                self._rows[index] += delta.rows
        if start >= self._boundary - self._windows[-1]:
            self._moments[start] = (merged.rows, merged.moments)

    def span(self) -> tuple[int, int] | None:
        """The event time the sums reach over, in epoch seconds; None before the first `move_to`."""
        return None if self._boundary is None else (self._boundary - self._windows[-1], self._boundary)

    def agrees(self, rows_by_start: Mapping[int, int]) -> bool:
        """Whether the sums are made of exactly these panes, given as stored rows by start over `span`."""
        return {start: rows for start, (rows, _) in self._moments.items() if rows} == {
            start: rows for start, rows in rows_by_start.items() if rows
        }

    def forget(self) -> None:
        """Drop the sums, so that the next `move_to` reads the panes again."""
        self._boundary = None

    def clusters(self, window_index: int, cluster_seconds: int) -> FloatArray:
        """Moments (n, mean, M2) of the window in clusters of event time: float64 [clusters, columns, 3]."""
        assert self._boundary is not None
        first = self._boundary - self._windows[window_index]
        groups: dict[int, list[FloatArray]] = {}
        for start, (_, moments) in self._moments.items():
            if first <= start < self._boundary:
                groups.setdefault((start - first) // cluster_seconds, []).append(moments)
        if not groups:
            return np.zeros((0, len(self._layout.columns), 3))
        return np.stack([merge_moments(np.stack(group)) for _, group in sorted(groups.items())])

    def window_profile(self, window_index: int) -> Profile:
        """One window as a profile, moments included."""
        assert self._boundary is not None
        first = self._boundary - self._windows[window_index]
        parts = [m for s, (_, m) in sorted(self._moments.items()) if first <= s < self._boundary]
        moments = merge_moments(np.stack(parts)) if parts else np.zeros((len(self._layout.columns), 3))
        return Profile(
            rows=int(self._rows[window_index]), counts=self._counts[window_index].copy(), moments=moments
        )

    def _rebuild(self, boundary: int) -> None:
        self._counts[:] = 0
        self._rows[:] = 0
        self._moments.clear()
        panes = self._fetch([(boundary - self._windows[-1], boundary)])
        for start, pane in panes.items():
            self._moments[start] = (pane.rows, pane.moments)
            for index, seconds in enumerate(self._windows):
                if start >= boundary - seconds:
                    self._counts[index] += pane.counts
                    self._rows[index] += pane.rows

    def _slide(self, old: int, new: int) -> None:
        spans = [(old, new), *((old - seconds, new - seconds) for seconds in self._windows)]
        panes = self._fetch(spans)
        for start, pane in panes.items():
            if old <= start < new:
                self._moments[start] = (pane.rows, pane.moments)
            for index, seconds in enumerate(self._windows):
                entering = old <= start < new
                leaving = old - seconds <= start < new - seconds
                if entering:
                    self._counts[index] += pane.counts
                    self._rows[index] += pane.rows
                if leaving:
                    self._counts[index] -= pane.counts
                    self._rows[index] -= pane.rows
        self._drop_moments_before(new - self._windows[-1])

    def _drop_moments_before(self, start: int) -> None:
        for old in [s for s in self._moments if s < start]:
            del self._moments[old]
