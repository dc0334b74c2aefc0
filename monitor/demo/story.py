"""What `driftd demo` does: the commands a user would type, a real daemon, a real model, real rows.

Nothing in the daemon knows of the demo. Daily panes and blocks, and windows of 1, 7 and 28 days, are plain
configuration; event time does the rest.
"""

import json
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pandas as pd

from alerts.times import span
from monitor.demo.inbox import Delivery, Inbox

ASSETS: Final = Path(__file__).parent / "assets"
MODEL: Final = "late-arrival"
CHART_COLUMN: Final = "temp"
STABLE_UNTIL: Final = datetime(2013, 3, 1, 5, tzinfo=UTC)
"""Midnight of 1 March in New York: the training months end here."""
NOT_FEATURES: Final = ("id", "time", "late")
DRAIN_SECONDS: Final = 30.0

_CONFIG = """\
# What the demo runs with: daily panes and blocks, because weather is one draw a day, not one a minute.
[server]
bind = "127.0.0.1:{port}"

[storage]
state_dir = "{state}"

[models.{model}]
pane = "1d"
windows = ["1d", "7d", "28d"]
evidence_block = "1d"
# Judged by training and tolerance alone: learning how much winter weather wanders would page ten days later.
learning = false
no_traffic_after = "off"
# The demo replays five months in half a minute: nothing in it is too old to tell.
page_max_age = "off"

[alerts]
group_wait = "1s"
group_interval = "2s"

[receivers.slack]
type = "slack"
url = "{inbox}/slack"
allow_private = true

[receivers.webhook]
type = "webhook"
url = "{inbox}/webhook"
allow_private = true

[log]
level = "warning"
"""


