"""Event times: strict RFC 3339 to nanoseconds, and the span of times a model accepts.

RFC 3339 with these choices: `T` and `Z` in either case, no blank in place of `T`, digits beyond nanoseconds
cut off, `:60` only where UTC shows 23:59:60 (it becomes the last nanosecond before), and no time without
an offset: a naive time is a guess about the sender.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.types import IntArray

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

CLOCK_DRIFT_NS: Final = 55 * MINUTE
"""From so far off on, a sender's clock is corrected. Less is lateness, or a clock that nobody would call wrong, and a
whole hour, the commonest mistake (a time zone, daylight saving), is caught with all that a request may take on its way."""

_STAMP: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)", re.ASCII)
_TAIL: Final = re.compile(r"(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII)
_STAMP_LENGTH: Final = 19
_EPOCH: Final = date(1970, 1, 1).toordinal()
_INT64: Final = np.iinfo(np.int64)


class EventTimeError(ValueError):
    """A time that names no instant; the message says why and what to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Which event times are accepted, in nanoseconds from the watermark (`past`) and from now.

    `first_past` holds for a model's first batch, which has no watermark: a backfill of up to two years.
    """

    past_ns: int = 24 * HOUR
    future_ns: int = 5 * MINUTE
    first_past_ns: int = 2 * 365 * DAY

    def span(self, now_ns: int, watermark_ns: int | None) -> tuple[int, int]:
        """The earliest and the latest accepted time, both included."""
        low = now_ns - self.first_past_ns if watermark_ns is None else watermark_ns - self.past_ns
        return max(low, int(_INT64.min)), now_ns + self.future_ns


def parse_time(text: str) -> int:
    """An RFC 3339 time as nanoseconds since 1970 UTC.

    >>> parse_time("1970-01-01T01:00:00.000000001+01:00")
    1
    """
    tail = _TAIL.fullmatch(text, _STAMP_LENGTH) if len(text) > _STAMP_LENGTH else None
    seconds, leap = _stamp_seconds(text[:_STAMP_LENGTH])
    if tail is None or not (tail[2] or tail[3]):
        if len(text) == _STAMP_LENGTH or tail is not None:
            raise EventTimeError("the time has no offset; send UTC with a final Z")
        raise EventTimeError("not an RFC 3339 time; send e.g. 2026-01-31T12:00:00Z")
    if tail[3]:
        hours, minutes = int(tail[4]), int(tail[5])
        if hours > 23 or minutes > 59:
            raise EventTimeError(f"the offset {tail[3]}{tail[4]}:{tail[5]} does not exist")
        shift = (hours * 60 + minutes) * 60
        seconds += -shift if tail[3] == "+" else shift
    if leap:
        if seconds % 86_400 != 86_399:
            raise EventTimeError("second 60 exists only at 23:59:60 UTC")
        return _bounded(seconds * SECOND + SECOND - 1)
    fraction = int(tail[1][:9].ljust(9, "0")) if tail[1] else 0
    return _bounded(seconds * SECOND + fraction)


def parse_times(values: Sequence[object]) -> IntArray | None:
    """The times [N] of texts that all look alike (`...T...Z`, one length, no second 60), ten times faster; else None.

    Each distinct second is read by `parse_time`, so both accept the same; a text it refuses gives None too.
    """
    texts = [value for value in values if isinstance(value, str)]
    width = len(texts[0]) if texts else 0
    if len(texts) != len(values) or width <= _STAMP_LENGTH or set(map(len, texts)) != {width}:
        return None
    joined = "".join(texts)
    if not joined.isascii():
        return None
    octets = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(len(texts), width)
    tail = octets[:, _STAMP_LENGTH:-1]
    digits = tail[:, 1:].astype(np.int64) - ord("0")
    if ((octets[:, -1] | 0x20) != ord("z")).any() or ((digits < 0) | (digits > 9)).any():
        return None
    if tail.shape[1] == 1 or (tail[:, :1] != ord(".")).any():
        return None
    stamps = np.ascontiguousarray(octets[:, :_STAMP_LENGTH]).view(f"S{_STAMP_LENGTH}")[:, 0]
    distinct, inverse = np.unique(stamps, return_inverse=True)
    try:
        seconds = np.array([parse_time(stamp.decode() + "Z") for stamp in distinct.tolist()], dtype=np.int64)
    except EventTimeError:
        return None
    if (seconds % SECOND).any():
        return None
    kept = digits[:, :9]
    scale = 10 ** np.arange(8, 8 - kept.shape[1], -1, dtype=np.int64)
    return np.asarray(seconds[inverse] + kept @ scale)


@lru_cache(maxsize=4096)
def _stamp_seconds(stamp: str) -> tuple[int, bool]:
    """Seconds since 1970 of a stamp read as UTC (second 60 as 59), and whether it was a second 60."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        raise EventTimeError("not an RFC 3339 time; send e.g. 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError as error:
        raise EventTimeError(f"the date {stamp[:10]} does not exist") from error
    if hour > 23 or minute > 59 or second > 60:
        raise EventTimeError(f"the time of day {stamp[11:]} does not exist")
    return days * 86_400 + hour * 3600 + minute * 60 + min(second, 59), second == 60


def time_ns(value: object) -> int:
    """A wire value as nanoseconds: RFC 3339 text, or an integer that counts nanoseconds since 1970 UTC."""
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _bounded(value)
    raise EventTimeError("a time is RFC 3339 text or an integer of nanoseconds since 1970 UTC")


def clock_drift(sent_ns: int | None, received_ns: int) -> int:
    """Nanoseconds to add to times by a sender's clock that showed `sent_ns` when its batch came; 0 below 55 minutes."""
    if sent_ns is None or abs(received_ns - sent_ns) < CLOCK_DRIFT_NS:
        return 0
    return received_ns - sent_ns


def drift_warning(drift_ns: int) -> str:
    """What was done about a clock, in words for the sender."""
    where = "behind" if drift_ns > 0 else "ahead"
    return f"the sender's clock is {_hours(abs(drift_ns))} {where}; its event times were corrected by that"


def outside(times_ns: IntArray, span: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """Which of the times [N] lie outside the accepted span; None if none does."""
    low, high = span
    if times_ns.size == 0 or (low <= times_ns.min() and times_ns.max() <= high):
        return None
    return (times_ns < low) | (times_ns > high)


def refusal(value_ns: int, now_ns: int, span: tuple[int, int]) -> str:
    """Why a time outside the span is refused, in words for the sender."""
    for unit, factor in (("seconds", SECOND), ("milliseconds", 1_000_000), ("microseconds", 1000)):
        if abs(value_ns * factor - now_ns) < 2 * 365 * DAY and value_ns * 100 < now_ns:
            return f"{value_ns} looks like {unit} since 1970; send nanoseconds, or RFC 3339 text"
    low, high = span
    if value_ns < low:
        return f"the event time is {_hours(low - value_ns)} before the oldest this model still accepts"
    return f"the event time is {_hours(value_ns - high)} beyond the latest accepted; check the sender's clock"


def _hours(span_ns: int) -> str:
    return f"{span_ns / HOUR:.1f} h" if span_ns >= HOUR else f"{span_ns / SECOND:.0f} s"


def _bounded(value: int) -> int:
    if not _INT64.min <= value <= _INT64.max:
        raise EventTimeError("the time lies outside the years 1678 to 2261 that nanoseconds can count")
    return value
