"""Instants between their two forms: aware UTC datetimes and integer nanoseconds since the epoch."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_ns(instant: datetime) -> int:
    """Nanoseconds since the epoch, exactly; a naive instant is refused with a TypeError."""
    return (instant - _EPOCH) // _MICROSECOND * 1000


def from_ns(nanoseconds: int) -> datetime:
    """The instant, to the microsecond below."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def span_ns(span: timedelta) -> int:
    """A length of time in nanoseconds, exactly."""
    return span // _MICROSECOND * 1000


def from_seconds(seconds: int) -> datetime:
    """The instant of an epoch second."""
    return _EPOCH + timedelta(seconds=seconds)
