"""Warnings that are said once. The sidecar logs to `driftd_sidecar` and configures nothing."""

import contextlib
import logging
import threading

LOGGER = logging.getLogger("driftd_sidecar")
LOGGER.addHandler(logging.NullHandler())


class Notices:
    """Warns once per key. Logging runs the application's handlers, so a failing handler is contained here."""

    __slots__ = ("_lock", "_said")

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def once(self, key: str, message: str, *values: object) -> None:
        with self._lock:
            if key in self._said:
                return
            self._said.add(key)
        with contextlib.suppress(Exception):  # a broken log handler must not reach the caller
            LOGGER.warning(message, *values)

    def reset_after_fork(self) -> None:
        """In a forked child another thread may have held the lock for ever."""
        self._lock = threading.Lock()
