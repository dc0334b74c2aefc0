"""Alertmanager's API v2: our alerts one by one, as Prometheus would push them; grouping and repeats are its own.

Sources: Alertmanager's openapi.yaml and its page on clients; Prometheus' `rules/manager.go` for the times. A firing
alert ends by itself four re-sends ahead, so that Alertmanager forgets what we no longer stand by. That end belongs
to the attempt and not to the message: the outbox stores the alerts without it, and each attempt puts it in.
"""

import json
from datetime import datetime

from alerts.errors import AlertError
from alerts.identity import KindClass, Severity
from alerts.message import PAGE, AlertDetail, IncidentMessage, Json, Link, MessageStatus, json_bytes
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request, excerpt
from alerts.prometheus import annotations_of, labels_of
from alerts.pushing import RESEND
from alerts.retry import classify
from alerts.times import aware, rfc3339

PUSH_PATH = "/api/v2/alerts"
LIFETIME = 4 * RESEND
WATCHDOG_GROUP = '{}:{class="watchdog"}'
_TOLD_AT_LENGTH = 100
"""Alerts, in rank, that have all their annotations; the others have a summary and a link."""


class AlertmanagerReceiver:
    """One Alertmanager. Each instance of a cluster is a receiver of its own: it must hear of everything itself."""

    kind = "alertmanager"
    spacing_seconds = 0.0

    def __init__(self, settings: ReceiverSettings) -> None:
        if settings.secrets:
            raise AlertError("secrets: Alertmanager has none; headers (Authorization) say who we are")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """Every alert of the message; those that fire have no end yet."""
        details = message.alerts or (_whole(message),)
        alerts: list[Json] = [_postable(message, detail, rank) for rank, detail in enumerate(details)]
        return Rendered(body=json_bytes(alerts))

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored alerts, where those that fire end four minutes from this attempt."""
        del message_id
        until = rfc3339(aware("now", now) + LIFETIME)
        alerts: list[Json] = [{"endsAt": until, **alert} for alert in json.loads(rendered.body)]
        return self.settings.post(rendered, json_bytes(alerts))

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply; a 400 names the alert it is about, and the others of the same request were taken."""
        return excerpt(classify(reply), reply, self.settings, quoted=(OutcomeKind.POISON, OutcomeKind.BROKEN))


def watchdog_message(since: datetime, now: datetime, page: str) -> IncidentMessage:
    """The alert that always fires while the daemon is whole: its absence is the alarm.

    It is not called `Watchdog`, as Prometheus' own usually is: two of one name in one group cover for each other.
    """
    summary = "Always firing while driftd stores, evaluates and delivers; when it ends, driftd needs help."
    return IncidentMessage(
        status=MessageStatus.FIRING,
        group_key=WATCHDOG_GROUP,
        kind_class=KindClass.OPERATIONS,
        severity=Severity.INFO,
        title="driftd is alive",
        created_at=now,
        started_at=since,
        alerts=(
            AlertDetail(
                labels={"alertname": "DriftdWatchdog", "kind": "watchdog"},
                status=MessageStatus.FIRING,
                severity=Severity.INFO,
                starts_at=since,
                summary=summary,
                page=page,
            ),
        ),
        links=(Link(title=PAGE, url=page),),
    )


def _postable(message: IncidentMessage, detail: AlertDetail, rank: int) -> dict[str, Json]:
    # Event time may run ahead of the clock here; an alert of the future would be no alert yet.
    starts_at = min(detail.starts_at, message.created_at)
    annotations = annotations_of(message, detail)
    if rank >= _TOLD_AT_LENGTH:
        annotations = {n: v for n, v in annotations.items() if n in ("summary", "dashboard")}
    alert: dict[str, Json] = {
        "labels": dict(labels_of(detail)),
        "annotations": dict(annotations),
        "startsAt": rfc3339(starts_at),
    }
    if detail.status is MessageStatus.RESOLVED:
        ends_at = min(detail.ends_at or message.created_at, message.created_at)
        alert["endsAt"] = rfc3339(max(ends_at, starts_at))
    if detail.page:
        alert["generatorURL"] = detail.page
    return alert


def _whole(message: IncidentMessage) -> AlertDetail:
    """A message that names no alert, such as a test, as one."""
    words = "Driftd" + message.kind_class.value.capitalize()
    named = {"model": message.model, "version": message.version, "segment": message.segment}
    return AlertDetail(
        labels={"alertname": words, "kind": message.kind_class.value, **named},
        status=message.status,
        severity=message.severity,
        starts_at=message.started_at,
        ends_at=message.created_at if message.status is MessageStatus.RESOLVED else None,
        summary=message.title,
        page=message.link(PAGE),
    )
