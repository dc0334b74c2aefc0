"""RFC 3339 and the accepted span; the oracle for good times is the standard library's datetime."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ingest.times import (
    DAY,
    HOUR,
    MINUTE,
    EventTimeError,
    TimeLimits,
    outside,
    parse_time,
    parse_times,
    refusal,
    time_ns,
)
from tests.monitor.ingest.bodies import GOOD, NOW, rows_body, take

# Hypothesis wants naive bounds and adds the zone itself.
_EARLY = datetime(1680, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_LATE = datetime(2260, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(_EARLY, _LATE, timezones=_offsets))
def test_times_are_read_as_datetime_reads_them(instant: datetime) -> None:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    expected = ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000
    assert parse_time(instant.isoformat()) == expected
    assert parse_time(instant.isoformat().replace("T", "t")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # RFC 3339, section 5.8, and its instants in seconds since 1970
        ("1985-04-12T23:20:50.52Z", 482196050_520000000),
        ("1996-12-19T16:39:57-08:00", 851042397_000000000),
        ("1990-12-31T23:59:60Z", 662687999_999999999),
        ("1990-12-31T15:59:60-08:00", 662687999_999999999),
        ("1937-01-01T12:00:27.87+00:20", -1041337172_130000000),
        ("1970-01-01t00:00:00.0000000019z", 1),
        ("1970-01-01T00:00:00-00:00", 0),
        ("2000-02-29T00:00:00Z", 951782400_000000000),
    ],
)
def test_published_times_have_their_instants(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "2026", "2026-01-01", "2026-01-01T00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.5", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,5Z", "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z", "2026-01-01T12:00:60Z", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+01:60", "2026-01-01T00:00:00ZZ", " 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z ",
        "２０２６-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
        "1677-01-01T00:00:00Z", "2262-12-31T00:00:00Z", "20260101T000000Z", "2026-W01-1T00:00:00Z", "0001-01-01+14:00",
    ],
)  # fmt: skip
def test_what_is_no_rfc_3339_time_with_offset_is_refused(text: str) -> None:
    with pytest.raises(EventTimeError):
        parse_time(text)


_instants = st.datetimes(_EARLY, _LATE).map(lambda instant: instant.isoformat(timespec="microseconds"))


@given(
    st.lists(_instants, min_size=1, max_size=20), st.integers(0, 6), st.sampled_from(["", "123", "456789"])
)
def test_many_times_at_once_are_read_as_one_by_one(stamps: list[str], digits: int, more: str) -> None:
    texts = [stamp[: 20 + digits if digits else 19] + (more if digits == 6 else "") + "Z" for stamp in stamps]
    found = parse_times(texts)
    assert found is not None
    assert found.tolist() == [parse_time(text) for text in texts]


@pytest.mark.parametrize(
    "odd",
    ["2026-01-01T00:00:00.5+", "2026-01-01T00:00:00.x0Z", "2026-01-01T00:00:0..00Z", "2026-01-01T00:00:00,00Z",
     "2026-02-30T00:00:00.00Z", "2026-01-01T00:00:61.00Z", "2016-12-31T23:59:60.00Z", "2026-01-01T00:00:00.00é",
     "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", None, 5, ""],
)  # fmt: skip
def test_one_odd_time_sends_all_to_the_careful_reader(odd: object) -> None:
    good = "2026-01-01T00:00:00.00Z"
    assert parse_times([good, odd, good]) is None
    assert parse_times([odd, good]) is None


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400, 1.5, True, None, [1]])
def test_other_values_are_no_time(value: object) -> None:
    with pytest.raises(EventTimeError):
        time_ns(value)


def test_the_span_reaches_from_the_watermark_into_the_near_future() -> None:
    limits = TimeLimits()
    assert limits.span(NOW, NOW - HOUR) == (NOW - HOUR - DAY, NOW + 5 * MINUTE)
    assert limits.span(NOW, None) == (NOW - 730 * DAY, NOW + 5 * MINUTE)
    assert limits.span(0, -(2**63))[0] == -(2**63)
    low, high = limits.span(NOW, NOW)
    assert outside(np.array([low, high]), (low, high)) is None
    found = outside(np.array([low - 1, low, high, high + 1]), (low, high))
    assert found is not None
    assert found.tolist() == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (NOW // 10**9, "looks like seconds"),
        (NOW // 10**6, "looks like milliseconds"),
        (NOW // 10**3, "looks like microseconds"),
        (NOW - 10 * DAY, "216.0 h before the oldest"),
        (NOW + HOUR, "check the sender's clock"),
    ],
)
def test_a_refused_time_says_why(value: int, words: str) -> None:
    assert words in refusal(value, NOW, TimeLimits().span(NOW, NOW))


def test_rows_outside_the_span_are_rejected_and_the_first_batch_may_reach_two_years_back() -> None:
    times = [NOW, NOW - 25 * HOUR, NOW - 700 * DAY, NOW - 731 * DAY, NOW + 6 * MINUTE, NOW + 3650 * DAY]
    body = rows_body([dict(GOOD) | {"ts": ts} for ts in times])
    first, later = take(body), take(body, watermark=NOW)
    assert [issue.pointer for issue in first.errors] == ["/rows/3/ts", "/rows/4/ts", "/rows/5/ts"]
    assert (later.accepted, later.rejected) == (1, 5)
    assert first.batch is not None
    assert first.batch.times_ns.tolist() == times[:3]


def test_a_row_without_time_gets_the_batch_time_else_the_time_received() -> None:
    rows = [dict(GOOD), dict(GOOD) | {"ts": "2026-03-01T11:59:00Z"}]
    received = take(rows_body(rows)).batch
    stamped = take(rows_body(rows, parameters={"ts": "2026-03-01T11:00:00Z"})).batch
    assert received is not None
    assert stamped is not None
    assert received.times_ns.tolist() == [NOW, NOW - MINUTE]
    assert stamped.times_ns.tolist() == [NOW - HOUR, NOW - MINUTE]
