"""Which receivers do not get their messages: the others are told."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from alerts.message import MessageStatus
from monitor.liveness import RECENT, Fact
from storage import alerts, outbox, receivers
from storage.engine import Connection

OVERDUE: Final = timedelta(minutes=15)
OVERDUE_ATTEMPTS: Final = 3
"""A message that was tried so often, and is older than that, is not held up by a passing fault."""


def receiver_facts(conn: Connection, names: Collection[str], now: datetime) -> Iterator[Fact]:
    """One fact for each receiver there is, and for each that had an alert and is no longer configured."""
    broken = {s.receiver: s.reason for s in receivers.list_states(conn) if s.broken_since is not None}
    dead = outbox.given_up(conn, since=now - RECENT, not_kind=MessageStatus.TEST.value)
    late = outbox.overdue(conn, before=now - OVERDUE, attempts=OVERDUE_ATTEMPTS)
    for name in names:
        why = None
        if name in broken:
            why = f"{broken[name]}; its messages wait: repair it, then driftd test-alert {name}"
        elif name in dead:
            count, reason = dead[name]
            why = f"{count} of its messages were given up within the hour: {reason}"
        elif name in late:
            why = f"its messages do not arrive: {late[name]}"
        yield _fact(name, why)
    for row in alerts.active(conn, ""):
        if row.kind == AlertKind.RECEIVER_BROKEN and row.labels["receiver"] not in names:
            yield _fact(row.labels["receiver"], None)


def _fact(name: str, why: str | None) -> Fact:
    return Fact(
        labels=alert_labels(AlertKind.RECEIVER_BROKEN, receiver=name),
        condition=Condition.FALSE if why is None else Condition.TRUE,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail={"summary": why or "its messages arrive again"},
    )
