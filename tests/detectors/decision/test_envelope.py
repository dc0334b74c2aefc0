"""Blocks of Phase I: merged exactly, grouped, freed of sampling noise, and turned into bands."""

import numpy as np
import pytest

from detectors.decision import Bands, BlockEvents, BlockStack, EventIndex, bands, learned_bands
from detectors.decision.envelope import column_shares, learned_band
from detectors.types import DetectorError, FloatArray
from tests.detectors.decision.samples import index_of, numeric

INDEX: EventIndex = index_of(numeric("x", np.random.default_rng(0).normal(size=10_000)))


def stack_of(shares: FloatArray, rows: int, seconds: int = 3_600) -> BlockStack:
    """Blocks of `rows` rows whose 16 events all have about the given share [N]; nothing missing or out of range."""
    hits = np.repeat(np.rint(shares * rows).astype(np.int64)[:, np.newaxis], 16, axis=1)
    hits[:, 13:] = 0
    starts = np.arange(shares.size, dtype=np.int64) * seconds
    return BlockStack(
        seconds=seconds, starts=starts, events=BlockEvents(hits=hits, totals=np.full_like(hits, rows))
    )


def test_longer_blocks_are_the_sums_of_shorter_ones() -> None:
    rng = np.random.default_rng(1)
    hits = rng.integers(0, 9, (50, 16))
    starts = np.sort(rng.choice(400, 50, replace=False)).astype(np.int64) * 900
    stack = BlockStack(seconds=900, starts=starts, events=BlockEvents(hits=hits, totals=hits + 3))
    longer = stack.longer(21_600)
    for start, found, total in zip(longer.starts, longer.events.hits, longer.events.totals, strict=True):
        inside = (starts >= start) & (starts < start + 21_600)
        assert np.array_equal(found, hits[inside].sum(axis=0))
        assert np.array_equal(total, (hits[inside] + 3).sum(axis=0))
    assert longer.events.hits.sum() == hits.sum()
    assert np.array_equal(stack.longer(3_600).longer(21_600).events.hits, longer.events.hits)


@pytest.mark.parametrize(
    ("rows", "blocks", "groups"),
    [(100, 10, 10), (99, 10, 5), (50, 10, 5), (40, 10, 3), (20, 4, 0), (120, 1, 1)],
)
def test_neighbours_merge_until_they_hold_100_values(rows: int, blocks: int, groups: int) -> None:
    found = column_shares(INDEX, stack_of(np.full(blocks, 0.5), rows), 0, moves=True)
    assert found.shape == (groups, 16)


@pytest.mark.parametrize(
    ("rows", "blocks", "groups"),
    [(6, 336, 19), (20, 336, 28), (120, 336, 67), (3_600, 336, 336), (700, 15, 15), (1, 336, 3)],
)
def test_a_column_that_stays_merges_to_500_values_where_that_leaves_fourteen_groups(
    rows: int, blocks: int, groups: int
) -> None:
    found = column_shares(INDEX, stack_of(np.full(blocks, 0.5), rows), 0, moves=False)
    assert found.shape == (groups, 16)


def test_what_is_left_over_joins_the_last_group() -> None:
    # 3 + 3 + 4 blocks of 40 rows: the tenth is not lost.
    shares = column_shares(INDEX, stack_of(np.array([0.5] * 9 + [1.0]), 40), 0, moves=True)
    assert shares[:, 0].tolist() == [0.5, 0.5, 0.625]


def drawn(levels: FloatArray, rows: int, *, batch: int = 1, seed: int = 3) -> BlockStack:
    """Blocks of `rows` rows at these levels [N], in batches of equal rows."""
    hits = np.random.default_rng(seed).binomial(rows // batch, levels) * batch
    return stack_of(hits / rows, rows)


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2])
def test_levels_are_freed_of_the_noise_of_thin_blocks(spread: float) -> None:
    levels = np.clip(np.random.default_rng(1).normal(0.5, spread, 2_000), 0.02, 0.98)
    found = column_shares(INDEX, drawn(levels, 100), 0, moves=True)[:, 6]
    # Raw shares spread by sqrt(level + .25/100): .071, .112 and .206. What stays beyond the truth is three standard errors.
    assert levels.std() <= found.std() <= levels.std() * 1.17
    assert found.mean() == pytest.approx(levels.mean(), abs=0.01)


