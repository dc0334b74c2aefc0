"""Tells every Alertmanager of every alert, over and over: the shell around `alerts.pushing`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from alerts.message import IncidentMessage
from alerts.ports import Receiver
from alerts.pushing import AFTER_END, RESEND, Newest, Stage, Standing, Step, step, told_of
from alerts.receivers.alertmanager import WATCHDOG_GROUP, AlertmanagerReceiver, watchdog_message
from monitor.outgoing import notification
from storage import alerts as stored
from storage import outbox
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.outbox import NotificationRow

STUCK_AFTER: Final = timedelta(minutes=5)
Compose = Callable[[Sequence[AlertRow], Sequence[AlertRow]], IncidentMessage]
"""The message about alerts that fire and alerts that ended."""


class Pushes:
    """The receivers that hold our state rather than read our messages."""

    def __init__(self, receivers: Mapping[str, Receiver]) -> None:
        self._receivers = {n: r for n, r in receivers.items() if isinstance(r, AlertmanagerReceiver)}

    def __contains__(self, name: str) -> bool:
        return name in self._receivers

    def groups(self, conn: Connection, now: datetime) -> set[str]:
        """Groups that must be looked at although nothing of them is open: their end is still re-sent."""
        if not self._receivers:
            return set()
        since = now - AFTER_END - 2 * RESEND
        return outbox.groups_written_since(
            conn, list(self._receivers), since, kinds=("firing", "resolved")
        ) - {WATCHDOG_GROUP}

    def tell(
        self,
        conn: Connection,
        name: str,
        group: str,
        firing: Iterable[tuple[AlertRow, bool]],
        now: datetime,
        compose: Compose,
    ) -> None:
        """Bring what waits for one instance up to date. `firing`: its alerts of the group, and which are muted."""
        receiver = self._receivers[name]
        undelivered = outbox.pending_for(conn, name, group)
        last = outbox.last_for(conn, name, group)
        newest = undelivered[-1] if undelivered else last
        for older in undelivered[:-1]:
            # Back in the queue after a try that failed, it would only be in the way: the newer one says all of it.
            outbox.drop(conn, older.id, at=now, reason="newer news is waiting", attempted_too=True)
        open_rows = {row.id: (row, muted) for row, muted in firing}
        known = frozenset[int]() if last is None else frozenset(last.alert_ids)
        unsettled = frozenset(i for row in undelivered for i in row.alert_ids)
        ended = {row.id: row for row in stored.get_many(conn, sorted((known | unsettled) - open_rows.keys()))}
        wanted = told_of(
            [
                *(_standing(row, muted) for row, muted in open_rows.values()),
                *(_standing(row) for row in ended.values() if row.state == "resolved"),
            ],
            known=known,
            unsettled=unsettled,
            now=now,
            send_resolved=receiver.settings.send_resolved,
        )
        decided = step(wanted, None if newest is None else _newest(newest), now)
        if decided is Step.DROP and newest is not None:
            outbox.drop(conn, newest.id, at=now, reason="over before it was told", attempted_too=True)
        if decided not in (Step.INSERT, Step.RENEW):
            return
        message = compose(
            [open_rows[a.id][0] for a in wanted if a.firing], [ended[a.id] for a in wanted if not a.firing]
        )
        ids = [a.id for a in wanted]
        _write(conn, receiver, message, ids, newest if decided is Step.RENEW else None, now, group)

    def keep_watchdog(
        self, conn: Connection, names: Iterable[str], since: datetime, now: datetime, page: str
    ) -> None:
        """Renew the alert that always fires; the caller has seen that the daemon is whole."""
        message = watchdog_message(since, now, page)
        for name in names:
            undelivered = outbox.pending_for(conn, name, WATCHDOG_GROUP)
            newest = undelivered[-1] if undelivered else outbox.last_for(conn, name, WATCHDOG_GROUP)
            if newest is None or newest.status != "leased":
                _write(conn, self._receivers[name], message, [], newest, now, WATCHDOG_GROUP)


def late_since(conn: Connection, now: datetime) -> datetime | None:
    """Since when the oldest message is due, if that is more than five minutes; None while none is late.

    Receivers that are known to be broken do not count: they have an alert of their own.
    """
    due = outbox.oldest_due(conn, now=now)
    return due if due is not None and now - due > STUCK_AFTER else None


def whole(conn: Connection, stood_still: timedelta | None, now: datetime) -> bool:
    """Whether the loop comes round, and nothing that is due has been left lying for more than five minutes.

    `stood_still`: how long ago, by the monotonic clock, the loop last got something done; None if it never has.
    """
    return stood_still is not None and stood_still < STUCK_AFTER and late_since(conn, now) is None


def _write(
    conn: Connection,
    receiver: Receiver,
    message: IncidentMessage,
    alert_ids: Sequence[int],
    renewed: NotificationRow | None,
    now: datetime,
    group: str,
) -> None:
    new = notification(receiver, message, now=now, group=group, alert_ids=alert_ids)
    if renewed is None:
        outbox.add(conn, new)
        return
    outbox.renew(
        conn,
        renewed.id,
        kind=new.kind,
        severity=new.severity,
        body=new.body,
        alert_ids=alert_ids,
        at=now,
    )


def _standing(row: AlertRow, muted: bool = False) -> Standing:
    firing = row.state == "firing"
    return Standing(
        id=row.id,
        key=f"{row.key} {row.severity}",  # the labels that Alertmanager tells alerts apart by
        firing=firing,
        changed_at=(row.fired_at or row.updated_at) if firing else row.updated_at,
        muted=muted,
    )


def _newest(row: NotificationRow) -> Newest:
    stage = {"pending": Stage.WAITING, "leased": Stage.IN_FLIGHT}.get(row.status, Stage.SETTLED)
    return Newest(alert_ids=frozenset(row.alert_ids), written_at=row.written_at, stage=stage)
