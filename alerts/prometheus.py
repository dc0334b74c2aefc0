"""An alert in the words of Prometheus' family: labels say which one it is, annotations what is known of it."""

from alerts.message import RUNBOOK, AlertDetail, IncidentMessage
from alerts.times import rfc3339


def labels_of(detail: AlertDetail) -> dict[str, str]:
    """The identity, and the severity: no part of it, but what routing trees branch on, and fixed per episode."""
    present = {name: value for name, value in detail.labels.items() if value}
    return present | {"severity": detail.severity.value}


def annotations_of(message: IncidentMessage, detail: AlertDetail) -> dict[str, str]:
    """What was found and what to do, all as texts; what is unknown is left out."""
    found = {
        "summary": detail.summary,
        "action": message.what_to_do,
        "runbook_url": message.link(RUNBOOK),
        "dashboard": detail.page,
        "baseline": message.baseline,
    }
    evidence = detail.evidence
    if evidence is not None:
        found |= {
            "description": evidence.sentence(),
            "detector": evidence.detector,
            "window_seconds": str(evidence.window_seconds),
            "statistic": repr(evidence.statistic),
            "threshold": repr(evidence.threshold),
            "rows": str(evidence.rows),
            "baseline_rows": str(evidence.baseline_rows),
            "since": "" if evidence.since is None else rfc3339(evidence.since),
        }
    return {name: value for name, value in found.items() if value}
