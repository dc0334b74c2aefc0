"""Rolling windows: a running sum must always equal the sum of the stored panes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import Profile, profile_rows
from detectors.types import ColumnType
from monitor.windows import RollingWindows
from tests.monitor import frames

BASELINE = frames.baseline()
WINDOWS = (120, 300)


class Stored:
    """Panes as the database would hold them."""

    def __init__(self) -> None:
        self.panes: dict[int, Profile] = {}
        self.reads = 0

    def add(self, start: int, profile: Profile) -> Profile:
        old = self.panes.get(start)
        self.panes[start] = profile if old is None else Profile.merge([old, profile])
        return self.panes[start]

    def fetch(self, spans: Sequence[tuple[int, int]]) -> Mapping[int, Profile]:
        self.reads += 1
        return {s: p for s, p in self.panes.items() if any(a <= s < b for a, b in spans)}

    def window(self, boundary: int, seconds: int) -> Profile:
        parts = [p for s, p in self.panes.items() if boundary - seconds <= s < boundary]
        return Profile.merge([Profile.zeros(BASELINE.layout), *parts])


def pane(seed: int, n: int = 20) -> Profile:
    return profile_rows(BASELINE, frames.rows(seed, n))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(["pane", "late", "move", "jump", "forget"])),
        max_size=40,
    )
)
def test_sums_equal_a_recount_of_the_panes(steps: list[tuple[int, str]]) -> None:
    stored = Stored()
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, stored.fetch)
    boundary = 600
    for seed, step in steps:
        if step == "pane":
            stored.add(boundary, pane(seed))
        elif step == "late" and windows.boundary is not None:
            start, delta = boundary - 60 * (1 + seed % 8), pane(seed, 5)
            windows.add_late(start, delta, stored.add(start, delta))
        elif step == "forget":
            windows.forget()
        elif step in ("move", "jump"):
            boundary += 60 if step == "move" else 60 * (seed + 1)
            stack = windows.move_to(boundary)
            for index, seconds in enumerate(WINDOWS):
                expected = stored.window(boundary, seconds)
                assert np.array_equal(stack.counts[index], expected.counts)
                assert stack.rows[index] == expected.rows
                assert np.allclose(windows.window_profile(index).moments, expected.moments, rtol=1e-12)


def test_standing_still_reads_nothing() -> None:
    stored = Stored()
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, stored.fetch)
    windows.move_to(600)
    windows.move_to(600)
    assert stored.reads == 1


def test_clusters_are_counted_where_they_hold_a_value() -> None:
    stored = Stored()
    for start in (300, 360, 420, 540):
        stored.add(start, pane(start))
    nothing = {name: np.full(values.shape, np.nan) for name, values in frames.rows(1, 20).items()}
    stored.add(480, profile_rows(BASELINE, nothing))
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, stored.fetch)
    windows.move_to(600)
    held = [c.type is not ColumnType.CATEGORICAL for c in BASELINE.columns]
    assert windows.clusters(1, 60).tolist() == [4 * one for one in held]
    assert windows.clusters(1, 120).tolist() == [3 * one for one in held]
    assert windows.clusters(0, 60).tolist() == [1 * one for one in held]
    windows.move_to(660)  # the clusters are counted from the window's start: 360-480, 480-600, 600-660
    assert windows.clusters(1, 120).tolist() == [2 * one for one in held]


def test_counts_of_a_stack_cannot_be_written_to() -> None:
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, Stored().fetch)
    with pytest.raises(ValueError, match="read-only"):
        windows.move_to(600).counts[0, 0] = 1


def test_means_are_those_of_the_whole_window() -> None:
    stored = Stored()
    for start in range(300, 600, 60):
        stored.add(start, pane(start))
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, stored.fetch)
    windows.move_to(600)
    rows = [frames.rows(start, 20) for start in range(300, 600, 60)]
    for column, (n, mean) in zip(BASELINE.columns, windows.means(1).tolist(), strict=True):
        if column.type is ColumnType.CATEGORICAL:
            assert (n, mean) == (0.0, 0.0)
            continue
        values = np.concatenate([part[column.name] for part in rows]).astype(np.float64)
        assert n == np.isfinite(values).sum()
        assert mean == pytest.approx(float(np.nanmean(values)), rel=1e-12)
