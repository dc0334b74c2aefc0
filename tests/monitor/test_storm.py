"""Many alerts at once, and one that flaps: what people are sent is bounded, and so is what it costs to write it."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.episodes import AlertBook
from storage.engine import Connection
from tests.monitor.test_routes import drift, say
from tests.monitor.world import World

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
RECEIVERS = """
[receivers.hook]
type = "webhook"
url = "https://hook.example/x"
[receivers.chat]
type = "slack"
url = "https://hooks.slack.com/services/T/B/x"
[receivers.pager]
type = "pagerduty"
routing_key = "0123456789abcdef0123456789abcdef"
"""
MANY = 5_000
HOSTS = {"https://hook.example", "https://hooks.slack.com", "https://events.pagerduty.com"}
MOST_BYTES = {
    "https://hook.example": 128_000,
    "https://hooks.slack.com": 40_000,
    "https://events.pagerduty.com": 512_000,
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config=RECEIVERS)
    world.wire.status = 202
    yield world
    world.close()


def all_at_once(world: World, condition: Condition) -> float:
    """Every column of one model, as one look would have decided them; seconds that the transaction took."""
    now = world.clock.now()
    with world.service.database.read() as conn:
        book = AlertBook.load(conn, "wide")
    for column in range(MANY):
        labels = alert_labels(AlertKind.FEATURE_DRIFT, "wide", "1", "", f"column-{column:04d}")
        shown = {"summary": "median 1 → 2", "effect": 1.0 + column / 1000, "columns": MANY}
        book.observe(labels, condition, LifecycleRule(severity=Severity.CRITICAL), now, shown)

    def write(conn: Connection) -> None:
        world.service.notifier.announce(conn, book.write(conn, now), now)

    began = time.perf_counter()
    world.service.database.write(write).result()
    return time.perf_counter() - began


def test_5000_alerts_at_once_are_one_message_per_receiver_counted_and_truncated(world: World) -> None:
    took = all_at_once(world, Condition.TRUE)
    world.clock.advance(MINUTE)
    began = time.perf_counter()
    world.look()
    watched = time.perf_counter() - began
    for _ in range(3):
        world.clock.advance(6 * MINUTE)
        world.look()
    assert {request.destination for request in world.wire.sent} == HOSTS
    assert len(world.wire.sent) == len(HOSTS)
    for request in world.wire.sent:
        assert len(request.body) <= MOST_BYTES[request.destination]
    (hook,) = [r for r in world.wire.sent if r.destination == "https://hook.example"]
    body = json.loads(hook.body)
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (30, MANY - 30)
    assert body["alerts"][0]["labels"]["column"] == "column-4999"  # the strongest first
    # Generous, for a machine that does other things: what must not happen is the square of 5000.
    assert took < 30
    assert watched < 15
    all_at_once(world, Condition.FALSE)
    world.clock.advance(6 * MINUTE)
    world.look()
    assert len(world.wire.sent) == 2 * len(HOSTS)
    last = [json.loads(r.body) for r in world.wire.sent if r.destination == "https://hook.example"][-1]
    assert (last["status"], last["truncatedAlerts"]) == ("resolved", MANY - 30)


def test_an_incident_that_flaps_for_an_hour_says_at_most_thirteen_things(world: World) -> None:
    """One to begin with, and one per group_interval of 5 minutes; each rise of severity would add one."""
    for second in range(0, 3600, 30):
        say(world, drift("m"), Condition.TRUE if second % 60 == 0 else Condition.FALSE)
        world.clock.advance(timedelta(seconds=30))
        world.look()
    sent = [r for r in world.wire.sent if r.destination == "https://hook.example"]
    assert 1 <= len(sent) <= 1 + 12
    say(world, drift("m"), Condition.FALSE)
    world.clock.advance(6 * MINUTE)
    world.look()
    world.clock.advance(6 * MINUTE)
    world.look()
    last = [r for r in world.wire.sent if r.destination == "https://hook.example"][-1]
    assert json.loads(last.body)["status"] == "resolved"


def test_drift_that_comes_and_goes_within_its_hold_is_one_incident(world: World) -> None:
    """With keep_firing_for = 60m, drift that flaps faster says two things however long it goes on."""
    rule = LifecycleRule(keep_firing_for=HOUR)
    for minute in range(0, 6 * 60, 10):
        now, condition = world.clock.now(), Condition.TRUE if minute % 20 == 0 else Condition.FALSE
        with world.service.database.read() as conn:
            book = AlertBook.load(conn, "m")
        book.observe(drift("m"), condition, rule, now, {})
        world.service.database.write(
            lambda conn, book=book, now=now: world.service.notifier.announce(conn, book.write(conn, now), now)  # type: ignore[misc]  # bound per turn
        ).result()
        world.clock.advance(10 * MINUTE)
        world.look()
    sent = [json.loads(r.body) for r in world.wire.sent if r.destination == "https://hook.example"]
    assert [(body["status"], body["notification_reason"]) for body in sent] == [
        ("firing", "first notification"),
        ("firing", "repeat interval elapsed"),
    ]
