"""Whose block closes at which boundary, and that every row is bet on once."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.decision import BlockEvents, Calibration, ClosedBlocks, closing, first_needed
from detectors.decision.closing import OpenBlocks, Terms
from detectors.types import DetectorError
from tests.detectors.decision.test_calibration import small

HOUR = 3_600


def block(value: int) -> BlockEvents:
    return BlockEvents(hits=np.full(4, value), totals=np.full(4, 10 * value))


def run(
    seconds: tuple[int, int], starts: list[int], *, after: int = 0, upto: int = 10**9, valid_from: int = 0
) -> list[ClosedBlocks]:
    calibration = replace(small(), block_seconds=np.array(seconds))
    blocks = [(start, block(1 + start // 900)) for start in starts]
    return list(closing(calibration, 900, blocks, after=after, upto=upto, valid_from=valid_from))


def test_each_column_closes_at_its_own_length_with_the_sum_of_its_base_blocks() -> None:
    found = run((900, HOUR), [0, 900, 1_800, 2_700])
    assert [c.boundary for c in found] == [900, 1_800, 2_700, 3_600]
    assert [c.columns.tolist() for c in found] == [[True, False]] * 3 + [[True, True]]
    assert found[0].events.hits.tolist() == [1, 1, 0, 0]
    assert found[3].events.hits.tolist() == [4, 4, 10, 10]
    assert found[3].events.totals.tolist() == [40, 40, 100, 100]
    assert found[3].starts.tolist() == [2_700, 0]


def test_in_whatever_pieces_the_boundaries_come_the_closings_are_the_same() -> None:
    starts = [0, 900, 3_600, 9_000, 9_900]
    whole = run((900, HOUR), starts)
    pieces = [
        closed
        for upto in range(900, 13_000, 900)
        for closed in run((900, HOUR), starts, after=upto - 900, upto=upto)
    ]
    assert [(c.boundary, c.columns.tolist(), c.events.encode()) for c in pieces] == [
        (c.boundary, c.columns.tolist(), c.events.encode()) for c in whole
    ]


def test_what_is_needed_reaches_back_to_the_start_of_the_longest_open_block() -> None:
    calibration: Calibration = replace(small(), block_seconds=np.array([900, 86_400]))
    assert first_needed(calibration, 3 * 86_400 + 5_000) == 3 * 86_400
    assert first_needed(calibration, 3 * 86_400) == 3 * 86_400


def test_boundaries_without_rows_are_skipped_and_gaps_do_not_matter() -> None:
    found = run((900, HOUR), [0, 86_400])
    assert [c.boundary for c in found] == [900, 3_600, 87_300, 90_000]


def test_a_block_that_began_before_the_calibration_is_not_bet_on() -> None:
    found = run((900, HOUR), [0, 900, 1_800, 2_700, 3_600], valid_from=1_800)
    assert [(c.boundary, c.columns.tolist()) for c in found] == [
        (2_700, [True, False]),
        (3_600, [True, False]),
        (4_500, [True, False]),
        (7_200, [False, True]),
    ]


def test_a_length_that_is_no_multiple_of_the_base_is_refused() -> None:
    with pytest.raises(DetectorError, match="multiples of 900"):
        run((900, 1_000), [0])


def test_one_base_block_twice_is_refused() -> None:
    with pytest.raises(DetectorError, match="add them up first"):
        run((900, HOUR), [0, 0])


def test_a_column_whose_length_stays_keeps_its_block_under_way_when_another_changes() -> None:
    before = replace(small(), block_seconds=np.array([900, HOUR]))
    after = replace(before, block_seconds=np.array([HOUR, HOUR]))
    terms = Terms.of(before, 0).under(after, 900)
    assert terms.since.tolist() == [900, 0]
    assert terms.under(after, 2_700, np.array([False, True])).since.tolist() == [900, 2_700]
    blocks = OpenBlocks(after, 900, after=900, terms=terms)
    found = [c for start in range(0, 2 * HOUR, 900) for c in blocks.add(start, block(1 + start // 900))]
    found += blocks.close(2 * HOUR)
    assert [(c.boundary, c.columns.tolist()) for c in found] == [
        (HOUR, [False, True]),
        (2 * HOUR, [True, True]),
    ]
    assert found[0].events.hits.tolist() == [0, 0, 10, 10]


def test_terms_are_stored_exactly_and_damage_is_found() -> None:
    terms = Terms.of(replace(small(), block_seconds=np.array([900, HOUR])), -(2**62))
    stored = terms.encode()
    again = Terms.decode(stored)
    assert again.seconds.tolist() == [900, HOUR]
    assert again.since.tolist() == [-(2**62)] * 2
    with pytest.raises(DetectorError, match="terms"):
        Terms.decode(stored[:-1] + b"x")
