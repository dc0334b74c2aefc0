"""The daemon's log on stderr: lines for journald or a terminal, or one JSON object per line.

A monitor must not die of its own log: a closed stderr, a full disk behind it or a reader that has gone away cost
the line, never the daemon.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Final, Literal

STDERR: Final = 2

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
_QUIET: Final = ("uvicorn", "alembic", "apscheduler", "asyncio", "urllib3")
"""Libraries whose INFO is about themselves."""


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Send every log record to stderr at `level` ("debug" to "error") and above, in the given form."""
    keep_standard_streams()
    handler = StandardError()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    elif journal_listens():
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        formatter = logging.Formatter(
            "%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"
        )
        formatter.converter = lambda seconds: datetime.fromtimestamp(seconds or 0.0, UTC).timetuple()
        handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.captureWarnings(True)
    logging.raiseExceptions = False


def keep_standard_streams() -> None:
    """Open /dev/null where a standard stream is closed.

    Otherwise the next file opened, such as the database, would get its number, and the next message written to
    stderr would go into it.
    """
    for descriptor in (0, 1, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        # Python has none at all where it was started with the stream closed, and what libraries print would raise.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # open until the end


def journal_listens() -> bool:
    """Whether stderr goes to journald, by the device and inode it says so with (systemd.exec(5), $JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(STDERR)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class StandardError(logging.Handler):
    """Writes each record to file descriptor 2 in one call, and drops what cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raises."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            while line:
                line = line[os.write(STDERR, line) :]
        except Exception:  # noqa: S110  # there is nobody left to tell
            pass


class JournalFormatter(logging.Formatter):
    """`<3>` and so on before each line (sd-daemon(3)): journald takes it off and keeps it as the priority."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, its traceback included, with the priority before every line."""
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of ASCII JSON."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)