def test_noise_that_sampling_does_not_explain_stays() -> None:
    # Ten equal rows at a time: the shares of one level spread sqrt(10) times as far as a binomial's.
    still = np.full(2_000, 0.5)
    batches = column_shares(INDEX, drawn(still, 100, batch=10), 0, moves=True)[:, 6]
    assert batches.std() == pytest.approx(np.sqrt(0.25 / 10), rel=0.05)
    alone = column_shares(INDEX, drawn(still, 100), 0, moves=True)[:, 6]
    assert alone.std() < 0.3 * np.sqrt(0.25 / 100)


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("groups", [14, 336])
def test_half_as_far_again_holds_the_true_levels_as_well_as_raw_shares_would(
    groups: int, spread: float
) -> None:
    """Few groups tell noise from level badly, so there hardly any is taken away. What is within tolerance needs no envelope."""
    tolerance = bands(INDEX).high[6] - 0.5
    rng, lost = np.random.default_rng(4), []
    for seed in range(200):
        levels = rng.normal(0.5, spread, groups)
        stack = drawn(levels, 100, seed=seed)
        raw, found = stack.events.hits[:, 6] / 100, column_shares(INDEX, stack, 0, moves=True)[:, 6]
        held = [
            levels.min() - 0.5 >= min(1.5 * (one.min() - 0.5), -tolerance)
            and levels.max() - 0.5 <= max(1.5 * (one.max() - 0.5), tolerance)
            for one in (raw, found)
        ]
        lost.append(held == [True, False])
    assert np.mean(lost) <= 0.01


@pytest.mark.parametrize(
    ("trained", "seen", "low", "high"),
    [
        (0.5, [0.4, 0.6], 0.35, 0.65),
        (0.5, [0.49, 0.51], 0.45, 0.55),  # never narrower than the floor
        (0.5, [0.6, 0.7], 0.45, 0.8),  # all above: nothing was learned of below
        (0.5, [0.0, 1.0], 0.0, 1.0),  # no bet left
        (0.9, [0.5, 0.95], 0.3, 0.975),
    ],
)
def test_the_band_is_half_as_far_again_as_the_envelope(
    trained: float, seen: list[float], low: float, high: float
) -> None:
    found = learned_band(
        np.array([trained]),
        np.array(seen)[:, np.newaxis],
        np.array([min(0.45, trained)]),
        np.array([max(0.55, trained)]),
    )
    assert found[0][0] == pytest.approx(low)
    assert found[1][0] == pytest.approx(high)


def test_blocks_under_an_hour_use_the_envelope_of_an_hour() -> None:
    floor = bands(INDEX)
    shares = np.tile([0.2, 0.8, 0.2, 0.8], 24)
    quarters = learned_bands(INDEX, stack_of(shares, 600, 900), floor)
    hours = learned_bands(INDEX, stack_of(shares, 600, 900).longer(3_600), floor)
    assert np.array_equal(quarters.low, hours.low)
    assert np.array_equal(quarters.high, hours.high)
    # Every hour holds .5 on average: the median's band is the floor, while at 1 h blocks it would be wide.
    assert quarters.high[6] == floor.high[6]
    wide: Bands = learned_bands(INDEX, stack_of(shares, 600, 3_600), floor)
    assert wide.high[6] == pytest.approx(0.5 + 1.5 * 0.3, abs=0.01)


@pytest.mark.parametrize(
    ("starts", "seconds"), [([0, 0], 60), ([60, 0], 60), ([30, 90], 60), ([0], 60), ([0, 60], 0)]
)
def test_stacks_that_are_none_are_refused(starts: list[int], seconds: int) -> None:
    counts = np.zeros((2, 16), dtype=np.int64)
    with pytest.raises(DetectorError):
        BlockStack(
            seconds=seconds,
            starts=np.array(starts, dtype=np.int64),
            events=BlockEvents(hits=counts, totals=counts),
        )
    with pytest.raises(DetectorError, match="cannot be made"):
        stack_of(np.full(3, 0.5), 10, 3_600).longer(5_000)
