"""What a reply means and when to try again. Pure: it returns decisions, it never sleeps."""

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.ports import Outcome, OutcomeKind, Reply
from alerts.times import aware

_HOUR = 3600
# Waits between attempts, in seconds, after the immediate first one; 75 h 35 m in all, as Standard Webhooks
# recommends. Critical ones have a denser head, because a page that is five minutes late is late.
_TAIL = (5 * 60, 30 * 60, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR)
SCHEDULE = (5, *_TAIL)
CRITICAL_SCHEDULE = (5, 15, 30, 60, 120, *_TAIL)
JITTER = (
    0.2  # each wait is stretched by up to this share, so that receivers of one outage do not fall in step
)
RETRY_AFTER_CAP = timedelta(hours=1)


class Action(StrEnum):
    """What becomes of the row."""

    DONE = "done"
    RETRY = "retry"
    DEAD_LETTER = "dead_letter"
    BREAK_RECEIVER = "break_receiver"  # the row stays waiting behind its broken receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The row's fate. `retry_at` is set for RETRY; `hold_receiver_until` keeps back the whole receiver."""

    action: Action
    reason: str
    retry_at: datetime | None = None
    hold_receiver_until: datetime | None = None


def classify(reply: Reply) -> Outcome:
    """Class of a plain HTTP reply; receivers refine it where their vendor says more."""
    status = reply.status
    if reply.failure is not None or status is None:
        return Outcome(kind=OutcomeKind.LATER, detail=reply.detail or "no reply", status=status)
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return Outcome(kind=OutcomeKind.DONE, detail=detail, status=status)
    if status in (429, 503):
        return Outcome(
            kind=OutcomeKind.LATER,
            detail=detail,
            status=status,
            retry_after=reply.headers.get("retry-after"),
            hold_receiver=True,
        )
    if 300 <= status < 400:
        # Never followed: a redirect would carry the body and its signature to a host nobody configured.
        detail += ": redirects are not followed, update the URL"
        return Outcome(kind=OutcomeKind.LATER, detail=detail, status=status)
    if status == 410:
        return Outcome(kind=OutcomeKind.BROKEN, detail=f"{detail}: the endpoint is gone", status=status)
    if 400 <= status < 500 and status != 408:
        return Outcome(kind=OutcomeKind.POISON, detail=detail, status=status)
    return Outcome(kind=OutcomeKind.LATER, detail=detail, status=status)


def next_attempt(
    attempt: int, severity: Severity, outcome: Outcome, now: datetime, rng: random.Random
) -> Decision:
    """What follows attempt number `attempt` (1 is the first).

    A 429 or 503 waits at least its Retry-After, capped at one hour, and holds back the whole receiver for as
    long. After the last wait of the schedule the row is dead.
    """
    now = aware("now", now)
    if attempt < 1:
        raise AlertError(f"attempt: counts from 1, got {attempt}")
    if outcome.kind is OutcomeKind.DONE:
        return Decision(action=Action.DONE, reason=outcome.detail)
    if outcome.kind is OutcomeKind.POISON:
        return Decision(action=Action.DEAD_LETTER, reason=outcome.detail)
    if outcome.kind is OutcomeKind.BROKEN:
        return Decision(action=Action.BREAK_RECEIVER, reason=outcome.detail)
    waits = CRITICAL_SCHEDULE if severity is Severity.CRITICAL else SCHEDULE
    if attempt > len(waits):
        return Decision(
            action=Action.DEAD_LETTER, reason=f"{outcome.detail}; gave up after {attempt} attempts"
        )
    asked = parse_retry_after(outcome.retry_after, now)
    wait = timedelta(seconds=waits[attempt - 1] * (1 + JITTER * rng.random()))
    retry_at = now + max(wait, asked or timedelta(0))
    held = None
    if outcome.hold_receiver:
        # Without a Retry-After the receiver is held for this row's wait, but no longer than the cap:
        # one row late in its schedule must not silence fresh ones for a day.
        held = now + (asked if asked is not None else min(wait, RETRY_AFTER_CAP))
    return Decision(action=Action.RETRY, reason=outcome.detail, retry_at=retry_at, hold_receiver_until=held)


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Read Retry-After (seconds or an HTTP-date, RFC 9110 section 10.2.3), within 0 … 1 hour; garbage is None."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Ten digits already are three centuries; int() refuses thousands of them.
        return RETRY_AFTER_CAP if len(text) > 9 else min(timedelta(seconds=int(text)), RETRY_AFTER_CAP)
    try:
        when = email.utils.parsedate_to_datetime(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        return min(max(when - now, timedelta(0)), RETRY_AFTER_CAP)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
