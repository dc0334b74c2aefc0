"""Debian's Alertmanager takes what we push, and tells others of it in the words that our webhook uses."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.identity import fingerprint
from alerts.lifecycle import Cause
from monitor.episodes import AlertBook
from monitor.operations import try_receiver
from storage.engine import Connection
from tests.components import require_program
from tests.monitor.harness import Harness, Heard, drift_labels, harness, listener
from tests.ports import reserved_port

CONFIG = """
route:
  receiver: hook
  group_by: [model, segment]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {url}
        send_resolved: true
"""
PATIENCE_SECONDS = 20.0


def until(found: Callable[[], Any], what: str) -> Any:
    """The first true answer; a process of another's making is waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


class Alertmanager:
    """A running Alertmanager on loopback, asked through amtool."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def active(self, *matchers: str) -> list[dict[str, Any]]:
        """The alerts that `amtool alert query` lists."""
        command = [require_program("amtool"), "--alertmanager.url", self.url, "-o", "json", "alert", "query"]
        done = subprocess.run([*command, *matchers], capture_output=True, check=True, timeout=30)
        found = json.loads(done.stdout)
        assert isinstance(found, list)
        return found

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def alertmanager(tmp_path: Path, webhook: str) -> Iterator[Alertmanager]:
    program = require_program("prometheus-alertmanager")
    (tmp_path / "am.yml").write_text(CONFIG.format(url=webhook))
    address = f"127.0.0.1:{reserved_port()}"
    command = [
        program,
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/am",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "am.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    running = Alertmanager(address)
    try:
        until(lambda: child.poll() is not None or running.ready(), "a ready Alertmanager")
        assert child.poll() is None, (tmp_path / "am.log").read_text()
        yield running
    finally:
        child.terminate()
        child.wait(10)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What Alertmanager tells others."""
    with listener() as found:
        yield found


@pytest.fixture
def am(tmp_path: Path, heard: Heard) -> Iterator[Alertmanager]:
    with alertmanager(tmp_path, heard.url) as running:
        yield running


@pytest.fixture
def own() -> Iterator[Heard]:
    """What our own webhook tells."""
    with listener() as found:
        yield found


@pytest.fixture
def daemon(tmp_path: Path, am: Alertmanager, own: Heard) -> Iterator[Harness]:
    """A daemon with both receivers, whose clock is two minutes behind and moves when it is told to.

    An end that lies in Alertmanager's future would be no end: it keeps the later of the two ends it knows.
    """
    pushing = f"""
        [receivers.am]
        type = "alertmanager"
        url = "{am.url}"
        allow_private = true
        watchdog = true

        [alerts]
        group_wait = "0s"
        group_interval = "0s"
    """
    with harness(tmp_path, pushing, url=own.url) as running:
        running.clock.advance_to(datetime.now(UTC) - timedelta(minutes=2))
        yield running


def deliver(daemon: Harness) -> None:
    for courier in daemon.service.couriers.values():
        while courier.run_once():
            pass


def resolve(daemon: Harness, column: str = "temp") -> None:
    now = daemon.clock.now()
    with daemon.service.database.read() as conn:
        book = AlertBook.load(conn, "m")
    episode = book.find(drift_labels(column))
    assert episode is not None
    book.close(episode, Cause.CLEARED, now)

    def write(conn: Connection) -> None:
        daemon.service.notifier.announce(conn, book.write(conn, now), now)

    daemon.service.database.write(write).result()


