"""Values of the API as people read them in a terminal."""

import getpass
import os
from datetime import UTC, datetime
from typing import Any


def minute(value: str | None) -> str:
    """An RFC 3339 time to the minute, in UTC; nothing for none."""
    if not value:
        return ""
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def words(value: Any) -> str:
    """A state or a kind without its underscores."""
    return str(value or "").replace("_", " ")


def user() -> str:
    """Who runs the command."""
    given = os.environ.get("USER", "").strip()
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