class DemoFailed(Exception):
    """The demo could not go on; the message says why."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What the demo measured, as `--json` prints it."""

    rows_sent: int = 0
    rows_stored: int = 0
    windows_evaluated: int = 0
    stable_alerts: int = 0
    alerts: list[dict[str, Any]] = field(default_factory=list)
    seconds_to_ready: float | None = None
    seconds_to_first_chart: float | None = None
    seconds_to_first_alert: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A served day: its event time as it was in 2013, and how far the serving app is."""

    date: datetime
    served: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """Who is told what happens: a terminal, or nobody."""

    step: Callable[[str, str], None]
    day: Callable[[Day], None]
    alert: Callable[[dict[str, Any]], None]


class Story:
    """One run of the demo in a directory of its own."""

    def __init__(self, directory: Path, show: Show, *, seconds_per_day: float) -> None:
        self._directory = directory
        self._show = show
        self._seconds_per_day = seconds_per_day
        self._began = time.monotonic()
        self._last_event_ns = time.time_ns()
        self._inbox = Inbox()
        self._port = _free_port()
        self._days: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.outcome = Outcome()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def page(self) -> str:
        return f"{self.url}/models/{MODEL}"

    def run(self, *, until_alert: bool, limit_seconds: float, then: Callable[[], None]) -> Outcome:
        """Tell the story. With `until_alert` it ends at the first alert; `then` runs before the daemon is stopped."""
        config = self._directory / "driftd.toml"
        config.write_text(
            _CONFIG.format(
                port=self._port, state=self._directory / "state", model=MODEL, inbox=self._inbox.url
            )
        )
        self._build_baseline(config)
        deadline = self._began + limit_seconds
        with _running(self._daemon(config), self._directory / "daemon.log"):
            self._wait_ready(deadline)
            with _running(self._app(), self._directory / "app.log", self._days):
                self._watch(until_alert, deadline)
            self._settle()
            then()
        return self.outcome

    def close(self) -> None:
        self._inbox.close()

    def _build_baseline(self, config: Path) -> None:
        started = time.monotonic()
        ignored = [part for name in NOT_FEATURES for part in ("--ignore", name)]
        artefact, training = ASSETS / "late_arrival.onnx", ASSETS / "training.csv.gz"
        command = _driftd(
            "baseline", "build", "--config", str(config), "--model", MODEL, "--artifact", str(artefact)
        )
        done = subprocess.run(
            [*command, *ignored, str(training)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoFailed(f"the baseline could not be built: {done.stderr.strip()}")
        self._show.step("baseline", f"January and February 2013, in {time.monotonic() - started:.1f} s")

    def _daemon(self, config: Path) -> list[str]:
        return _driftd("serve", "--config", str(config))

    def _app(self) -> list[str]:
        columns = pd.read_csv(ASSETS / "serving.csv.gz", nrows=0).columns
        features = [name for name in columns if name not in NOT_FEATURES]
        return [
            *(sys.executable, "-m", "monitor.demo.serving"),
            *("--artifact", str(ASSETS / "late_arrival.onnx")),
            *("--rows", str(ASSETS / "serving.csv.gz")),
            *("--columns", ",".join(features)),
            *("--model", MODEL, "--endpoint", self.url),
            *("--last-event-ns", str(self._last_event_ns)),
            *("--seconds-per-day", str(self._seconds_per_day)),
        ]

    def _wait_ready(self, deadline: float) -> None:
        started = time.monotonic()
        while time.monotonic() < deadline:
            if _get(f"{self.url}/readyz") is not None:
                self.outcome.seconds_to_ready = round(time.monotonic() - started, 3)
                self._show.step("daemon", f"ready in {self.outcome.seconds_to_ready:.1f} s")
                self._show.step("page", self.page)
                return
            time.sleep(0.05)
        raise DemoFailed(f"the daemon did not become ready: {_tail(self._directory / 'daemon.log')}")

    def _watch(self, until_alert: bool, deadline: float) -> None:
        """Follow the serving app until it is done, or until the first alert."""
        while time.monotonic() < deadline:
            self._take_deliveries()
            self._look_for_chart()
            if until_alert and self.outcome.alerts:
                return
            try:
                said = self._days.get(timeout=0.1)
            except queue.Empty:
                continue
            if "rows_sent" in said:
                self._days.put(said)
                return
            if "ended" in said:
                raise DemoFailed(f"the serving app stopped: {_tail(self._directory / 'app.log')}")
            self._show.day(Day(date=self._in_2013(said["event_ns"]), served=said["served"], of=said["of"]))
        raise DemoFailed("no alert came in time" if until_alert else "the rows were not served in time")

    def _settle(self) -> None:
        """Wait until every row sent is stored and every alert has arrived, then count."""
        deadline = time.monotonic() + DRAIN_SECONDS
        sent = next((said["rows_sent"] for said in _drain(self._days) if "rows_sent" in said), None)
        if sent is None:
            raise DemoFailed(
                f"the serving app did not say what it sent: {_tail(self._directory / 'app.log')}"
            )
        self.outcome.rows_sent = sent
        while time.monotonic() < deadline:
            self._take_deliveries()
            metrics = _metrics(f"{self.url}/metrics")
            self.outcome.rows_stored = int(
                metrics.get(f'driftd_ingest_rows_accepted_total{{model="{MODEL}"}}', 0)
            )
            boundaries = int(metrics.get(f'driftd_evaluated_boundaries_total{{model="{MODEL}"}}', 0))
            self.outcome.windows_evaluated = 3 * boundaries
            waiting = metrics.get("driftd_fold_backlog_batches", 0)
            if self.outcome.rows_stored >= sent and not waiting:
                break
            time.sleep(0.1)
        self._look_for_chart()

    def _take_deliveries(self) -> None:
        for delivery in _drain(self._inbox.deliveries):
            if delivery.path == "/slack":
                self._show.alert(delivery.body)
            else:
                self._note(delivery)

    def _note(self, delivery: Delivery) -> None:
        if self.outcome.seconds_to_first_alert is None:
            self.outcome.seconds_to_first_alert = round(delivery.at - self._began, 3)
        known = {alert["column"] for alert in self.outcome.alerts}
        for alert in delivery.body["driftd"]["alerts"]:
            column, evidence = alert["labels"].get("column"), alert["evidence"]
            if alert["status"] != "firing" or column in known or evidence is None:
                continue
            self.outcome.alerts.append(
                {
                    "column": column,
                    "detector": evidence["detector"],
                    "window": span(evidence["window_seconds"]),
                    "statistic": evidence["statistic"],
                    "threshold": evidence["threshold"],
                }
            )
            started = datetime.fromisoformat(alert["starts_at"])
            self.outcome.stable_alerts += self._in_2013(int(started.timestamp() * 1e9)) <= STABLE_UNTIL

    def _look_for_chart(self) -> None:
        if self.outcome.seconds_to_first_chart is None:
            page = _get(f"{self.page}/columns/{quote(CHART_COLUMN)}")
            if page is not None and b"<svg" in page:
                self.outcome.seconds_to_first_chart = round(time.monotonic() - self._began, 3)

    def _in_2013(self, event_ns: int) -> datetime:
        last = pd.read_csv(ASSETS / "serving.csv.gz", usecols=["time"])["time"].iloc[-1]
        shift = self._last_event_ns - int(pd.Timestamp(last).value)
        return datetime.fromtimestamp((event_ns - shift) / 1e9, UTC)


def _driftd(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from monitor.cli import main; main()", *arguments]


@contextmanager
def _running(
    command: list[str], log: Path, said: "queue.SimpleQueue[dict[str, Any]] | None" = None
) -> Iterator[None]:
    """A child of its own session, whose JSON lines go to `said`; ended, and waited for, at the end of the block."""
    with log.open("wb") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=errors if said is None else subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    reader = threading.Thread(target=_follow, args=(child, said), daemon=True)
    if said is not None:
        reader.start()
    try:
        yield
    finally:
        assert child.stdin is not None
        child.stdin.close()
        if said is None:
            child.terminate()
        try:
            child.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if said is not None:
            reader.join()


def _follow(child: "subprocess.Popen[bytes]", said: "queue.SimpleQueue[dict[str, Any]]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        said.put(json.loads(line))
    said.put({"ended": True})


def _drain(waiting: "queue.SimpleQueue[Any]") -> Iterator[Any]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _get(url: str) -> bytes | None:
    """The body of a 200, else None."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310  # our own loopback address
            return bytes(reply.read())
    except (urllib.error.URLError, OSError):
        return None


def _metrics(url: str) -> dict[str, float]:
    text = (_get(url) or b"").decode()
    pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
