"""B, weights, columns and versions change while evidence is under way: what was earned stays, what is spent is the new rule's.

R − Σ a is a supermartingale whatever `a` is chosen before a block, so the promise needs two things of the daemon: a
change touches no stored evidence, and at each block the parts of everything that may page add up to at most B.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from detectors.decision import BlockEvents, EventIndex, Evidence, advance, evidence_mean, unlearned
from storage import blocks, cursors
from tests.monitor import frames
from tests.monitor.world import CONFIG, World

BASELINE = frames.baseline()
INDEX = EventIndex.of(BASELINE)
MINUTE = timedelta(minutes=1)


def config(pages: float, *, weights: str = "", ignore: str = "") -> str:
    added = "".join(f"{line}\n" for line in (weights, ignore) if line)
    return CONFIG.replace("false_pages_per_year = 1.0\n", f"false_pages_per_year = {pages}\n{added}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state", config=config(1.0))
    opened.register(BASELINE)
    yield opened
    opened.close()


def stored(world: World, baseline_id: int = 1) -> Evidence:
    with world.service.database.read() as conn:
        found = cursors.get_evidence(conn, baseline_id, "")
    assert found is not None
    return Evidence.decode(found.state)


def after(
    world: World,
    before: Evidence,
    since: int,
    pages: float,
    shares: list[float],
    *,
    index: EventIndex = INDEX,
    baseline_id: int = 1,
) -> Evidence:
    """`before` advanced by the pure core over the blocks stored from `since` on, at the budget given."""
    rule = unlearned(index, [900, 3_600], 60)
    budget, state = rule.budget(pages, shares), before
    with world.service.database.read() as conn:
        rows = blocks.list_blocks(conn, baseline_id, "", start=since, end=2**40, closed=True)
    for row in rows:
        state = advance(state, BlockEvents.decode(row.events), rule.bands, budget, block_start=row.start)
    return state


def next_block(world: World) -> int:
    """Start of the first block that is not closed yet."""
    with world.service.database.read() as conn:
        rows = blocks.list_blocks(conn, 1, "", start=0, end=2**40, closed=True)
    return max((row.start for row in rows), default=-60) + 60


def go_on(world: World, minutes: int, seed: int) -> None:
    for minute in range(minutes):
        world.minute(seed + minute, shift=3.0)


def test_each_stretch_spends_what_its_own_rule_allows_and_keeps_what_was_earned(world: World) -> None:
    stretches = [
        (config(1.0), 1.0, [1 / 3] * 3),
        (config(500.0), 500.0, [1 / 3] * 3),
        (config(500.0, weights="weights = { temp = 3, carrier = 0 }"), 500.0, [3 / 4, 0.0, 1 / 4]),
        (config(0.5, ignore='ignore = ["confidence"]'), 0.5, [1 / 2, 1 / 2, 0.0]),
    ]
    expected = Evidence.zeros(INDEX)
    for number, (text, pages, shares) in enumerate(stretches):
        if number:
            world.restart(text)
            assert stored(world).encode() == expected.encode()
        since = next_block(world)
        go_on(world, 6, 100 * number)
        expected = after(world, expected, since, pages, shares)
        assert stored(world).encode() == expected.encode()
    assert evidence_mean(expected).max() > 0
    assert world.alerts() == []


def test_a_second_version_takes_its_part_and_starts_from_nothing(world: World) -> None:
    go_on(world, 5, 0)
    earned, since = stored(world), next_block(world)
    retrained = frames.baseline(n=5_000)
    world.register(retrained, version="2")
    for minute in range(5):
        at = world.clock.now()
        world.clock.advance(MINUTE)
        for version in ("1", "2"):
            rows = frames.rows(900 + minute, 60, shift=3.0)
            world.send(at, rows, version=version, spread=timedelta(seconds=59))
        world.look()
    # Half of the budget each, on the columns' thirds.
    part, index = [1 / 6] * 3, EventIndex.of(retrained)
    assert stored(world).encode() == after(world, earned, since, 1.0, part).encode()
    fresh = after(world, Evidence.zeros(index), 0, 1.0, part, index=index, baseline_id=2)
    assert stored(world, 2).encode() == fresh.encode()
    assert evidence_mean(fresh).max() > 0.0
