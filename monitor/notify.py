"""Plans notifications inside the transaction of the change they announce.

Rendering happens there too, although the writer should only write: a message links to its alert by an id
that does not exist before. It is rare and takes about a millisecond.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alerts.dedup import GroupAlert, NotifyReason, Pending, Plan, PlanAction, Told, plan
from alerts.identity import AlertKind, Labels, Severity, subject_key
from alerts.message import IncidentMessage, MessageStatus
from alerts.ports import Receiver
from alerts.receivers.registry import ACKNOWLEDGING
from alerts.routing import Route, route
from alerts.silences import Silence, inhibitors, muted
from monitor.config import Config
from monitor.incident import Context, compose
from monitor.instants import to_ns
from monitor.outgoing import notification
from monitor.pushing import Pushes
from monitor.routes import policy_of, routes_of
from monitor.silenced import silence_of
from storage import alerts as stored
from storage import locks, models, outbox, silences
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.outbox import NotificationRow

_NEARBY_SECONDS = 2 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A firing alert of a group, as `plan` sees it, and by which route it goes to whom."""

    row: AlertRow
    alert: GroupAlert
    to: Mapping[str, Route]


class Notifier:
    """Decides who is told of a group of alerts, and puts the bytes in the outbox."""

    def __init__(self, config: Config, receivers: Mapping[str, Receiver]) -> None:
        self.adopt(config, receivers)

    def adopt(self, config: Config, receivers: Mapping[str, Receiver]) -> None:
        """Plan by this configuration from now on. What was said and what waits is in the database and stays."""
        self._config = config
        self._receivers = receivers
        self.pushes = Pushes(receivers)
        self._routes = routes_of(config)

    @property
    def receivers(self) -> Collection[str]:
        """The names of those who may be told."""
        return self._receivers.keys()

    def announce(self, conn: Connection, groups: Iterable[str], now: datetime) -> None:
        """Plan every receiver's notification of each group; called again it changes nothing."""
        wanted = sorted(groups)
        if not wanted or not self._receivers:
            return
        locks.announcing(conn)
        firing = [row for row in stored.active(conn) if row.state == "firing"]
        excuses = [row.labels for row in firing if row.kind == AlertKind.NO_TRAFFIC]
        quiet = [silence_of(row) for row in silences.active(conn, now=now)]
        for group in wanted:
            members = [self._member(row, excuses, quiet, now) for row in firing if row.group_key == group]
            for name in self._receivers:
                if name in self.pushes:
                    self._push(conn, name, group, members, now)
                else:
                    self._one(conn, name, group, members, now)

    def groups_to_watch(self, conn: Connection, now: datetime) -> set[str]:
        """Groups that may have something to say without a transition: repeats, silences that ended."""
        told_of = set(outbox.groups_told_firing(conn))
        return stored.open_groups(conn) | told_of | self.pushes.groups(conn, now)

    def acknowledge(self, conn: Connection, group: str, now: datetime) -> None:
        """Tell receivers that call people until somebody has taken the incident, once all of it is taken."""
        firing = [row for row in stored.active(conn) if row.state == "firing" and row.group_key == group]
        taken = stored.acknowledged(conn, [row.id for row in firing])
        for name, receiver in self._receivers.items():
            told = [row for row in firing if name in route(row.labels, Severity(row.severity), self._routes)]
            if receiver.kind not in ACKNOWLEDGING or not told or not taken >= {row.id for row in told}:
                continue
            waiting = [n for n in outbox.pending_for(conn, name, group) if n.kind != outbox.ACKNOWLEDGED]
            newest = waiting[-1] if waiting else outbox.last_for(conn, name, group)
            if newest is None or newest.kind != MessageStatus.FIRING:
                continue
            context, severity = self._context(conn, told), Severity(newest.severity)
            message = compose(told, [], context, severity=severity, reason="acknowledged", now=now)
            message = replace(message, status=MessageStatus.ACKNOWLEDGED)
            self._add(conn, receiver, group, message, [row.id for row in told], now)

    def _member(
        self, row: AlertRow, excuses: Sequence[Labels], quiet: Sequence[Silence], now: datetime
    ) -> _Member:
        fired_at = row.fired_at or row.updated_at
        explained = inhibitors(row.labels, excuses)
        alert = GroupAlert(
            key=subject_key(row.labels),
            severity=Severity(row.severity),
            fired_at=fired_at,
            muted=bool(muted(row.labels, quiet, now) or explained or self._too_old(row, fired_at)),
        )
        return _Member(row=row, alert=alert, to=route(row.labels, alert.severity, self._routes))

    def _too_old(self, row: AlertRow, fired_at: datetime) -> bool:
        """Whether the firing was history already when it was found: recorded, but nobody is woken for it."""
        limit: timedelta | None = self._config.settings(row.model).page_max_age
        return limit is not None and row.firing_since is not None and fired_at - row.firing_since > limit

    def _one(
        self, conn: Connection, name: str, group: str, members: Sequence[_Member], now: datetime
    ) -> None:
        """What `name` is told. An alert on no route to it is muted there: never told, but its end is, if it was."""
        receiver = self._receivers[name]
        waiting = next((n for n in outbox.pending_for(conn, name, group) if _replaceable(n)), None)
        last = outbox.last_for(conn, name, group)
        if waiting is None and last is None and not any(name in member.to for member in members):
            return
        by_id = {member.row.id: member for member in members}
        least = receiver.settings.min_severity
        told = [m for m in members if name in m.to and not m.alert.muted and m.alert.severity >= least]
        ids = [member.row.id for member in told]
        decided = plan(
            [m.alert if name in m.to else replace(m.alert, muted=True) for m in members],
            None if waiting is None else _pending(conn, waiting, by_id),
            None if last is None else _told(conn, last, by_id, now),
            policy_of(self._config, receiver.settings, self._routes_to(conn, name, told, last)),
            acked=bool(told) and stored.acknowledged(conn, ids) == set(ids),
            now=now,
        )
        if decided.action is PlanAction.DROP and waiting is not None:
            outbox.drop(conn, waiting.id, at=now, reason=decided.reason.value)
        elif decided.action in (PlanAction.INSERT, PlanAction.REPLACE):
            self._write(conn, receiver, group, [m.row for m in told], waiting, decided, now)

    def _push(
        self,
        conn: Connection,
        name: str,
        group: str,
        members: Sequence[_Member],
        now: datetime,
    ) -> None:
        """Tell an Alertmanager how the alerts of the group stand; what waits and repeats is its own affair."""
        least = self._receivers[name].settings.min_severity
        told = [
            (member.row, member.alert.muted)
            for member in members
            if name in member.to and member.alert.severity >= least
        ]

        def message(firing: Sequence[AlertRow], ended: Sequence[AlertRow]) -> IncidentMessage:
            severity = max((Severity(row.severity) for row in (*firing, *ended)), key=lambda s: s.rank)
            context = self._context(conn, [*firing, *ended])
            return compose(firing, ended, context, severity=severity, reason="state", now=now)

        self.pushes.tell(conn, name, group, told, now, message)

    def _write(
        self,
        conn: Connection,
        receiver: Receiver,
        group: str,
        rows: Sequence[AlertRow],
        waiting: NotificationRow | None,
        decided: Plan,
        now: datetime,
    ) -> None:
        assert decided.due is not None
        assert decided.status is not None
        assert decided.severity is not None
        firing = [row for row in rows if subject_key(row.labels) in decided.firing]
        ended = _ended(conn, group, decided.resolved)
        message = compose(
            firing,
            ended,
            self._context(conn, [*firing, *ended]),
            severity=decided.severity,
            reason=decided.reason.value,
            now=now,
        )
        ids = [row.id for row in (firing or ended)]
        if decided.action is PlanAction.REPLACE and waiting is not None:
            replaced = outbox.replace(
                conn,
                waiting.id,
                kind=decided.status.value,
                severity=decided.severity.value,
                body=receiver.render(message).body,
                alert_ids=ids,
                next_attempt_at=decided.due,
            )
            if replaced:
                return
        self._add(conn, receiver, group, message, ids, decided.due)

    def _add(
        self,
        conn: Connection,
        receiver: Receiver,
        group: str,
        message: IncidentMessage,
        alert_ids: Sequence[int],
        due: datetime,
    ) -> None:
        new = notification(
            receiver, message, now=message.created_at, due=due, group=group, alert_ids=alert_ids
        )
        outbox.add(conn, new)

    def _routes_to(
        self, conn: Connection, name: str, told: Sequence[_Member], last: NotificationRow | None
    ) -> list[Route]:
        """The routes that the group takes to a receiver; when all is over, those it took."""
        if told or last is None:
            return [member.to[name] for member in told]
        ended = stored.get_many(conn, last.alert_ids)
        ways = [route(row.labels, Severity(row.severity), self._routes) for row in ended]
        return [way[name] for way in ways if name in way]

    def _context(self, conn: Connection, rows: Sequence[AlertRow]) -> Context:
        return Context(config=self._config, switches=_switches(conn, rows))


