"""Moments side by side must be those that were put there, in order of time, whatever came late or left."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import FloatArray
from monitor.pane_moments import PaneMoments

COLUMNS = 2
Steps = list[tuple[str, int]]


def moments_of(serial: int) -> FloatArray:
    """Moments that differ by serial number; every third pane holds no value of the second column."""
    return np.array([[1.0, serial, 0.5], [float(serial % 3), serial + 0.25, 0.0]])


def check(held: dict[int, FloatArray], panes: PaneMoments, first: int, end: int, width: int) -> None:
    within = [start for start in sorted(held) if first <= start < end]
    expected = np.array([held[start] for start in within]).reshape(-1, COLUMNS, 3)
    assert np.array_equal(panes.between(first, end), expected)
    for column in range(COLUMNS):
        clusters = {(start - first) // width for start in within if held[start][column, 0] > 0}
        assert panes.clusters(first, end, width)[column] == len(clusters)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["next", "next", "next", "late", "drop", "clear"]), st.integers(1, 90)),
        max_size=300,
    ),
    st.integers(1, 400),
)
def test_panes_are_kept_in_order_of_time(steps: Steps, width: int) -> None:
    panes, held, last = PaneMoments(COLUMNS), dict[int, FloatArray](), 0
    for serial, (step, by) in enumerate(steps):
        if step in ("next", "late"):
            start = last + by if step == "next" else max(last - 7 * by, 0)
            last = max(last, start)
            panes.put(start, moments_of(serial))
            held[start] = moments_of(serial)
        elif step == "drop":
            panes.drop_before(last - 20 * by)
            held = {start: moments for start, moments in held.items() if start >= last - 20 * by}
        elif by > 80:
            panes.clear()
            held.clear()
    check(held, panes, 0, last + 1, width)
    check(held, panes, last - 500, last - 100, width)


def test_a_day_of_minutes_passes_through_without_growing() -> None:
    panes = PaneMoments(COLUMNS)
    for minute in range(5_000):
        panes.put(60 * minute, moments_of(minute))
        panes.drop_before(60 * (minute - 1_439))
    kept = panes.between(0, 60 * 5_000)
    assert kept[:, 0, 1].tolist() == list(range(3_560, 5_000))
    assert kept.base is not None
    assert kept.base.shape[1] <= 1_440 * 5 // 4
