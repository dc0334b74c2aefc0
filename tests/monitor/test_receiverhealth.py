"""A receiver that does not get its messages is an alert, and the others are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.app import Service
from monitor.config import parse
from monitor.operations import try_receiver
from storage import alerts, receivers
from storage.engine import Database
from tests.monitor.harness import Harness, Heard, drift_labels, harness, listener

STEP = timedelta(seconds=30)


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as found:
        yield found


@pytest.fixture
def other() -> Iterator[Heard]:
    with listener() as found:
        yield found


@contextmanager
def two(tmp_path: Path, heard: Heard, other: Heard) -> Iterator[Harness]:
    """A daemon with `ops`, which will fail, and `other`, which does not."""
    text = f"""
        [alerts]
        group_wait = "0s"
        [receivers.other]
        type = "webhook"
        url = "{other.url}"
        allow_private = true
    """
    with harness(tmp_path, text, url=heard.url) as found:
        yield found


def run(daemon: Harness, steps: int, by: timedelta = STEP) -> None:
    for _ in range(steps):
        daemon.clock.advance(by)
        daemon.service.pipeline.run_once()
        for courier in daemon.service.couriers.values():
            courier.run_once()


def about_receivers(heard: Heard) -> list[tuple[str, str]]:
    found = [body for body in heard.bodies() if "receiver" in body["driftd"]["title"]]
    return [(body["status"], body["alerts"][0]["annotations"]["summary"]) for body in found]


def receiver_alerts(daemon: Harness) -> list[Any]:
    return [a for a in daemon.json("GET", "/v1/alerts")["alerts"] if a["kind"] == "receiver_broken"]


def test_a_dead_endpoint_is_told_to_the_others_until_it_is_repaired(
    tmp_path: Path, heard: Heard, other: Heard
) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 410
        daemon.open_alert(drift_labels())
        run(daemon, 4)
        [(status, summary)] = about_receivers(other)
        assert status == "firing"
        assert summary == (
            "HTTP 410: the endpoint is gone; its messages wait: repair it, then driftd test-alert ops"
        )
        assert receiver_alerts(daemon)[0]["state"] == "firing"
        page = daemon.ask("GET", "/alerts").body.decode()
        assert "broken" in page
        heard.status = 200
        assert try_receiver(daemon.service, "ops", actor="ann").delivered
        run(daemon, 20)
        assert about_receivers(other)[1:] == [("resolved", summary)]
        titles = [body["driftd"]["title"] for body in heard.bodies()]
        assert titles.count("m: temp drifted from training") == 2  # refused once, then delivered


def test_dead_letters_are_told_to_the_others_and_seen_in_the_status(
    tmp_path: Path, heard: Heard, other: Heard
) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 400
        daemon.open_alert(drift_labels())
        run(daemon, 4)
        [(status, summary)] = about_receivers(other)
        assert (status, summary) == (
            "firing",
            "1 of its messages were given up within the hour: HTTP 400",
        )
        found = {r["name"]: r for r in daemon.json("GET", "/v1/status")["receivers"]}
        assert (found["ops"]["dead"] >= 1, found["other"]["dead"]) == (True, 0)
        page = daemon.ask("GET", "/alerts").body.decode()
        assert f'<td class="n">{found["ops"]["dead"]}</td>' in page


def test_an_endpoint_that_is_down_is_told_after_a_quarter_of_an_hour(
    tmp_path: Path, heard: Heard, other: Heard
) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 500
        daemon.open_alert(drift_labels())
        run(daemon, 28)
        assert about_receivers(other) == []
        run(daemon, 6)
        assert about_receivers(other) == [("firing", "its messages do not arrive: HTTP 500")]
        heard.status = 200
        run(daemon, 80)
        assert about_receivers(other)[1:] == [("resolved", "its messages do not arrive: HTTP 500")]


def test_a_refused_test_alert_is_no_trouble(tmp_path: Path, heard: Heard, other: Heard) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 400
        assert not try_receiver(daemon.service, "ops", actor="ann").delivered
        run(daemon, 4)
        assert receiver_alerts(daemon) == []


def test_a_receiver_that_is_configured_no_more_is_no_longer_broken(
    tmp_path: Path, heard: Heard, other: Heard
) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 410
        daemon.open_alert(drift_labels())
        run(daemon, 4)
        clock, state = daemon.clock, daemon.state_dir
    text = f'[storage]\nstate_dir = "{state}"\n[receivers.other]\ntype = "webhook"\nurl = "{other.url}"\nallow_private = true\n'
    service = Service(parse(text), Database.open(state), clock=clock)
    clock.advance(STEP)
    service.pipeline.run_once()
    with service.database.read() as conn:
        assert [row.kind for row in alerts.active(conn, "")] == []
    service.stop()


def test_a_start_gives_a_broken_receiver_another_chance(tmp_path: Path, heard: Heard, other: Heard) -> None:
    with two(tmp_path, heard, other) as daemon:
        heard.status = 410
        daemon.open_alert(drift_labels())
        run(daemon, 2)
        heard.status = 200
        daemon.clock.advance(STEP)
        daemon.service.database.write(lambda conn: receivers.try_again(conn, at=daemon.clock.now())).result()
        run(daemon, 1)
        assert len(heard.posts) >= 2
        with daemon.service.database.read() as conn:
            assert receivers.get(conn, "ops").broken_since is None
