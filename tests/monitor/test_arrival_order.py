"""Event time, whatever the order of arrival: the same batches make the same counts, and every row is counted once.

The order of arrival decides in which block a late row bears its evidence, never whether it does.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.codec import decode_profile
from detectors.decision import BlockEvents
from detectors.types import FloatArray, IntArray
from storage import batches, blocks, cursors, panes
from tests.monitor import frames
from tests.monitor.world import CONFIG, START, World

BASELINE = frames.baseline()
LATE = CONFIG.replace("[models.credit]", '[models.credit]\nmax_past = "90d"')
MINUTES = st.lists(st.integers(0, 90), min_size=2, max_size=7)
"""When each batch happened; a batch of the list has its number as seed, so that all are different."""
ACTS = st.lists(st.sampled_from(["wait", "look", "restart"]), min_size=7, max_size=7)


class Run:
    """One world after all batches have come in some order, and what is stored of them."""

    def __init__(self, directory: Path, minutes: list[int], order: list[int], acts: list[str]) -> None:
        world = World(directory / "state", config=LATE, start=START + timedelta(minutes=100))
        world.register(BASELINE)
        watermark = -1
        for number, act in zip(order, acts, strict=False):
            world.clock.advance(timedelta(seconds=7))
            at = START + timedelta(minutes=minutes[number])
            world.send(
                at, frames.rows(number, 5 + number), batch_id=f"b{number}", spread=timedelta(minutes=2)
            )
            if act != "wait":
                world.look()
            if act == "restart":
                world.restart()
            with world.service.database.read() as conn:
                now = cursors.get(conn, 1).watermark_ns or -1
            assert now >= watermark
            watermark = now
        world.look()
        with world.service.database.read() as conn:
            self.panes = panes.window(conn, 1, "", 60, 0, 2**40)
            stored = blocks.list_blocks(conn, 1, "", start=0, end=2**40)
            cursor = cursors.get(conn, 1)
            self.unfolded = len(batches.unfolded(conn, limit=100))
        self.watermark, self.newest = cursor.watermark_ns, cursor.newest_event_ns
        self.block_rows = sum(row.rows for row in stored)
        events = [BlockEvents.decode(row.events) for row in stored]
        self.hits: IntArray = np.sum([e.hits for e in events], axis=0)
        self.totals: IntArray = np.sum([e.totals for e in events], axis=0)
        world.close()

    @property
    def counts(self) -> dict[int, list[int]]:
        """The counts of every pane by its start."""
        return {p.start: decode_profile(BASELINE.layout, p.profile).counts.tolist() for p in self.panes}

    @property
    def moments(self) -> FloatArray:
        """Those of every pane, in order of their starts."""
        return np.stack([decode_profile(BASELINE.layout, p.profile).moments for p in self.panes])


@settings(max_examples=12, deadline=None)
@given(minutes=MINUTES, acts=ACTS, other=ACTS, data=st.data())
def test_any_order_any_grouping_and_any_restart_count_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    minutes: list[int],
    acts: list[str],
    other: list[str],
    data: st.DataObject,
) -> None:
    order = list(range(len(minutes)))
    first = Run(tmp_path_factory.mktemp("a"), minutes, order, acts)
    second = Run(tmp_path_factory.mktemp("b"), minutes, data.draw(st.permutations(order)), other)
    rows = sum(5 + number for number in order)
    for run in (first, second):
        assert run.unfolded == 0
        assert sum(pane.rows for pane in run.panes) == rows
        assert run.block_rows == rows  # each row in one block, late or not
    assert first.counts == second.counts
    np.testing.assert_allclose(first.moments, second.moments, rtol=1e-9, atol=1e-9)
    assert np.array_equal(first.hits, second.hits)
    assert np.array_equal(first.totals, second.totals)
    assert first.newest == second.newest
    assert first.watermark == second.watermark
