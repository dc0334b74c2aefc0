"""Folding: every row in one pane and one block, whatever the order of arrival."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import Profile, profile_rows
from monitor.fold import block_start, fold_rows
from monitor.watermark import NANOSECONDS
from tests.monitor import frames

BASELINE = frames.baseline()


def test_event_time_chooses_the_pane() -> None:
    times = np.array([61, 59, 0, 119, 120], dtype=np.int64) * NANOSECONDS
    folded = fold_rows(BASELINE, times, frames.rows(2, 5), block_seconds=60, evaluated_upto=None)
    assert {start: profile.rows for start, profile in folded.panes.items()} == {0: 2, 60: 2, 120: 1}
    assert folded.hours == {0: 5}


def test_hours_are_those_of_the_rows_also_where_a_pane_is_a_day() -> None:
    daily = frames.baseline(pane_seconds=86_400)
    times = np.array([7200, 3599, 0, 7201, 86_400, -1], dtype=np.int64) * NANOSECONDS
    folded = fold_rows(daily, times, frames.rows(2, 6), block_seconds=86_400, evaluated_upto=None)
    assert folded.hours == {-3600: 1, 0: 2, 7200: 2, 86_400: 1}
    nothing = fold_rows(daily, times[:0], frames.rows(2, 0), block_seconds=86_400, evaluated_upto=None)
    assert nothing.hours == {}


def test_a_pane_holds_exactly_its_own_rows() -> None:
    values = frames.rows(3, 50)
    times = np.repeat(np.array([0, 60], dtype=np.int64), 25) * NANOSECONDS
    folded = fold_rows(BASELINE, times, values, block_seconds=60, evaluated_upto=None)
    alone = profile_rows(BASELINE, {name: column[25:] for name, column in values.items()})
    assert np.array_equal(folded.panes[60].counts, alone.counts)


@pytest.mark.parametrize(
    ("pane", "evaluated_upto", "expected"),
    [
        (0, None, 0),
        (540, 600, 600),  # its hour is open, its ten minutes are closed
        (600, 600, 600),
        (660, 600, 600),
        (0, 605, 600),
        (1260, 600, 1200),
    ],
)
def test_late_rows_enter_the_next_block_to_close(
    pane: int, evaluated_upto: int | None, expected: int
) -> None:
    assert block_start(pane, 600, evaluated_upto) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 600), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(0, 600),
)
def test_split_and_shuffled_groups_add_up_to_the_same_counts(
    seconds: list[int], random: object, evaluated: int
) -> None:
    times = np.array(seconds, dtype=np.int64) * NANOSECONDS
    values = frames.rows(4, times.size)
    once = fold_rows(BASELINE, times, values, block_seconds=120, evaluated_upto=evaluated)
    order = np.arange(times.size)
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    half = times.size // 2
    parts = [
        fold_rows(
            BASELINE,
            times[rows],
            {n: v[rows] for n, v in values.items()},
            block_seconds=120,
            evaluated_upto=evaluated,
        )
        for rows in (order[:half], order[half:])
    ]
    for kind in ("panes", "blocks"):
        whole = getattr(once, kind)
        starts = {start for part in parts for start in getattr(part, kind)}
        assert starts == set(whole)
        for start in starts:
            merged = Profile.merge(
                [getattr(part, kind)[start] for part in parts if start in getattr(part, kind)]
            )
            assert np.array_equal(merged.counts, whole[start].counts)
    assert sum(profile.rows for profile in once.blocks.values()) == times.size
