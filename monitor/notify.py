"""Plans notifications inside the transaction of the change they announce.

Rendering happens there too, although the writer should only write: a message links to its alert by an id
that does not exist before. It is rare and takes about a millisecond.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from alerts.dedup import GroupAlert, NotifyReason, Pending, Plan, PlanAction, Told, plan
from alerts.identity import Severity, subject_key
from alerts.message import MessageStatus
from alerts.ports import Receiver
from alerts.routing import Route, parse_matcher, route
from alerts.silences import Silence, inhibitors, muted
from monitor.config import Config
from monitor.ids import message_id
from monitor.incident import Context, compose
from monitor.instants import to_ns
from monitor.receivers import policy_of
from storage import alerts as stored
from storage import locks, models, outbox, silences
from storage.alerts import AlertRow
from storage.engine import Connection
from storage.outbox import NotificationRow

_NEARBY_SECONDS = 2 * 86_400


class Notifier:
    """Decides who is told of a group of alerts, and puts the bytes in the outbox."""

    def __init__(self, config: Config, receivers: Mapping[str, Receiver]) -> None:
        self._config = config
        self._receivers = receivers
        self._routes = [
            Route(receiver=name, min_severity=receiver.settings.min_severity)
            for name, receiver in receivers.items()
        ]

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
        quiet = [_silence(row) for row in silences.active(conn, now=now)]
        for group in wanted:
            members = [row for row in firing if row.group_key == group]
            speaking = [self._member(row, firing, quiet, now) for row in members]
            for name in self._receivers:
                self._one(conn, name, group, list(zip(members, speaking, strict=True)), now)

    def groups_to_watch(self, conn: Connection) -> set[str]:
        """Groups that may have something to say without a transition: repeats, silences that ended."""
        open_groups = {row.group_key for row in stored.active(conn)}
        return open_groups | set(outbox.groups_told_firing(conn))

    def _member(
        self, row: AlertRow, firing: Sequence[AlertRow], quiet: Sequence[Silence], now: datetime
    ) -> GroupAlert:
        fired_at = row.fired_at or row.updated_at
        explained = inhibitors(row.labels, [other.labels for other in firing])
        return GroupAlert(
            key=subject_key(row.labels),
            severity=Severity(row.severity),
            fired_at=fired_at,
            muted=bool(muted(row.labels, quiet, now) or explained or self._too_old(row, fired_at)),
        )

    def _too_old(self, row: AlertRow, fired_at: datetime) -> bool:
        """Whether the firing was history already when it was found: recorded, but nobody is woken for it."""
        limit: timedelta | None = self._config.settings(row.model).page_max_age
        return limit is not None and row.firing_since is not None and fired_at - row.firing_since > limit

    def _one(
        self,
        conn: Connection,
        name: str,
        group: str,
        members: Sequence[tuple[AlertRow, GroupAlert]],
        now: datetime,
    ) -> None:
        receiver = self._receivers[name]
        told = [pair for pair in members if name in route(pair[0].labels, pair[1].severity, self._routes)]
        waiting = next((n for n in outbox.pending_for(conn, name, group) if _replaceable(n)), None)
        last = outbox.last_for(conn, name, group)
        acked = bool(told) and stored.acknowledged(conn, [row.id for row, _ in told]) == {
            row.id for row, _ in told
        }
        decided = plan(
            [alert for _, alert in told],
            None if waiting is None else _pending(conn, waiting),
            None if last is None else _told(conn, last),
            policy_of(self._config, receiver.settings),
            acked=acked,
            now=now,
        )
        if decided.action is PlanAction.DROP and waiting is not None:
            outbox.drop(conn, waiting.id, at=now, reason=decided.reason.value)
        elif decided.action in (PlanAction.INSERT, PlanAction.REPLACE):
            self._write(conn, receiver, group, [row for row, _ in told], waiting, decided, now)

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
        rendered = receiver.render(message)
        ids = [row.id for row in (firing or ended)]
        if decided.action is PlanAction.REPLACE and waiting is not None:
            replaced = outbox.replace(
                conn,
                waiting.id,
                kind=decided.status.value,
                severity=decided.severity.value,
                body=rendered.body,
                alert_ids=ids,
                next_attempt_at=decided.due,
            )
            if replaced:
                return
        outbox.add(
            conn,
            outbox.NewNotification(
                id=message_id(now),
                receiver=receiver.settings.name,
                group_key=group,
                kind=decided.status.value,
                severity=decided.severity.value,
                body=rendered.body,
                content_type=rendered.content_type,
                headers=dict(rendered.headers),
                alert_ids=ids,
                next_attempt_at=decided.due,
                created_at=now,
            ),
        )

    def _context(self, conn: Connection, rows: Sequence[AlertRow]) -> Context:
        return Context(config=self._config, switches=_switches(conn, rows))


def _replaceable(row: NotificationRow) -> bool:
    return row.status == "pending" and row.attempts == 0


def _firing_keys(conn: Connection, row: NotificationRow) -> frozenset[str]:
    """The subjects a notification says are firing; a resolve says none."""
    if row.kind != MessageStatus.FIRING:
        return frozenset()
    return frozenset(subject_key(stored.get(conn, alert_id).labels) for alert_id in row.alert_ids)


def _pending(conn: Connection, row: NotificationRow) -> Pending:
    return Pending(
        due=row.next_attempt_at,
        status=MessageStatus(row.kind),
        firing=_firing_keys(conn, row),
        reason=NotifyReason(row.reason) if row.reason else NotifyReason.FIRST,
        severity=Severity(row.severity),
    )


def _told(conn: Connection, row: NotificationRow) -> Told:
    arrived = outbox.last_for(conn, row.receiver, row.group_key, not_dead=True)
    return Told(
        at=outbox.last_attempt_at(conn, row.id) or row.created_at,
        firing=_firing_keys(conn, row),
        known=frozenset() if arrived is None else _firing_keys(conn, arrived),
        severity=Severity(row.severity),
        in_flight=row.status in outbox.UNDELIVERED,
    )


def _ended(conn: Connection, group: str, keys: frozenset[str]) -> list[AlertRow]:
    """The newest resolved alert of each key."""
    if not keys:
        return []
    newest: dict[str, AlertRow] = {}
    for row in stored.list_alerts(conn, group_key=group, state="resolved", limit=1000):
        newest.setdefault(subject_key(row.labels), row)
    return [row for key, row in newest.items() if key in keys]


def _silence(row: silences.SilenceRow) -> Silence:
    return Silence(
        id=str(row.id),
        matchers=tuple(parse_matcher(f"{m['name']}{m['op']}{_quoted(m['value'])}") for m in row.matchers),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        author=row.author,
        comment=row.comment,
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


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
