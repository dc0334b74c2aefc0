"""Folding: every row in exactly one block, whatever the order of arrival."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import Profile, profile_rows
from monitor.counting import profiles_by_pane
from monitor.fold import block_start, by_block
from monitor.ingest.counted import CountedPane
from monitor.watermark import NANOSECONDS
from tests.monitor import frames

BASELINE = frames.baseline()


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


def in_blocks(times: object, values: frames.Rows, evaluated: int) -> dict[tuple[str, int], Profile]:
    seconds = np.asarray(times, dtype=np.int64)
    panes = [
        CountedPane(segment=segment, start=start, rows_seen=profile.rows, profile=profile)
        for segment in ("", "region=eu")
        for start, profile in profiles_by_pane(BASELINE, seconds * NANOSECONDS, values).items()
    ]
    return by_block(panes, block_seconds=120, evaluated_upto=evaluated)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 600), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(0, 600),
)
def test_split_and_shuffled_groups_add_up_to_the_same_counts(
    seconds: list[int], random: object, evaluated: int
) -> None:
    times = np.array(seconds, dtype=np.int64)
    values = frames.rows(4, times.size)
    order = np.arange(times.size)
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    half = times.size // 2
    parts = [
        in_blocks(times[rows], {n: v[rows] for n, v in values.items()}, evaluated)
        for rows in (order[:half], order[half:])
    ]
    # By hand: each row into the block of its pane.
    own = np.array([block_start(second // 60 * 60, 120, evaluated) for second in seconds])
    starts = {("", int(start)) for start in own} | {("region=eu", int(start)) for start in own}
    assert {key for part in parts for key in part} == starts
    for segment, start in starts:
        mine = np.flatnonzero(own == start)
        alone = profile_rows(BASELINE, {n: v[mine] for n, v in values.items()})
        merged = Profile.merge([part[segment, start] for part in parts if (segment, start) in part])
        assert merged.rows == alone.rows
        assert np.array_equal(merged.counts, alone.counts)
