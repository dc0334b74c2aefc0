"""Instants: aware, in UTC, and written as RFC 3339."""

from datetime import UTC, datetime

from alerts.errors import AlertError


def aware(field: str, value: datetime) -> datetime:
    """Return `value` in UTC; a naive datetime is refused, naming `field`."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise AlertError(f"{field}: {value.isoformat()} has no time zone; pass an aware datetime such as UTC")
    return value.astimezone(UTC)


def rfc3339(value: datetime) -> str:
    """Write an instant as `2026-05-01T10:00:00Z`, with a fraction only when there is one."""
    return aware("time", value).isoformat().replace("+00:00", "Z")


def for_readers(value: datetime) -> str:
    """Write an instant to the minute, as a person reads it: `2026-05-01 10:00 UTC`."""
    return aware("time", value).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """Write a length of time in its largest whole unit: `15m`, `1h`, `90s`."""
    whole = round(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"