def shape(value: Any) -> Any:
    """The names and types of a body, without its values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_amtool_lists_our_alert_until_it_is_over(daemon: Harness, am: Alertmanager) -> None:
    daemon.open_alert(drift_labels())
    deliver(daemon)
    (alert,) = am.active("alertname=DriftdFeatureDrift")
    assert alert["labels"] == {**drift_labels(), "severity": "critical"}
    assert alert["fingerprint"] == fingerprint(alert["labels"])
    assert alert["annotations"]["summary"] == "median 1 → 2"
    assert alert["generatorURL"] == "https://drift.example/alerts/1"
    daemon.clock.advance(timedelta(seconds=1))
    resolve(daemon)
    deliver(daemon)
    until(lambda: am.active() == [], "the end of the alert")


def test_its_webhook_says_what_ours_says(daemon: Harness, heard: Heard, own: Heard) -> None:
    for column in ("temp", "carrier"):
        daemon.open_alert(drift_labels(column))
    deliver(daemon)
    both = lambda: [b for b in heard.bodies() if len(b["alerts"]) == 2]  # noqa: E731
    theirs = until(both, "both alerts in one body")[0]
    ours = next(body for body in own.bodies() if len(body["alerts"]) == 2)
    extra = {"driftd", "notification_reason"}  # ours, and what newer versions of theirs have
    assert shape(theirs) == {
        **{name: value for name, value in shape(ours).items() if name not in extra},
        "groupLabels": shape(
            theirs["groupLabels"]
        ),  # their grouping is configured above, ours is by class too
        "commonAnnotations": shape(theirs["commonAnnotations"]),
    }
    assert (theirs["version"], theirs["status"], theirs["truncatedAlerts"]) == ("4", "firing", 0)
    one, two = ({a["fingerprint"]: a for a in body["alerts"]} for body in (theirs, ours))
    assert one.keys() == two.keys()
    for key, alert in one.items():
        for field in ("labels", "annotations", "status", "endsAt", "generatorURL"):
            assert alert[field] == two[key][field]
        begun = [datetime.fromisoformat(a["startsAt"]) for a in (alert, two[key])]
        assert abs(begun[0] - begun[1]) < timedelta(milliseconds=1)  # it keeps milliseconds
    assert theirs["commonLabels"] == ours["commonLabels"]

    daemon.clock.advance(timedelta(seconds=1))
    for column in ("temp", "carrier"):
        resolve(daemon, column)
    deliver(daemon)
    ended = lambda: [b for b in heard.bodies() if b["status"] == "resolved"]  # noqa: E731
    theirs, ours = until(ended, "resolved")[0], own.bodies()[-1]
    assert ours["status"] == "resolved"
    assert {a["fingerprint"] for a in theirs["alerts"]} <= {a["fingerprint"] for a in ours["alerts"]}
    assert {a["status"] for a in theirs["alerts"]} == {"resolved"}


def test_a_re_send_moves_the_end_and_makes_no_new_alert(daemon: Harness, am: Alertmanager) -> None:
    daemon.open_alert(drift_labels())
    deliver(daemon)
    (before,) = am.active("alertname=DriftdFeatureDrift")
    daemon.clock.advance(timedelta(minutes=1))
    daemon.service.pipeline.run_once()
    deliver(daemon)
    (after,) = am.active("alertname=DriftdFeatureDrift")
    moved = datetime.fromisoformat(after["endsAt"]) - datetime.fromisoformat(before["endsAt"])
    assert moved == timedelta(minutes=1)
    assert (after["fingerprint"], after["startsAt"]) == (before["fingerprint"], before["startsAt"])


def test_the_watchdog_fires_while_the_daemon_is_whole(daemon: Harness, am: Alertmanager) -> None:
    daemon.service.pipeline.run_once()
    daemon.service.keep_watchdog()
    deliver(daemon)
    (alert,) = am.active("alertname=DriftdWatchdog")
    ends = datetime.fromisoformat(alert["endsAt"]) - daemon.clock.now()
    assert abs(ends - timedelta(minutes=4)) < timedelta(seconds=1)


def test_an_end_too_early_for_a_clock_that_is_behind_is_heard_with_the_next_re_send(
    daemon: Harness, am: Alertmanager
) -> None:
    daemon.open_alert(drift_labels())
    deliver(daemon)
    daemon.clock.advance(timedelta(minutes=2, seconds=3))
    resolve(daemon)
    deliver(daemon)
    assert len(am.active()) == 1  # three seconds in its future
    daemon.clock.advance(timedelta(minutes=1))
    daemon.service.pipeline.run_once()
    time.sleep(3)
    deliver(daemon)
    until(lambda: am.active() == [], "the end of the alert")


def test_a_test_alert_arrives_and_ends_by_itself(daemon: Harness, am: Alertmanager) -> None:
    done = try_receiver(daemon.service, "am", actor="ann")
    assert (done.delivered, done.http_status) == (True, 200)
    (alert,) = am.active("kind=test")
    assert alert["annotations"]["summary"] == "Test notification to am: nothing is wrong"


def test_hostile_names_arrive_as_they_are(daemon: Harness, am: Alertmanager) -> None:
    names = ["<!channel>", "🙂" * 500, '"\\', "a\r\nb", "\x1b[2J", "é{}=~"]
    for name in names:
        daemon.open_alert(drift_labels(name))
    deliver(daemon)
    assert {alert["labels"]["column"] for alert in am.active("model=m")} == set(names)
