"""What the block events count, add up to and are stored as."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.decision import BlockEvents, EventIndex, EventKind, block_events
from detectors.decision.stored import pack_integers, unpack_integers
from detectors.profile import NumericColumn, Profile, profile_rows
from detectors.types import ColumnRole, DetectorError, IntArray
from tests.detectors.decision.samples import categorical, index_of, mixed_index, numeric


def rows_of(index: EventIndex, age: list[float], conf: list[float], city: list[str | None]) -> BlockEvents:
    values = {"age": np.array(age), "conf": np.array(conf), "city": np.array(city, dtype=object)}
    return index.count(profile_rows(index.baseline, values))


def test_columns_have_16_17_and_k_plus_3_events() -> None:
    index = mixed_index()
    assert np.diff(index.starts, append=index.column.size).tolist() == [16, 17, 6]
    assert [index.kinds[e] for e in (0, 12, 13, 14, 15)] == [
        EventKind.BELOW,
        EventKind.BELOW,
        EventKind.MISSING,
        EventKind.NON_FINITE,
        EventKind.OUT_OF_RANGE,
    ]


def test_hits_are_the_rows_a_plain_loop_finds() -> None:
    index = mixed_index()
    age = [12.0, 39.0, 39.5, np.nan, np.inf, 300.0, -np.inf]
    conf = [0.25, 0.5, np.nan, 1.0, 0.0, 0.75, 0.5]
    events = rows_of(index, age, conf, ["ulm", "ulm", None, "bonn", "oslo", "", "köln"])
    column = index.baseline.columns[0]
    assert isinstance(column, NumericColumn)
    present = [x for x in age if not np.isnan(x)]
    for event, cut in enumerate(column.cuts[column.evidence_cuts]):
        assert (events.hits[event], events.totals[event]) == (sum(x <= cut for x in present), 6)
    low, high = column.cuts[0], column.cuts[-1]
    outside = sum(x < low or x > high for x in present)
    assert events.hits[13:16].tolist() == [1, 2, outside]
    assert events.totals[13:16].tolist() == [7, 7, 7]
    # The mean of the six confidences present is exactly 1/2.
    assert (events.hits[32], events.totals[32]) == (3 * 2**32, 6 * 2**32)
    # bonn is second most frequent; then other, unseen, and over all rows missing
    assert events.hits[33:].tolist() == [2, 1, 1, 0, 1, 2]
    assert events.totals[33:].tolist() == [5, 5, 5, 5, 5, 7]


def test_an_all_missing_block_has_no_value_rows() -> None:
    index = index_of(numeric("x", np.random.default_rng(0).normal(size=500)))
    events = block_events(index.baseline, profile_rows(index.baseline, {"x": np.full(9, np.nan)}))
    assert not events.totals[:13].any()
    assert (events.hits[13], events.totals[13]) == (9, 9)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_blocks_add_up_to_the_block_of_all_rows(seed: int, parts: int) -> None:
    index = mixed_index()
    rng = np.random.default_rng(seed)
    age, conf = rng.normal(40, 20, 60), rng.random(60)
    city = rng.choice(np.array(["ulm", "bonn", "oslo", None], dtype=object), 60)
    whole = rows_of(index, age.tolist(), conf.tolist(), city.tolist())
    pieces = [
        rows_of(index, age[i::parts].tolist(), conf[i::parts].tolist(), city[i::parts].tolist())
        for i in range(parts)
    ]
    added = pieces[0]
    for piece in pieces[1:]:
        added = piece + added
    assert added.encode() == whole.encode()


@given(
    hnp.arrays(np.int64, 40, elements=st.integers(0, 2**62)),
    hnp.arrays(np.int64, 40, elements=st.integers(0, 3)),
)
def test_stored_events_come_back_bit_for_bit(hits: IntArray, totals: IntArray) -> None:
    data = BlockEvents(hits=hits, totals=totals).encode()
    back = BlockEvents.decode(data)
    assert np.array_equal(back.hits, hits)
    assert np.array_equal(back.totals, totals)
    assert back.encode() == data


@given(hnp.arrays(np.int64, st.integers(0, 30)))
def test_packed_integers_come_back(values: IntArray) -> None:
    assert np.array_equal(unpack_integers(pack_integers(values), "test"), values)


def test_a_minute_of_36_columns_fits_in_700_bytes() -> None:
    rng = np.random.default_rng(3)
    index = index_of(*(numeric(f"x{i}", rng.normal(size=1_000)) for i in range(36)))
    values = {f"x{i}": rng.normal(size=60) for i in range(36)}
    assert len(index.count(profile_rows(index.baseline, values)).encode()) < 700


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d[:5], lambda d: b"XYZ\x01" + d[4:], lambda d: b""]
)
def test_damaged_events_are_refused(damage: object) -> None:
    assert callable(damage)
    data = rows_of(mixed_index(), [1.0], [0.5], ["ulm"]).encode()
    with pytest.raises(DetectorError, match="block events"):
        BlockEvents.decode(damage(data))


def test_a_flipped_bit_is_refused() -> None:
    data = bytearray(rows_of(mixed_index(), [1.0], [0.5], ["ulm"]).encode())
    data[9] ^= 4
    with pytest.raises(DetectorError, match="CRC-32"):
        BlockEvents.decode(bytes(data))


def test_a_newer_version_is_named() -> None:
    data = rows_of(mixed_index(), [1.0], [0.5], ["ulm"]).encode()
    with pytest.raises(DetectorError, match="version 2 is not 1"):
        BlockEvents.decode(data[:3] + b"\x02" + data[4:])


def test_confidence_sums_up_to_two_to_the_31_rows_and_not_beyond() -> None:
    index = index_of(numeric("c", np.random.default_rng(0).random(500), ColumnRole.CONFIDENCE))
    rows = 2**31 - 1
    counts = np.zeros(index.baseline.layout.length, dtype=np.int64)
    counts[-1] = rows * 2**32  # every confidence is 1
    most = index.count(Profile(rows=rows, counts=counts, moments=np.zeros((1, 3))))
    assert most.hits[16] == most.totals[16] == rows * 2**32
    with pytest.raises(DetectorError, match="shorter block"):
        index.count(Profile(rows=rows + 1, counts=counts, moments=np.zeros((1, 3))))
    one = rows_like(index, 1)
    with pytest.raises(DetectorError, match="shorter block"):
        _ = most + one


def rows_like(index: EventIndex, rows: int) -> BlockEvents:
    return index.count(profile_rows(index.baseline, {"c": np.full(rows, 1.0)}))


def test_without_confidence_a_block_of_many_rows_is_counted() -> None:
    index = index_of(numeric("x", np.random.default_rng(0).random(500)))
    counts = index.baseline.profile.counts * 2**40
    events = index.count(Profile(rows=500 * 2**40, counts=counts, moments=np.zeros((1, 3))))
    assert events.hits[6] == index.trained.hits[6] * 2**40


def test_blocks_of_two_baselines_are_not_added() -> None:
    one, two = mixed_index(), index_of(categorical("city", ["a", "b"] * 100))
    with pytest.raises(DetectorError, match="39 and 5 events"):
        _ = one.trained + two.trained


def test_a_profile_of_another_baseline_is_refused() -> None:
    with pytest.raises(DetectorError, match="was not counted on this baseline"):
        mixed_index().count(index_of(categorical("city", ["a", "b"] * 100)).baseline.profile)
