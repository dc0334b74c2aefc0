"""Rolling windows as running sums of panes.

A window is the integer sum of the panes in it, so sliding it costs one addition and one subtraction whatever
the traffic. Only integers slide: float moments are never subtracted (one expired 1e300 would poison a
running sum), they are kept per pane and merged anew where somebody asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.counts import Layout, Profile, merge_means, merge_moments
from detectors.types import FloatArray, IntArray
from monitor.pane_moments import PaneMoments

FetchPanes = Callable[[Sequence[tuple[int, int]]], Mapping[int, Profile]]
"""Reads the stored panes whose start lies in one of the half-open spans, in epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStack:
    """Every window of one column set at one boundary.

    `counts` is int64 [windows, layout.length], `rows` int64 [windows]. The counts are the running sums themselves, not to be
    written to, and good until the windows move or take rows in: a copy would cost as much as D.
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
        self._moments = PaneMoments(len(layout.columns))
        self._held: dict[int, int] = {}  # rows of each pane in the sums, by start; late ones come last

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
        counts = self._counts.view()
        counts.flags.writeable = False
        return WindowStack(seconds=self._windows, counts=counts, rows=self._rows.copy())

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
            self._moments.put(start, merged.moments)
            self._held[start] = self._held.get(start, 0) + delta.rows

    def span(self) -> tuple[int, int] | None:
        """The event time the sums reach over, in epoch seconds; None before the first `move_to`."""
        return None if self._boundary is None else (self._boundary - self._windows[-1], self._boundary)

    def agrees(self, rows_by_start: Mapping[int, int]) -> bool:
        """Whether the sums are made of exactly these panes, given as stored rows by start over `span`."""
        first, _ = self.span() or (0, 0)
        held, stored = (
            {start: rows for start, rows in panes.items() if rows and start >= first}
            for panes in (self._held, rows_by_start)
        )
        return held == stored

    def forget(self) -> None:
        """Drop the sums, so that the next `move_to` reads the panes again."""
        self._boundary = None

    def clusters(self, window_index: int, cluster_seconds: int) -> IntArray:
        """How many clusters of event time in the window hold a finite value, per column: int64 [C]."""
        return self._moments.clusters(*self._span(window_index), cluster_seconds)

    def means(self, window_index: int) -> FloatArray:
        """How many finite values the window holds, and their mean, per column: float64 [C, 2]."""
        moments = self._moments.between(*self._span(window_index))
        return np.stack(merge_means(moments[..., 0], moments[..., 1]), axis=-1)

    def window_profile(self, window_index: int) -> Profile:
        """One window as a profile, moments included."""
        return Profile(
            rows=int(self._rows[window_index]),
            counts=self._counts[window_index].copy(),
            moments=merge_moments(self._moments.between(*self._span(window_index))),
        )

    def _span(self, window_index: int) -> tuple[int, int]:
        assert self._boundary is not None
        return self._boundary - self._windows[window_index], self._boundary

    def _rebuild(self, boundary: int) -> None:
        self._counts[:] = 0
        self._rows[:] = 0
        self._moments.clear()
        self._held.clear()
        panes = self._fetch([(boundary - self._windows[-1], boundary)])
        for start, pane in panes.items():
            self._moments.put(start, pane.moments)
            self._held[start] = pane.rows
            for index, seconds in enumerate(self._windows):
                if start >= boundary - seconds:
                    self._counts[index] += pane.counts
                    self._rows[index] += pane.rows

    def _slide(self, old: int, new: int) -> None:
        spans = [(old, new), *((old - seconds, new - seconds) for seconds in self._windows)]
        panes = self._fetch(spans)
        for start, pane in panes.items():
            if old <= start < new:
                self._moments.put(start, pane.moments)
                self._held[start] = pane.rows
            for index, seconds in enumerate(self._windows):
                entering = old <= start < new
                leaving = old - seconds <= start < new - seconds
                if entering:
                    self._counts[index] += pane.counts
                    self._rows[index] += pane.rows
                if leaving:
                    self._counts[index] -= pane.counts
                    self._rows[index] -= pane.rows
        self._moments.drop_before(new - self._windows[-1])
        while self._held and next(iter(self._held)) < new - self._windows[-1]:
            del self._held[next(iter(self._held))]
