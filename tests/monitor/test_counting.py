"""Counting: every row in one pane, and counts of rows come to the same as the rows, however they are grouped."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import profile_rows
from monitor.bases import Bases
from monitor.counting import (
    Onto,
    by_baseline,
    count,
    count_stored,
    profiles_by_pane,
    rows_by_hour,
    seen_per_row,
)
from monitor.ingest.batch import RAW_CODEC, Batch, encode_payload, text_tensor
from monitor.ingest.counted import COUNTS_CODEC, CountedBatch, encode_counts
from monitor.segments import SEGMENTS_PER_BASELINE, Segments
from monitor.watermark import NANOSECONDS
from storage.batches import StoredBatch
from storage.engine import Database
from tests.monitor import frames
from tests.monitor.world import tensor

BASELINE = frames.baseline()
ONTO = Onto(baseline_id=1, base=Bases().of(1, BASELINE), segment_keys=("region",))
AT = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with Database.open(tmp_path_factory.mktemp("state") / "state") as opened:
        yield opened


def batch(seed: int, seconds: Sequence[int], regions: Sequence[str | None]) -> Batch:
    return Batch(
        id=None,
        model_version="1",
        parameters={},
        rows=len(seconds),
        times_ns=np.array(seconds, dtype=np.int64) * NANOSECONDS,
        tensors=tuple(tensor(n, v) for n, v in frames.rows(seed, len(seconds)).items()),
        tags={"region": text_tensor("region", list(regions))},
        row_ids=None,
        body_sha256="",
    )


def stored(number: int, codec: int, payload: bytes, accepted: int) -> StoredBatch:
    return StoredBatch(
        id=number,
        model_id=1,
        version_id=1,
        batch_key=str(number),
        received_at=AT,
        t_first_ns=0,
        t_last_ns=0,
        accepted=accepted,
        sample_rate=0.5,
        writer="w",
        codec=codec,
        payload=payload,
    )


def as_rows(number: int, given: Batch) -> StoredBatch:
    return stored(number, RAW_CODEC, encode_payload(given), given.rows)


def as_counts(number: int, segments: Segments, given: Sequence[Batch]) -> StoredBatch:
    counted = count(ONTO, segments, given, seen_per_row([as_rows(0, one) for one in given]))
    return stored(number, COUNTS_CODEC, encode_counts(counted), sum(one.rows for one in given))


def same(one: CountedBatch, other: CountedBatch) -> None:
    """The same integers to the last, and the same floats but for the order of additions."""
    mine, theirs = ({(p.segment, p.start): p for p in found.panes} for found in (one, other))
    assert mine.keys() == theirs.keys()
    assert one.hours == other.hours
    for key, pane in mine.items():
        found = theirs[key]
        assert (pane.rows_seen, pane.profile.rows) == (found.rows_seen, found.profile.rows)
        assert np.array_equal(pane.profile.counts, found.profile.counts)
        np.testing.assert_allclose(pane.profile.moments, found.profile.moments, rtol=1e-12, atol=1e-9)


def test_event_time_chooses_the_pane() -> None:
    times = np.array([61, 59, 0, 119, 120], dtype=np.int64) * NANOSECONDS
    found = profiles_by_pane(BASELINE, times, frames.rows(2, 5))
    assert {start: profile.rows for start, profile in found.items()} == {0: 2, 60: 2, 120: 1}


def test_hours_are_those_of_the_rows_also_where_a_pane_is_a_day() -> None:
    times = np.array([7200, 3599, 0, 7201, 86_400, -1], dtype=np.int64) * NANOSECONDS
    assert rows_by_hour(times) == {-3600: 1, 0: 2, 7200: 2, 86_400: 1}
    assert rows_by_hour(times[:0]) == {}


def test_a_pane_holds_exactly_its_own_rows() -> None:
    values = frames.rows(3, 50)
    times = np.repeat(np.array([0, 60], dtype=np.int64), 25) * NANOSECONDS
    found = profiles_by_pane(BASELINE, times, values)
    alone = profile_rows(BASELINE, {name: column[25:] for name, column in values.items()})
    assert np.array_equal(found[60].counts, alone.counts)


Groups = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(-90, 7300), st.sampled_from(["eu", "us", "", None])), min_size=1, max_size=9
        ),
        st.integers(0, 3),  # 0: it comes as rows; else as counts, together with the others of that number
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(Groups, st.randoms(use_true_random=False))
def test_counts_of_rows_are_folded_to_the_same_as_the_rows(
    database: Database, groups: list[tuple[list[tuple[int, str | None]], int]], random: Any
) -> None:
    segments = Segments(database)
    sent = [
        (batch(number, [second for second, _ in rows], [region for _, region in rows]), how)
        for number, (rows, how) in enumerate(groups)
    ]
    mixed = [as_rows(number, one) for number, (one, how) in enumerate(sent) if not how]
    mixed += [
        as_counts(99 + together, segments, [one for one, how in sent if how == together])
        for together in {how for _, how in sent} - {0}
    ]
    random.shuffle(mixed)
    expected, _ = count_stored(ONTO, segments, [as_rows(number, one) for number, (one, _) in enumerate(sent)])
    found, set_aside = count_stored(ONTO, segments, mixed)
    assert set_aside == set()
    assert found.rows == sum(len(rows) for rows, _ in groups)
    same(found, expected)


def test_many_groups_are_added_up_as_one(database: Database) -> None:
    segments = Segments(database)
    sent = [batch(number, [number] * 5, ["eu"] * 5) for number in range(40)]
    counted, _ = count_stored(ONTO, segments, [as_counts(n, segments, [one]) for n, one in enumerate(sent)])
    same(counted, count(ONTO, segments, sent, 2.0))


def test_what_cannot_be_read_is_set_aside_and_said(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    segments = Segments(database)
    good = as_counts(1, segments, [batch(1, [1, 2], ["eu", None])])
    damaged = replace(good, id=2, payload=good.payload[:-1] + b"\x00")
    foreign = replace(good, id=3, payload=good.payload.replace(BASELINE.fingerprint.encode(), b"f" * 64))
    crossed = replace(good, id=4, codec=RAW_CODEC)
    elsewhere = count(ONTO, segments, [batch(1, [1], ["eu"])], 1.0)
    unknown = replace(good, id=5, payload=encode_counts(replace(elsewhere, fingerprint="0" * 64)))
    group = [damaged, good, foreign, crossed, unknown]
    with caplog.at_level(logging.ERROR, "driftd.fold"):
        counted, set_aside = count_stored(ONTO, segments, group)
    assert set_aside == {2, 3, 4, 5}
    assert counted.rows == 2
    assert len(caplog.records) == 4
    assert (
        "batch 5 of model version 1 is set aside: its rows were counted on the baseline '000" in caplog.text
    )
    # The damaged ones stay with those that will set them aside; the one of another baseline is found.
    ids = {fingerprint: [b.id for b in part] for fingerprint, part in by_baseline(group, "current").items()}
    assert ids == {"current": [2, 3, 4], BASELINE.fingerprint: [1], "0" * 64: [5]}


def test_segments_of_counts_are_as_bounded_as_those_of_rows(database: Database) -> None:
    wide = Segments(database)
    values = [str(number) for number in range(SEGMENTS_PER_BASELINE)]
    given = as_counts(1, wide, [batch(1, list(range(len(values))), values)])
    full = Segments(database)
    for number in range(SEGMENTS_PER_BASELINE - 1):
        assert full.admits(1, f"region=x{number}")
    counted, _ = count_stored(ONTO, full, [given])
    assert sum(pane.segment != "" for pane in counted.panes) == 1
    others = Onto(baseline_id=1, base=ONTO.base, segment_keys=("shop",))
    counted, _ = count_stored(others, Segments(database), [given])
    assert {pane.segment for pane in counted.panes} == {""}
    assert counted.rows == len(values)
