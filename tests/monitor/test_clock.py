"""Clocks: what passes, what jumps, what is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from monitor.clock import Clock, ManualClock, SystemClock
from monitor.instants import to_ns

START = datetime(2026, 3, 29, 0, 59, 59, 123456, tzinfo=UTC)


def test_the_system_clock_is_aware_utc_and_its_nanoseconds_agree() -> None:
    clock: Clock = SystemClock()
    before, moment, after = clock.now_ns(), clock.now(), clock.now_ns()
    assert moment.utcoffset() == timedelta(0)
    assert before - 1_000 <= to_ns(moment) <= after
    assert clock.monotonic() <= clock.monotonic()


def test_a_manual_clock_stands_still_until_advanced() -> None:
    clock = ManualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    clock.advance(timedelta(hours=1, microseconds=1))
    assert clock.now() == START + timedelta(hours=1, microseconds=1)
    assert clock.now_ns() == to_ns(START) + 3_600_000_001_000
    assert clock.monotonic() == 3600.000001


def test_a_step_moves_the_wall_clock_alone() -> None:
    clock = ManualClock(START)
    clock.advance(timedelta(seconds=5))
    clock.step(timedelta(hours=-1))
    assert clock.now() == START + timedelta(seconds=5, hours=-1)
    assert clock.monotonic() == 5.0


def test_time_does_not_run_backwards() -> None:
    clock = ManualClock(START)
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="forwards"):
        clock.advance_to(START - timedelta(seconds=1))
    clock.advance_to(START + timedelta(days=1))
    assert clock.now() == START + timedelta(days=1)


def test_naive_moments_are_refused_and_offsets_are_honoured() -> None:
    with pytest.raises(TypeError, match="naive"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the naive moment is what is tested
    in_tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert to_ns(in_tokyo) == 1_767_225_600 * 10**9  # `date -u -d 2026-01-01 +%s`
