"""The words that every chat message shares, in the order a phone shows them: what, where, since when, what else."""

from alerts.identity import Severity
from alerts.message import AlertDetail, IncidentMessage, MessageStatus, place
from alerts.times import for_readers

_MARKS = {Severity.CRITICAL: "🔴", Severity.ERROR: "🟠", Severity.WARNING: "🟡", Severity.INFO: "🔵"}
_STATUS_MARKS = {MessageStatus.RESOLVED: "✅", MessageStatus.TEST: "🧪", MessageStatus.ACKNOWLEDGED: "👀"}
_REMARKS = 3
"""Of each kind; more would not fit a screen, and the page has them all."""


def headline(message: IncidentMessage) -> str:
    """`🔴 CRITICAL: credit: age and 2 more drifted from training`."""
    mark = _STATUS_MARKS.get(message.status, _MARKS[message.severity])
    word = message.severity if message.status is MessageStatus.FIRING else message.status
    return f"{mark} {word.value.upper()}: {message.title}"


def standing(message: IncidentMessage) -> str:
    """How much is affected, and where: `3 of 21 columns drifted · credit, version 3`."""
    parts = ("" if message.counts is None else message.counts.sentence(), place(message))
    return " · ".join(part for part in parts if part)


def name_of(detail: AlertDetail) -> str:
    """The column, marked where it is over."""
    return f"✅ {detail.name}" if detail.status is MessageStatus.RESOLVED else detail.name


def remarks(message: IncidentMessage) -> list[tuple[str, str]]:
    """What changed near then, reservations, and what to do, each with its name."""
    found = [("Changed nearby", change) for change in message.changed_nearby[:_REMARKS]]
    found += [("Note", note) for note in message.notes[:_REMARKS]]
    return [*found, ("What to do", message.what_to_do)] if message.what_to_do else found


def footer(message: IncidentMessage) -> str:
    """What only a careful reader asks for: the baseline, the time of writing, why it is sent."""
    baseline = f"against {message.baseline}" if message.baseline else ""
    parts = (baseline, f"as of {for_readers(message.created_at)}", message.reason)
    return " · ".join(part for part in parts if part)
