"""The whole alert path as one state machine: lifecycle, notifier, outbox and couriers against a model.

Crashes leave the database as it was committed and lose all memory. Whatever happens, nobody hears of an end
without its beginning, nobody is told of what is muted, and once all is well again everybody knows the truth.
"""

import json
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from alerts.dedup import NotifyReason
from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from alerts.ports import Reply, Request
from monitor.episodes import AlertBook
from monitor.operations import acknowledge, add_silence
from storage import alerts, outbox, receivers
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.outbox import NotificationRow
from tests.monitor.alert_path_model import KEEP, Heard, Name, Truth, group_of, most, out_of_order
from tests.monitor.world import START, World
from tests.storage.delivery_model import NotificationStatus, OutboxRow, ReceiverHealth, claimable

CONFIG = """
[alerts]
group_wait = "30s"
group_interval = "5m"
repeat_interval = "4h"
[receivers.chat]
type = "webhook"
url = "https://chat.example/x"
[receivers.pager]
type = "webhook"
url = "https://pager.example/x"
min_severity = "critical"
[receivers.quiet]
type = "webhook"
url = "https://quiet.example/x"
send_resolved = false
"""
LEAST = {"chat": "warning", "pager": "critical", "quiet": "warning"}
NAMES: list[Name] = [("a", "x"), ("a", "y"), ("b", "x"), ("a", "")]
SPANS = [timedelta(seconds=s) for s in (1, 20, 61, 301, 3_600, 4 * 3_600 + 1)]


class Killed(Exception):
    """The process is gone in the middle of a send."""


