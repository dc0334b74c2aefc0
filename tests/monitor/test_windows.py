"""Rolling windows: a running sum must always equal the sum of the stored panes."""

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import Profile, profile_rows
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


def test_clusters_hold_every_row_once() -> None:
    stored = Stored()
    for index in range(5):
        stored.add(300 + 60 * index, pane(index))
    windows = RollingWindows(BASELINE.layout, 60, WINDOWS, stored.fetch)
    windows.move_to(600)
    clusters = windows.clusters(1, 120)
    assert clusters.shape == (3, 3, 3)
    assert clusters[:, 0, 0].tolist() == [40.0, 40.0, 20.0]
