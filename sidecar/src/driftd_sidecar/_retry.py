"""What to do after an attempt to send a batch: a pure decision, nothing here waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
_TRANSIENT = frozenset({408, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The daemon committed the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Send the same bytes again, not before this many seconds."""

    after_seconds: float
    told_by_server: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Sending it again cannot help."""

    reason: str


Decision = Delivered | Retry | GiveUp


def decide(
    status: int | None,
    headers: Mapping[str, str],
    body: bytes,
    *,
    attempt: int,
    jitter: float,
    now_seconds: float,
) -> Decision:
    """The next step after attempt number `attempt` (0 is the first).

    `status` is None when there was no answer. A success is one only in the daemon's own words, `{… "accepted": …}`:
    proxies and login pages also say 200, and have stored nothing. `jitter` is uniform in [0, 1); `now_seconds` is wall time, for a
    Retry-After that names a date. A redirect is given up: following it would turn the POST into a GET.
    """
    succeeded = status is not None and 200 <= status < 300
    if succeeded and body.lstrip().startswith(b"{") and b'"accepted"' in body:
        return Delivered()
    if status is None or succeeded or status in _TRANSIENT or status >= 500:
        told = retry_after(headers, now_seconds) if status is not None else None
        if told is not None:
            return Retry(after_seconds=told, told_by_server=True)
        return Retry(after_seconds=backoff(attempt, jitter), told_by_server=False)
    return GiveUp(reason=f"HTTP {status}")


def backoff(attempt: int, jitter: float) -> float:
    """Seconds to wait after attempt number `attempt`; `jitter` is uniform in [0, 1)."""
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(attempt, 16))
    return delay * (0.5 + jitter / 2.0)


def retry_after(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """The seconds that a Retry-After asks for; `now_seconds` is wall time."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_seconds
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