def _replaceable(row: NotificationRow) -> bool:
    return row.status == "pending" and row.attempts == 0 and row.kind != outbox.ACKNOWLEDGED


def _firing_keys(conn: Connection, row: NotificationRow, known: Mapping[int, _Member]) -> frozenset[str]:
    """The subjects a notification says are firing; a resolve says none."""
    if row.kind != MessageStatus.FIRING:
        return frozenset()
    found = {known[alert_id].alert.key for alert_id in row.alert_ids if alert_id in known}
    ended = stored.get_many(conn, [alert_id for alert_id in row.alert_ids if alert_id not in known])
    return frozenset(found | {subject_key(alert.labels) for alert in ended})


def _pending(conn: Connection, row: NotificationRow, known: Mapping[int, _Member]) -> Pending:
    return Pending(
        due=row.next_attempt_at,
        status=MessageStatus(row.kind),
        firing=_firing_keys(conn, row, known),
        reason=NotifyReason(row.reason) if row.reason else NotifyReason.FIRST,
        severity=Severity(row.severity),
    )


def _told(conn: Connection, row: NotificationRow, known: Mapping[int, _Member], now: datetime) -> Told:
    arrived = outbox.last_for(conn, row.receiver, row.group_key, not_dead=True)
    firing = _firing_keys(conn, row, known)
    if arrived is None:
        believed: frozenset[str] = frozenset()
    else:
        believed = firing if arrived.id == row.id else _firing_keys(conn, arrived, known)
    return Told(
        # A clock that was set back has left attempts in the future; nothing waits for that future.
        at=min(outbox.last_attempt_at(conn, row.id) or row.created_at, now),
        firing=firing,
        known=believed,
        severity=Severity(row.severity),
        in_flight=row.status in outbox.UNDELIVERED,
    )


