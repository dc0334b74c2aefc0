"""Traffic beside the same hour of earlier weeks: which hours count, which is judged, and that it costs no page."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, alert_labels
from monitor.instants import to_ns
from monitor.traffic import (
    SHOWN_HOURS,
    WEEKS,
    Traffic,
    compare,
    counted_upto,
    traffic,
    unusual,
    weeks_missing,
)
from monitor.watermark import Cursor
from storage import models
from storage.engine import Connection
from tests.monitor import frames
from tests.monitor.harness import Harness, harness

HOUR = 3_600
WEEK = 168 * HOUR
NOW = int(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp())
"""A Monday, 09:00."""


def steady(weeks: int, rows: int = 600) -> dict[int, int]:
    """The same rows in every hour before NOW, those weeks back and two hours more, of which one began in its middle."""
    return dict.fromkeys(range(NOW - weeks * WEEK - 2 * HOUR, NOW, HOUR), rows)


def judged(rows: dict[int, int], *, minutes: int = 0, outages: tuple[int, ...] = ()) -> Traffic:
    return compare(sorted(rows.items()), upto=NOW + 60 * minutes, outages=outages)


@pytest.mark.parametrize(
    ("minutes", "now", "since", "rate", "status"),
    [
        (0, 0, NOW - HOUR, 10.0, "normal"),  # the new hour has not begun: the one before is judged
        (14, 0, NOW - HOUR, 10.0, "normal"),
        (15, 0, NOW, 0.0, "low"),  # a quarter of an hour without one of 150 rows
        (15, 150, NOW, 10.0, "normal"),
        (30, 90, NOW, 3.0, "low"),
        (30, 1_200, NOW, 40.0, "high"),
        (59, 300, NOW, 300 / 59, "normal"),
    ],
)
def test_the_hour_under_way_is_judged_once_it_can_tell(
    minutes: int, now: int, since: int, rate: float, status: str
) -> None:
    found = judged(steady(5) | {NOW: now}, minutes=minutes)
    assert (int(found.since.timestamp()), found.status) == (since, status)
    assert found.rate == pytest.approx(rate)
    assert (found.usual, found.low, found.high, found.weeks) == (10.0, 5.0, 20.0, 5)
    assert unusual(found) is (status != "normal")


def test_three_weeks_are_no_history() -> None:
    found = judged(steady(3), minutes=30)
    assert (found.status, found.usual, found.weeks, weeks_missing(found)) == ("insufficient_data", None, 3, 1)
    assert not unusual(found)


def test_the_hour_in_which_traffic_began_says_nothing() -> None:
    """It began at its end: four such weeks, of which the first is no whole hour."""
    rows = dict.fromkeys(range(NOW - 4 * WEEK, NOW, HOUR), 600) | {NOW - 4 * WEEK: 3}
    assert judged(rows, minutes=30).weeks == 3


def test_usual_reaches_no_further_back_than_some_weeks() -> None:
    rows = steady(WEEKS + 6) | dict.fromkeys(range(NOW - (WEEKS + 6) * WEEK, NOW - WEEKS * WEEK, HOUR), 60000)
    found = judged(rows | {NOW: 300}, minutes=30)
    assert (found.weeks, found.high) == (WEEKS, 20.0)


def test_an_hour_without_rows_is_0_and_one_of_an_outage_is_left_out() -> None:
    silent = {hour: n for hour, n in steady(6).items() if hour != NOW - WEEK} | {NOW: 300}
    assert judged(silent, minutes=30).low == 0.0
    spared = judged(silent, minutes=30, outages=(NOW - WEEK,))
    assert (spared.low, spared.weeks) == (5.0, 5)


def test_the_last_two_days_are_shown_by_the_hour_beside_their_own_usual() -> None:
    rows = {hour: 60 * (1 + hour // HOUR % 24) for hour in steady(6)}
    found = judged(rows, minutes=30)
    assert len(found.hours) == SHOWN_HOURS
    assert found.hours[-1].start == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert all(hour.rate == hour.usual == 1 + hour.start.hour for hour in found.hours)
    young = judged({NOW - 3 * HOUR: 60, NOW - HOUR: 120}, minutes=30)
    assert [(hour.rate, hour.usual) for hour in young.hours] == [(1.0, None), (0.0, None), (2.0, None)]


def test_rows_are_counted_up_to_the_newest_and_through_silence_up_to_the_watermark() -> None:
    second = 10**9
    assert counted_upto(Cursor(), now_ns=9 * second) is None
    live = Cursor(newest_event_ns=5 * second, watermark_ns=4 * second)
    assert counted_upto(live, now_ns=9 * second) == 5
    assert counted_upto(Cursor(newest_event_ns=5 * second, watermark_ns=8 * second), now_ns=9 * second) == 8
    ahead = Cursor(newest_event_ns=99 * second, watermark_ns=4 * second)
    assert counted_upto(ahead, now_ns=9 * second) == 9


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as made:
        made.put_baseline(frames.baseline(pane_seconds=900))
        yield made


def remember(daemon: Harness, rows: int, *, weeks: int = 6) -> None:
    """The hours before now, as folding would have booked them."""
    model = daemon.service.catalog.model("m")
    assert model is not None
    version = model.versions["1"].version_id
    now = to_ns(daemon.clock.now()) // 10**9 // HOUR * HOUR
    served = [
        models.Serving(model_id=model.model_id, version_id=version, start=hour, rows=rows)
        for hour in range(now - weeks * WEEK, now, HOUR)
    ]
    daemon.service.database.write(lambda conn: models.record_serving(conn, served)).result()


def ask(daemon: Harness) -> Traffic | None:
    model = daemon.service.catalog.model("m")
    assert model is not None
    with daemon.service.database.read() as conn:
        return traffic(daemon.service, conn, model)


def test_a_model_that_was_never_asked_has_no_traffic(daemon: Harness) -> None:
    assert ask(daemon) is None


def test_folding_books_what_is_compared_and_a_fall_pages_nobody(daemon: Harness) -> None:
    remember(daemon, 6_000)
    daemon.traffic(daemon.clock.now(), 2, rows=720)
    found = ask(daemon)
    assert found is not None
    assert (found.status, found.usual) == ("low", 100.0)
    assert found.rate == pytest.approx(12.0, rel=0.01)
    with daemon.service.database.read() as conn:
        from storage import alerts

        assert alerts.list_alerts(conn) == []


def test_hours_of_a_no_traffic_alert_are_not_what_is_usual(daemon: Harness) -> None:
    now = daemon.clock.now()
    remember(daemon, 6_000)
    daemon.traffic(now, 1, rows=6_000)
    before = ask(daemon)
    assert before is not None

    def move(conn: Connection) -> None:
        from sqlalchemy import update

        from storage.tables import alerts

        began, ended = now - timedelta(days=7, minutes=30), now - timedelta(days=7) + timedelta(minutes=90)
        conn.execute(update(alerts).values(active_since=began, resolved_at=ended, state="resolved"))

    daemon.open_alert(alert_labels(AlertKind.NO_TRAFFIC, "m"))
    daemon.service.database.write(move).result()
    after = ask(daemon)
    assert after is not None
    assert (before.weeks, after.weeks) == (5, 4)
