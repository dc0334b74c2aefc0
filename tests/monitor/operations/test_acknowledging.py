"""An acknowledgement reaches whoever calls people until somebody is on it, and nobody else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.lifecycle import Cause
from monitor.episodes import AlertBook
from monitor.operations import acknowledge
from storage import outbox
from storage.engine import Connection
from storage.outbox import NotificationRow
from tests.monitor.harness import Harness, Heard, drift_labels, harness, listener


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as found:
        found.status = 202
        yield found


@pytest.fixture
def daemon(tmp_path: Path, heard: Heard) -> Iterator[Harness]:
    config = f"""
        [receivers.pager]
        type = "pagerduty"
        endpoint = "{heard.url}"
        routing_key = "0123456789abcdef0123456789abcdef"
        allow_private = true

        [receivers.chat]
        type = "slack"
        url = "{heard.url}"
        allow_private = true

        [alerts]
        group_wait = "0s"
        group_interval = "1m"
        repeat_interval = "4h"
    """
    with harness(tmp_path, config) as running:
        yield running


def events(daemon: Harness, heard: Heard, name: str = "pager") -> list[str]:
    while daemon.service.couriers[name].run_once():
        pass
    return [event["event_action"] for event in heard.bodies() if "event_action" in event]


def look(daemon: Harness, after: timedelta) -> None:
    daemon.clock.advance(after)
    daemon.service.pipeline.run_once()


def test_the_pager_hears_of_it_once_and_under_the_same_key(daemon: Harness, heard: Heard) -> None:
    alert = daemon.open_alert(drift_labels())
    assert events(daemon, heard) == ["trigger"]
    acknowledge(daemon.service, alert, author="ann", actor="ann")
    assert events(daemon, heard) == ["trigger", "acknowledge"]
    assert len({event["dedup_key"] for event in heard.bodies()}) == 1
    assert [n.receiver for n in notifications(daemon) if n.kind == "acknowledged"] == ["pager"]


def test_it_changes_nothing_of_what_the_pager_is_known_to_know(daemon: Harness, heard: Heard) -> None:
    alert = daemon.open_alert(drift_labels())
    events(daemon, heard)
    acknowledge(daemon.service, alert, author="ann", actor="ann")
    events(daemon, heard)
    look(daemon, timedelta(hours=5))
    assert events(daemon, heard) == ["trigger", "acknowledge"]  # no repeat, and no second first notification
    close(daemon)
    look(daemon, timedelta(minutes=2))
    assert events(daemon, heard) == ["trigger", "acknowledge", "resolve"]


def test_it_waits_for_the_trigger(daemon: Harness, heard: Heard) -> None:
    heard.status = 500
    alert = daemon.open_alert(drift_labels())
    assert events(daemon, heard) == ["trigger"]
    acknowledge(daemon.service, alert, author="ann", actor="ann")
    heard.status = 202
    assert events(daemon, heard) == ["trigger"]
    daemon.clock.advance(timedelta(seconds=10))
    assert events(daemon, heard) == ["trigger", "trigger", "acknowledge"]


def test_an_incident_of_two_columns_is_taken_when_both_are(daemon: Harness, heard: Heard) -> None:
    one, two = daemon.open_alert(drift_labels()), daemon.open_alert(drift_labels("carrier"))
    assert events(daemon, heard) == ["trigger"]
    acknowledge(daemon.service, one, author="ann", actor="ann")
    assert events(daemon, heard) == ["trigger"]
    acknowledge(daemon.service, two, author="ann", actor="ann")
    assert events(daemon, heard) == ["trigger", "acknowledge"]


def test_what_is_over_is_not_acknowledged_at_the_pager(daemon: Harness, heard: Heard) -> None:
    alert = daemon.open_alert(drift_labels())
    events(daemon, heard)
    close(daemon)
    look(daemon, timedelta(minutes=2))
    acknowledge(daemon.service, alert, author="ann", actor="ann")
    assert events(daemon, heard) == ["trigger", "resolve"]


def close(daemon: Harness) -> None:
    now = daemon.clock.now()
    with daemon.service.database.read() as conn:
        book = AlertBook.load(conn, "m")
    for episode in book.open_episodes():
        book.close(episode, Cause.CLEARED, now)

    def write(conn: Connection) -> None:
        daemon.service.notifier.announce(conn, book.write(conn, now), now)

    daemon.service.database.write(write).result()


def notifications(daemon: Harness) -> list[NotificationRow]:
    with daemon.service.database.read() as conn:
        return outbox.list_notifications(conn)