def _ended(conn: Connection, group: str, keys: frozenset[str]) -> list[AlertRow]:
    """The newest resolved alert of each key."""
    if not keys:
        return []
    newest: dict[str, AlertRow] = {}
    for row in stored.list_alerts(conn, group_key=group, state="resolved", limit=1000 + 2 * len(keys)):
        newest.setdefault(subject_key(row.labels), row)
    return [row for key, row in newest.items() if key in keys]


def _switches(conn: Connection, rows: Sequence[AlertRow]) -> tuple[str, ...]:
    """Versions of the model that began to answer within two days of the onset."""
    model = next((row.model for row in rows if row.model), "")
    found = models.get_model(conn, model) if model else None
    if found is None:
        return ()
    names = {version.id: version.version for version in models.list_versions(conn, found.id)}
    onset = min(to_ns(row.firing_since or row.active_since) for row in rows) // 1_000_000_000
    first: dict[int, int] = {}
    for hour in models.list_servings(conn, found.id, start=-(2**62), end=onset + _NEARBY_SECONDS):
        first.setdefault(hour.version_id, hour.start)
    if len(first) < 2:
        return ()
    oldest = min(first.values())
    return tuple(
        f"version {names[version]} began to answer {_hours(onset - start)}"
        for version, start in first.items()
        if start != oldest and abs(onset - start) <= _NEARBY_SECONDS
    )


def _hours(seconds: int) -> str:
    hours = round(abs(seconds) / 3600)
    return f"{hours} h {'before' if seconds >= 0 else 'after'} this was found"
