"""Messages and settings that several tests of this room need."""

from datetime import UTC, datetime, timedelta
from typing import Any

from alerts.identity import AlertKind, KindClass, Severity, alert_labels, group_key
from alerts.message import AlertDetail, Counts, Evidence, IncidentMessage, Link, MessageStatus
from alerts.ports import ReceiverSettings, Secret

NOW = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)
# The secret of the Standard Webhooks documentation, and another of 24 bytes.
SIGNING = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
OLD_SIGNING = Secret("whsec_" + "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt")
SLACK_URL = "https://hooks.slack.com/services/T0000TEAM/B0000HOOK/sEcReTsEcReTsEcReT"

NASTY = (
    "<!channel>",
    "```rm -rf```",
    "x" * 10_000,
    "\u202eevil\u202c",
    "a\r\nX-Injected: 1",
    "\x1b[2J",
    "🙂" * 4000,
    "\ud800",
    "&<>" * 3000,
    '"\\' * 4000,
    "<https://evil.example|click>",
)


def settings(kind: str, name: str = "team", **changes: Any) -> ReceiverSettings:
    """Valid settings of a kind, with some fields changed."""
    values: dict[str, Any] = {
        "slack": {"url": Secret(SLACK_URL)},
        "webhook": {"url": Secret("https://example.com/hook?token=abcdef123456"), "secrets": (SIGNING,)},
        "alertmanager": {"url": Secret("http://alertmanager.example:9093/api/v2/alerts")},
        "discord": {"url": Secret("https://discord.com/api/webhooks/123456789012345678/sEcReT-tOkEn_x")},
        "apprise": {"url": Secret("https://apprise.example/notify/sEcReT-kEy_x")},
        "teams": {
            "url": Secret("https://prod-00.example.com/workflows/abc/run?sp=%2Frun&sig=sEcReTsIgNaTuRe")
        },
        "pagerduty": {
            "url": Secret("https://events.pagerduty.com/v2/enqueue"),
            "secrets": (Secret("0123456789abcdef0123456789abcdef"),),
        },
    }
    chosen = values[kind]
    assert isinstance(chosen, dict)
    return ReceiverSettings(name=name, kind=kind, **{**chosen, **changes})


def detail(
    column: str = "temp",
    effect: float = 3.4,
    status: MessageStatus = MessageStatus.FIRING,
    summary: str = "median 39.9 → 61.2",
) -> AlertDetail:
    """One drifted column with its evidence."""
    return AlertDetail(
        labels=alert_labels(AlertKind.FEATURE_DRIFT, "credit-risk", "7", "region=eu", column),
        status=status,
        severity=Severity.CRITICAL,
        starts_at=NOW - timedelta(minutes=20),
        ends_at=NOW if status is MessageStatus.RESOLVED else None,
        summary=summary,
        effect=effect,
        evidence=Evidence(
            detector="ks",
            window_seconds=3600,
            statistic=0.412,
            threshold=0.12,
            rows=12_034,
            baseline_rows=50_000,
            evidence=3.21,
            since=NOW - timedelta(minutes=42),
        ),
        page="https://driftd.example/models/credit-risk/temp",
    )


def message(
    status: MessageStatus = MessageStatus.FIRING,
    alerts: tuple[AlertDetail, ...] | None = None,
    **changes: Any,
) -> IncidentMessage:
    """An incident of three columns."""
    if alerts is None:
        alerts = (detail("age", 1.2, status), detail("temp", 3.4, status), detail("zip", 2.0, status))
    values: dict[str, Any] = {
        "status": status,
        "group_key": group_key(KindClass.DRIFT, "credit-risk", "region=eu"),
        "kind_class": KindClass.DRIFT,
        "severity": Severity.CRITICAL,
        "title": "credit-risk drifted: temp and 2 more columns",
        "created_at": NOW,
        "started_at": NOW - timedelta(minutes=20),
        "alerts": alerts,
        "model": "credit-risk",
        "version": "7",
        "segment": "region=eu",
        "reason": "first notification",
        "counts": Counts(affected=3, total=21),
        "baseline": "train-2026-04.parquet, 50 000 rows",
        "changed_nearby": ("version 7 took over from 6 at 09:31 UTC",),
        "notes": ("2 columns are still learning and stand outside the promise",),
        "what_to_do": "Compare the column's sources before and after 09:18; roll back version 7 if they agree.",
        "commands": (
            "driftd alerts ack 1",
            'driftd silence add --model credit-risk --for 4h --comment "why"',
            "driftd baseline accept 1",
        ),
        "links": (
            Link(title="Page", url="https://driftd.example/incidents/1?a=1&b=2"),
            Link(title="Runbook", url="https://wiki.example/drift"),
        ),
    }
    return IncidentMessage(**{**values, **changes})