class Network:
    """Receivers that are up or down, and a process that may die while it sends."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.die: str | None = None
        self.taken: list[tuple[str, Request]] = []
        self.tried: list[str] = []

    def send(self, request: Request) -> Reply:
        name = request.destination.removeprefix("https://").partition(".")[0]
        self.tried.append(request.headers["webhook-id"])
        if self.die == "before":
            raise Killed
        if name not in self.down:
            self.taken.append((name, request))
        if self.die == "after":
            raise Killed
        return Reply(status=503 if name in self.down else 200, body=b"")


class AlertPath(RuleBasedStateMachine):
    """One daemon, its crashes, its receivers and its operator."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="driftd-alert-path-"))
        self.world = World(self.directory, config=CONFIG)
        self.network = Network()
        self.world.wire.send = self.network.send  # type: ignore[method-assign]  # the same shape
        self.truth = Truth()
        self.heard: dict[tuple[str, str], list[Heard]] = {}
        self.bodies: dict[str, bytes] = {}
        self.copies: Counter[str] = Counter()
        self.crashes = 0
        self.rises: Counter[str] = Counter()
        self.read = 0

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self._settle()
            finally:
                self.world.close()
                shutil.rmtree(self.directory)

    @rule(
        name=st.sampled_from(NAMES),
        condition=st.sampled_from(["true", "true", "false", "unknown"]),
        severity=st.sampled_from(["warning", "critical"]),
    )
    def observe(self, name: Name, condition: str, severity: str) -> None:
        now = self.world.clock.now()
        if condition == "true" and self.truth.rises(name, severity):
            self.rises[group_of(name)] += 1
        self.truth.observe(name, condition, severity, now)
        with self.world.service.database.read() as conn:
            book = AlertBook.load(conn, name[0])
        lifecycle = LifecycleRule(keep_firing_for=KEEP, severity=Severity(severity))
        book.observe(_labels(name), Condition(condition), lifecycle, now, {"summary": "moved"})

        def write(conn: Connection) -> None:
            self.world.service.notifier.announce(conn, book.write(conn, now), now)

        self.world.service.database.write(write).result()

    @rule(span=st.sampled_from(SPANS))
    def time_passes(self, span: timedelta) -> None:
        self.world.clock.advance(span)
        self._watch()

    @rule(minutes=st.sampled_from([1, 7]))
    def the_daemon_works(self, minutes: int) -> None:
        for _ in range(4):
            self.world.clock.advance(timedelta(minutes=minutes))
            self._watch()
            self.deliver()

    @rule(model=st.sampled_from(["a", "b"]), minutes=st.sampled_from([1, 30, 600]))
    def silence(self, model: str, minutes: int) -> None:
        ends_at = self.world.clock.now() + timedelta(minutes=minutes)
        add_silence(
            self.world.service, [f'model="{model}"'], ends_at=ends_at, author="op", comment="why", actor="op"
        )
        self.truth.silenced[model] = max(ends_at, self.truth.silenced.get(model, ends_at))

    @rule(name=st.sampled_from(NAMES))
    def ack(self, name: Name) -> None:
        for row in self._rows():
            if (row.model, row.column) == name:
                acknowledge(self.world.service, row.id, author="op", comment="on it", actor="op")
                self.truth.firing[name].acked = True

    @rule(name=st.sampled_from(NAMES), severity=st.sampled_from(["warning", "critical"]))
    def somebody_takes_an_incident(self, name: Name, severity: str) -> None:
        """What chance alone would rarely put together: told, acknowledged, and then hours of nothing new."""
        self.observe(name, "true", severity)
        self.the_daemon_works(1)
        self.ack(name)
        self.time_passes(SPANS[-1])

    @rule(receiver=st.sampled_from(sorted(LEAST)), model=st.sampled_from(["a", "b"]))
    def an_outage_with_news(self, receiver: str, model: str) -> None:
        self.goes_down(receiver)
        self.observe((model, "x"), "true", "critical")
        self.the_daemon_works(7)
        self.observe((model, "x"), "false", "critical")
        self.the_daemon_works(1)
        self.observe((model, "x"), "false", "critical")
        self.the_daemon_works(7)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(when=st.sampled_from(["before", "after"]), receiver=st.sampled_from(sorted(LEAST)))
    def die_while_sending(self, when: str, receiver: str) -> None:
        self.network.die = when
        try:
            self.world.service.couriers[receiver].run_once(limit=1)
        except Killed:
            self.crashes += 1
            self.world.restart()
        finally:
            self.network.die = None

    @rule(receiver=st.sampled_from(sorted(LEAST)))
    def goes_down(self, receiver: str) -> None:
        self.network.down.add(receiver)

    @rule(receiver=st.sampled_from(sorted(LEAST)))
    def comes_up(self, receiver: str) -> None:
        self.network.down.discard(receiver)

    @rule()
    def deliver(self) -> None:
        """Each courier takes what the model of the outbox would take, and nothing else."""
        for name, courier in self.world.service.couriers.items():
            due = claimable(self._outbox(), self._health(), self.world.clock.now())
            expected = [row.id for row in due if row.receiver == name]
            self.network.tried.clear()
            courier.run_once(limit=1)
            assert self.network.tried == expected

    @invariant()
    def what_is_stored_is_what_happened(self) -> None:
        if hasattr(self, "world"):
            stored = {(row.model, row.column) for row in self._rows()}
            assert stored == set(self.truth.firing)

    @invariant()
    def what_waits_untried_is_true_and_nobody_is_muted(self) -> None:
        if not hasattr(self, "world"):
            return
        now = self.world.clock.now()
        self._watch()
        for row in self._notifications():
            if row.status == "pending" and row.attempts == 0 and row.kind == "firing":
                with self.world.service.database.read() as conn:
                    told = alerts.get_many(conn, row.alert_ids)
                for alert in told:
                    assert (alert.model, alert.column) in self.truth.firing
                    assert not self.truth.muted((alert.model, alert.column), now)
                if json.loads(row.body)["notification_reason"] == NotifyReason.REPEAT:
                    group = group_of((told[0].model, told[0].column))
                    known = self.truth.speaking(group, LEAST[row.receiver], now)
                    assert not self.truth.all_acked(group, known)

    @invariant()
    def messages_are_in_order_bounded_and_the_same_under_one_id(self) -> None:
        if not hasattr(self, "world"):
            return
        self._listen()
        elapsed = self.world.clock.now() - START
        for (receiver, group), heard in self.heard.items():
            assert out_of_order(heard) == []
            assert len(heard) <= most(elapsed, self.rises[group])
            if receiver == "quiet":
                assert {message.status for message in heard} <= {"firing"}
        assert sum(self.copies.values()) - len(self.copies) <= self.crashes

    def _settle(self) -> None:
        """All is well from now on: nobody is down, no silence lasts, and every wait is over."""
        self.network.down.clear()
        for _ in range(24):
            self.world.clock.advance(timedelta(minutes=90))
            self._watch()
            for courier in self.world.service.couriers.values():
                courier.run_once()
        self._listen()
        now = self.world.clock.now()
        for receiver, least in LEAST.items():
            for group in {group_of(name) for name in NAMES}:
                self._knows(receiver, group, self.truth.speaking(group, least, now))
        self.messages_are_in_order_bounded_and_the_same_under_one_id()

    def _knows(self, receiver: str, group: str, wanted: frozenset[str]) -> None:
        heard = self.heard.get((receiver, group), [])
        last = heard[-1] if heard else None
        if wanted:
            assert last is not None
            assert last.status == "firing"
            assert wanted <= last.firing
            if last.firing != wanted:
                # Said once, then gone or less severe than this receiver's; the next repeat would leave it out, but
                # somebody is on the rest. Ends themselves are told to all but `quiet`.
                assert self.truth.all_acked(group, wanted)
                assert receiver == "quiet" or last.firing - wanted <= self.truth.fires(group)
        elif last is not None and last.status == "firing" and receiver != "quiet":
            # Something told is still there, only muted since: its end is still to come.
            assert last.firing & self.truth.fires(group)

    def _watch(self) -> None:
        """What the loop does every five seconds, transitions or not."""
        service, now = self.world.service, self.world.clock.now()
        groups = service.notifier.groups_to_watch
        service.database.write(lambda conn: service.notifier.announce(conn, groups(conn, now), now)).result()

    def _listen(self) -> None:
        for name, request in self.network.taken[self.read :]:
            message_id = request.headers["webhook-id"]
            assert self.bodies.setdefault(message_id, request.body) == request.body
            self.copies[message_id] += 1
            if self.copies[message_id] > 1:
                continue
            body = json.loads(request.body)
            labels = [a["labels"] for a in body["alerts"] if a["status"] == "firing"]
            first = body["alerts"][0]["labels"]
            group = group_of((first["model"], first.get("column", "")))
            self.heard.setdefault((name, group), []).append(
                Heard(
                    id=message_id,
                    status=body["status"],
                    firing=frozenset(label.get("column", "") for label in labels),
                    at=self.world.clock.now(),
                )
            )
        self.read = len(self.network.taken)

    def _rows(self) -> list[AlertRow]:
        with self.world.service.database.read() as conn:
            return alerts.active(conn)

    def _notifications(self) -> list[NotificationRow]:
        """Those that are not delivered."""
        with self.world.service.database.read() as conn:
            return [
                row
                for status in outbox.UNDELIVERED
                for row in outbox.list_notifications(conn, status=status, limit=1_000)
            ]

    def _outbox(self) -> list[OutboxRow]:
        return [
            OutboxRow(
                id=row.id,
                sequence=row.seq,
                receiver=row.receiver,
                group=row.group_key,
                severity=Severity(row.severity),
                status=NotificationStatus(row.status),
                due=row.next_attempt_at,
                attempts=row.attempts,
                owner=row.leased_by or "",
                lease_until=row.leased_until,
            )
            for row in self._notifications()
        ]

    def _health(self) -> dict[str, ReceiverHealth]:
        with self.world.service.database.read() as conn:
            states = receivers.list_states(conn)
        return {state.receiver: ReceiverHealth(held_until=state.hold_until) for state in states}


def _labels(name: Name) -> dict[str, str]:
    model, column = name
    if not column:
        return alert_labels(AlertKind.NO_TRAFFIC, model)
    return alert_labels(AlertKind.FEATURE_DRIFT, model, "1", "", column)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        AlertPath,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_people_end_up_knowing_the_truth() -> None:
    run(8, 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_happens_for_long_people_end_up_knowing_the_truth() -> None:
    run(80, 40)
