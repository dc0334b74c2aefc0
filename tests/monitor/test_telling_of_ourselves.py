"""Alerts about the daemon's own trouble: rows lost before they came, and receivers that hear nothing."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, alert_labels
from alerts.lifecycle import Condition
from alerts.ports import Reply, Request
from storage import outbox, receivers
from storage.alerts import AlertRow
from tests.monitor import frames
from tests.monitor.test_routes import say
from tests.monitor.world import CONFIG, World

MINUTE = timedelta(minutes=1)
BASELINE = frames.baseline()
SECOND_RECEIVER = '[receivers.second]\ntype = "webhook"\nurl = "https://second.example/x"\n'
DRIFT = alert_labels(AlertKind.FEATURE_DRIFT, "credit", "1", "", "temp")


class Fates:
    """A transport that answers each host as it is told."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.status: dict[str, int] = {}

    def send(self, request: Request) -> Reply:
        self.sent.append(request)
        return Reply(status=self.status.get(request.destination, 200), body=b"")

    def kinds(self, host: str) -> list[tuple[str, str]]:
        """Kind and status of every message that `host` took, in order."""
        bodies = [json.loads(r.body) for r in self.sent if r.destination == host]
        return [(body["alerts"][0]["labels"]["kind"], body["status"]) for body in bodies]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config=CONFIG + SECOND_RECEIVER)
    world.register(BASELINE)
    yield world
    world.close()


@pytest.fixture
def fates(world: World, monkeypatch: pytest.MonkeyPatch) -> Fates:
    fates = Fates()
    monkeypatch.setattr(world.wire, "send", fates.send)
    return fates


HOOK, SECOND = "https://hook.example", "https://second.example"


def broken(world: World) -> list[AlertRow]:
    return [row for row in world.alerts() if row.kind == "receiver_broken"]


def minutes(world: World, count: int, step: timedelta = MINUTE) -> None:
    for _ in range(count):
        world.clock.advance(step)
        world.look()


def test_a_receiver_that_is_gone_is_told_of_by_the_others(world: World, fates: Fates) -> None:
    fates.status[HOOK] = 410
    say(world, DRIFT, Condition.TRUE)
    minutes(world, 3)
    (alert,) = broken(world)
    assert (alert.labels["receiver"], alert.state, alert.severity) == ("hook", "firing", "critical")
    assert "HTTP 410" in alert.detail["summary"]
    assert ("receiver_broken", "firing") in fates.kinds(SECOND)
    assert ("receiver_broken", "firing") not in fates.kinds(HOOK)
    fates.status[HOOK] = 200
    world.service.database.write(lambda conn: receivers.clear(conn, "hook")).result()  # as test-alert does
    minutes(world, 3)
    assert broken(world)[0].state == "resolved"
    assert fates.kinds(SECOND)[-1] == ("receiver_broken", "resolved")


def test_a_receiver_that_keeps_failing_is_told_of_after_a_quarter_of_an_hour(
    world: World, fates: Fates
) -> None:
    fates.status[HOOK] = 503
    say(world, DRIFT, Condition.TRUE)
    minutes(world, 14)
    assert broken(world) == []
    minutes(world, 2)
    assert [row.state for row in broken(world)] == ["firing"]
    fates.status[HOOK] = 200
    minutes(world, 60)
    assert [row.state for row in broken(world)] == ["resolved"]


def test_messages_that_failed_before_our_own_downtime_are_no_outage_of_the_receiver(
    world: World, fates: Fates
) -> None:
    fates.status[HOOK] = 503
    say(world, DRIFT, Condition.TRUE)
    minutes(world, 2)
    world.clock.advance(timedelta(hours=2))
    world.restart()
    fates.status[HOOK] = 200
    minutes(world, 20)
    assert broken(world) == []


def test_a_refused_message_is_told_of_for_an_hour(world: World, fates: Fates) -> None:
    fates.status[HOOK] = 400
    say(world, DRIFT, Condition.TRUE)
    minutes(world, 2)
    assert [row.state for row in broken(world)] == ["firing"]
    minutes(world, 61)
    assert [row.state for row in broken(world)] == ["resolved"]


def test_what_waits_for_a_receiver_that_is_configured_no_more_is_dropped_and_not_missed(
    world: World, fates: Fates
) -> None:
    fates.status[HOOK] = 503
    say(world, DRIFT, Condition.TRUE)
    minutes(world, 17)
    assert [row.state for row in broken(world)] == ["firing"]
    world.restart(CONFIG.replace("receivers.hook", "receivers.renamed") + SECOND_RECEIVER)
    now = world.clock.now()
    names = list(world.service.receivers)
    dropped = world.service.database.write(
        lambda conn: outbox.forsake(conn, names, now=now, reason="gone")
    ).result()
    assert dropped == 1
    minutes(world, 2)
    assert [row.state for row in broken(world)] == ["resolved"]
    assert "hook" not in {n.receiver for n in world.notifications() if n.status == "pending"}


@pytest.mark.parametrize(("dropped", "tells"), [(0, False), (3, False), (99, False), (200, True)])
def test_rows_that_the_sidecar_left_out_are_told(world: World, dropped: int, tells: bool) -> None:
    for minute in range(3):
        at = world.clock.now()
        world.clock.advance(MINUTE)
        said = {"seen": 60 + dropped, "kept": 60, "dropped": dropped if minute == 1 else 0}
        world.send(at, frames.rows(minute, 60), parameters=said)
        world.look()
    world.clock.advance(MINUTE)
    world.look()
    found = [row for row in world.alerts() if row.kind == "monitoring_loss"]
    assert bool(found) is tells
    if tells:
        assert "left out 200 of 320 rows" in found[0].detail["summary"]
        for minute in range(62):
            world.minute(minute)
        assert [row.state for row in world.alerts() if row.kind == "monitoring_loss"] == ["resolved"]
