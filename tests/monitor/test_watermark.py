"""Event time: what moves a watermark and what never does."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.watermark import NANOSECONDS, Cursor, advanced, arrived, last_boundary

LATENESS = 60 * NANOSECONDS
DAY = 86_400 * NANOSECONDS
NOW = 20_000 * DAY


def test_follows_the_newest_event_by_the_lateness() -> None:
    cursor = arrived(Cursor(), newest_event_ns=NOW - 5 * NANOSECONDS, arrival_ns=NOW, gap_ns=DAY)
    assert (
        advanced(cursor, now_ns=NOW, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns
        == NOW - 5 * NANOSECONDS - LATENESS
    )


def test_an_event_from_the_future_moves_it_no_further_than_now() -> None:
    cursor = arrived(Cursor(), newest_event_ns=NOW + 4 * 60 * NANOSECONDS, arrival_ns=NOW, gap_ns=DAY)
    assert advanced(cursor, now_ns=NOW, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns == NOW - LATENESS


def test_the_wall_clock_moves_a_live_model_after_two_minutes_of_silence() -> None:
    cursor = advanced(
        arrived(Cursor(), newest_event_ns=NOW, arrival_ns=NOW, gap_ns=DAY),
        now_ns=NOW,
        lateness_ns=LATENESS,
        silent_ns=DAY,
    )
    early, late = NOW + 119 * NANOSECONDS, NOW + 120 * NANOSECONDS
    assert advanced(cursor, now_ns=early, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns == NOW - LATENESS
    assert advanced(cursor, now_ns=late, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns == late - LATENESS


def test_the_wall_clock_never_moves_a_replay_of_history() -> None:
    old = NOW - 100 * DAY
    cursor = arrived(Cursor(), newest_event_ns=old, arrival_ns=NOW, gap_ns=DAY)
    assert (
        advanced(cursor, now_ns=NOW + DAY, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns == old - LATENESS
    )


def test_a_wall_clock_that_is_set_forwards_has_not_waited() -> None:
    cursor = arrived(Cursor(), newest_event_ns=NOW, arrival_ns=NOW, gap_ns=DAY)
    stepped = advanced(cursor, now_ns=NOW + DAY, lateness_ns=LATENESS, silent_ns=119 * NANOSECONDS)
    assert stepped.watermark_ns == NOW - LATENESS


def test_nothing_accepted_means_no_watermark() -> None:
    assert advanced(Cursor(), now_ns=NOW, lateness_ns=LATENESS, silent_ns=DAY).watermark_ns is None


def test_boundaries_are_whole_panes_the_watermark_has_passed() -> None:
    assert last_boundary(119 * NANOSECONDS + 999, 60) == 60
    assert last_boundary(120 * NANOSECONDS, 60) == 120


@given(
    st.lists(st.tuples(st.integers(-3 * 86_400, 300), st.integers(0, 600)), min_size=1, max_size=30),
)
def test_it_never_moves_back_and_never_passes_now(arrivals: list[tuple[int, int]]) -> None:
    cursor, now, before = Cursor(), NOW, None
    for offset_seconds, pause_seconds in arrivals:
        now += pause_seconds * NANOSECONDS
        cursor = arrived(
            cursor, newest_event_ns=now + offset_seconds * NANOSECONDS, arrival_ns=now, gap_ns=DAY
        )
        cursor = advanced(cursor, now_ns=now, lateness_ns=LATENESS, silent_ns=DAY)
        assert cursor.watermark_ns is not None
        assert cursor.watermark_ns <= now - LATENESS or cursor.watermark_ns == before
        assert before is None or cursor.watermark_ns >= before
        before = cursor.watermark_ns


@given(st.permutations(list(range(8))))
def test_the_newest_event_does_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    cursor = Cursor()
    for index in order:
        cursor = arrived(cursor, newest_event_ns=NOW - index * DAY, arrival_ns=NOW, gap_ns=DAY)
    assert cursor.newest_event_ns == NOW


def test_a_long_gap_ends_the_busy_stretch() -> None:
    gap = 900 * NANOSECONDS
    cursor = Cursor()
    for minute in range(120):
        at = NOW + minute * 60 * NANOSECONDS
        cursor = arrived(cursor, newest_event_ns=at, arrival_ns=at, gap_ns=gap)
    assert cursor.busy_since_ns == NOW
    later = NOW + DAY
    assert arrived(cursor, newest_event_ns=later, arrival_ns=later, gap_ns=gap).busy_since_ns == later
