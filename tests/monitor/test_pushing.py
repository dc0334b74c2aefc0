"""What waits in the outbox for an Alertmanager, on a whole daemon with a clock that stands still."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.identity import AlertKind, alert_labels
from alerts.lifecycle import Cause, Condition, LifecycleRule
from monitor.episodes import AlertBook
from monitor.operations import add_silence
from monitor.pushing import whole
from storage import outbox, receivers
from storage.engine import Connection
from storage.outbox import NotificationRow
from tests.monitor.world import MODEL, World

CONFIG = """
[receivers.am-1]
type = "alertmanager"
url = "http://am-1.example:9093/prefix/"
watchdog = true

[receivers.am-2]
type = "alertmanager"
url = "http://am-2.example:9093"
"""
SECOND = timedelta(seconds=1)
AM = "http://am-1.example:9093/prefix/api/v2/alerts"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config=CONFIG)
    yield world
    world.close()


def labels(column: str) -> dict[str, str]:
    return alert_labels(AlertKind.FEATURE_DRIFT, MODEL, "1", "", column)


def observe(world: World, column: str, *, firing: bool = True) -> None:
    """An evaluation finds that a column drifts, or that it no longer does."""
    now = world.clock.now()
    with world.service.database.read() as conn:
        book = AlertBook.load(conn, MODEL)
    if firing:
        detail = {"summary": f"{column} moved", "effect": 2.0}
        book.observe(labels(column), Condition.TRUE, LifecycleRule(), now, detail)
    else:
        episode = book.find(labels(column))
        assert episode is not None
        book.close(episode, Cause.CLEARED, now)

    def write(conn: Connection) -> None:
        world.service.notifier.announce(conn, book.write(conn, now), now)

    world.service.database.write(write).result()


def deliver(world: World, name: str = "am-1") -> None:
    while world.service.couriers[name].run_once():
        pass


def pass_time(world: World, span: timedelta, *, step: timedelta = 15 * SECOND) -> None:
    """Every quarter of a minute the daemon looks, and what is due is sent."""
    for _ in range(span // step):
        world.clock.advance(step)
        world.service.pipeline.run_once()
        for name in world.service.couriers:
            deliver(world, name)


def rows(world: World, name: str = "am-1") -> list[NotificationRow]:
    """Of drift; that the other instance fails is an incident of its own."""
    return [row for row in world.notifications() if row.receiver == name and 'class="drift"' in row.group_key]


def pushed(world: World, url: str = AM) -> list[list[dict[str, Any]]]:
    """What one instance was sent, but for what it is told of other receivers."""
    bodies = [json.loads(request.body) for request in world.wire.sent if request.url == url]
    return [body for body in bodies if all("receiver" not in alert["labels"] for alert in body)]


def columns(body: list[dict[str, Any]], now: str) -> tuple[list[str], list[str]]:
    """Which columns a body says are firing, and which are over, at `now`."""
    firing = [a["labels"]["column"] for a in body if a["endsAt"] > now]
    return firing, [a["labels"]["column"] for a in body if a["endsAt"] <= now]


def test_a_transition_is_pushed_at_once_to_every_instance(world: World) -> None:
    observe(world, "temp")
    deliver(world)
    deliver(world, "am-2")
    assert sorted(request.url for request in world.wire.sent) == [
        AM,
        "http://am-2.example:9093/api/v2/alerts",
    ]
    ((alert,),) = pushed(world)
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-03-02T00:00:00Z", "2026-03-02T00:04:00Z")


def test_each_minute_it_is_told_again_in_the_same_row(world: World) -> None:
    observe(world, "temp")
    pass_time(world, timedelta(minutes=20))
    assert 19 <= len(pushed(world)) <= 21
    (row,) = rows(world)
    assert row.status == "sent"
    with world.service.database.read() as conn:
        assert len(outbox.list_attempts(conn, row.id)) <= 3
    ends = [body[0]["endsAt"] for body in pushed(world)]
    assert ends == sorted(set(ends))


def test_the_end_is_told_for_a_quarter_of_an_hour_and_then_no_more(world: World) -> None:
    observe(world, "temp")
    pass_time(world, timedelta(minutes=3))
    world.clock.advance(SECOND)
    observe(world, "temp", firing=False)
    over = world.clock.now().isoformat().replace("+00:00", "Z")
    before = len(pushed(world))
    pass_time(world, timedelta(minutes=25))
    ended = pushed(world)[before:]
    assert 15 <= len(ended) <= 17
    assert {body[0]["endsAt"] for body in ended} == {over}
    assert [row.kind for row in rows(world)] == ["firing", "resolved"]


def test_while_an_instance_is_down_two_rows_wait_and_the_other_instance_is_told(world: World) -> None:
    world.wire.status = 500
    for column in ("a", "b", "c", "d", "e"):
        observe(world, column)
        pass_time(world, timedelta(minutes=5))
    waiting = [row for row in rows(world) if row.status in outbox.UNDELIVERED]
    assert len(waiting) <= 2
    assert all(row.status != "dead" for row in rows(world))
    assert len(rows(world)) <= 6
    world.wire.status = 200
    pass_time(world, timedelta(minutes=1))
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert columns(pushed(world)[-1], now) == (["a", "b", "c", "d", "e"], [])


def test_an_end_that_came_while_the_instance_was_down_for_hours_is_delivered(world: World) -> None:
    observe(world, "temp")
    observe(world, "zip")
    pass_time(world, timedelta(minutes=2))
    world.wire.status = 500
    pass_time(world, timedelta(minutes=2))
    observe(world, "temp", firing=False)
    pass_time(world, timedelta(hours=3), step=timedelta(minutes=5))
    world.wire.status = 200
    before = len(pushed(world))
    pass_time(world, timedelta(minutes=2))
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert columns(pushed(world)[before], now) == (["zip"], ["temp"])
    # Delivered, and over for longer than a quarter of an hour: no longer told.
    assert [a["labels"]["column"] for a in pushed(world)[-1]] == ["zip"]


def test_what_began_and_ended_while_nothing_could_be_sent_is_dropped_and_recorded(world: World) -> None:
    observe(world, "temp")
    observe(world, "temp", firing=False)
    pass_time(world, timedelta(minutes=3))
    assert pushed(world) == []
    assert [(row.status, row.reason) for row in rows(world)] == [("dropped", "over before it was told")]


def test_a_change_under_way_waits_behind_what_is_being_sent(world: World) -> None:
    observe(world, "temp")
    now = world.clock.now()
    service = world.service

    def claim(conn: Connection) -> list[NotificationRow]:
        return outbox.claim_due(
            conn, now=now, lease_until=now + timedelta(minutes=1), worker="w", limit=9, receiver="am-1"
        )

    (leased,) = service.database.write(claim).result()
    world.clock.advance(SECOND)
    observe(world, "temp", firing=False)
    deliver(world)
    assert pushed(world) == []  # not past the one that is under way
    service.database.write(
        lambda conn: outbox.reschedule(
            conn, leased.id, worker="w", next_attempt_at=world.clock.now(), reason="HTTP 500"
        )
    ).result()
    pass_time(world, timedelta(seconds=15))
    assert [row.status for row in rows(world)] == ["dropped", "sent"]
    ((ended,),) = pushed(world)
    assert ended["endsAt"] == "2026-03-02T00:00:01Z"


def test_an_alert_that_comes_back_is_not_pushed_as_over(world: World) -> None:
    observe(world, "temp")
    pass_time(world, timedelta(minutes=2))
    observe(world, "temp", firing=False)
    pass_time(world, timedelta(minutes=2))
    observe(world, "temp")
    pass_time(world, timedelta(minutes=2))
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert columns(pushed(world)[-1], now) == (["temp"], [])


def test_a_silence_keeps_back_what_was_not_told_and_ends_nothing(world: World) -> None:
    observe(world, "temp")
    deliver(world)
    add_silence(
        world.service,
        matchers=[f'model="{MODEL}"'],
        ends_at=world.clock.now() + timedelta(hours=1),
        author="ann",
        actor="ann",
    )
    observe(world, "zip")
    pass_time(world, timedelta(minutes=10))
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert columns(pushed(world)[-1], now) == (["temp"], [])
    pass_time(world, timedelta(hours=1), step=timedelta(minutes=1))
    assert sorted(a["labels"]["column"] for a in pushed(world)[-1]) == ["temp", "zip"]


def test_a_refused_alert_does_not_end_the_others(world: World) -> None:
    observe(world, "temp")
    world.wire.status = 400
    pass_time(world, timedelta(minutes=5))
    assert 5 <= len(pushed(world)) <= 6
    assert [row.status for row in rows(world)] == ["dead"]


def test_a_restart_goes_on_where_it_was(world: World) -> None:
    observe(world, "temp")
    pass_time(world, timedelta(minutes=2))
    observe(world, "temp", firing=False)
    world.restart()
    pass_time(world, timedelta(minutes=2))
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert columns(pushed(world)[-1], now) == ([], ["temp"])


def test_the_watchdog_is_one_row_of_those_that_want_it(world: World) -> None:
    for _ in range(30):
        world.clock.advance(timedelta(minutes=1))
        world.service.pipeline.run_once()
        world.service.keep_watchdog()
        deliver(world)
    bodies = pushed(world)
    assert len(bodies) == 30
    assert {alert["labels"]["alertname"] for body in bodies for alert in body} == {"DriftdWatchdog"}
    assert [row.receiver for row in world.notifications()] == ["am-1"]


def test_the_watchdog_stops_when_the_loop_does_not_come_round(world: World) -> None:
    world.service.pipeline.run_once()
    world.service.keep_watchdog()
    deliver(world)
    world.clock.advance(timedelta(minutes=6))
    world.service.keep_watchdog()
    deliver(world)
    assert len(pushed(world)) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_is_set_neither_stops_the_watchdog_nor_fakes_it(world: World, hours: int) -> None:
    world.service.pipeline.run_once()
    world.clock.step(timedelta(hours=hours))
    world.service.keep_watchdog()
    deliver(world)
    assert len(pushed(world)) == 1
    world.clock.advance(timedelta(minutes=6))
    world.service.keep_watchdog()
    deliver(world)
    assert len(pushed(world)) == 1


def test_the_daemon_is_whole_unless_something_due_lies_about(world: World) -> None:
    observe(world, "temp")
    world.service.pipeline.run_once()
    world.clock.advance(timedelta(minutes=4))
    now, moment = world.clock.now(), timedelta()
    broken = [receivers.ReceiverState(receiver=name, broken_since=now) for name in ("am-1", "am-2")]
    with world.service.database.read() as conn:
        assert whole(conn, timedelta(minutes=4), now)
        assert not whole(conn, timedelta(minutes=5), now)
        assert not whole(conn, None, now)
        assert not whole(conn, moment, now + timedelta(minutes=2))

    def break_them(conn: Connection) -> None:
        for state in broken:
            receivers.put(conn, state)

    world.service.database.write(break_them).result()
    with world.service.database.read() as conn:
        assert whole(conn, moment, now + timedelta(minutes=2))
