"""The life of the process: a forked child starts clean, and what is left is shipped when the interpreter ends."""

import atexit
import os
import threading
import time
import weakref
from typing import Protocol

EXIT_FLUSH_SECONDS = 2.0


class Survivor(Protocol):
    """What has to know of forks and of the end."""

    def reset_after_fork(self) -> None:
        """Forget threads, locks, rows and connections: they are the parent's."""
        ...

    def close(self, timeout: float) -> bool:
        """Ship what is there within `timeout` seconds, and end."""
        ...


_living: "weakref.WeakSet[Survivor]" = weakref.WeakSet()
_hooked = threading.Event()


def enrol(survivor: Survivor) -> None:
    """From now on `survivor` hears of forks and of the end, until it is collected."""
    _living.add(survivor)
    if not _hooked.is_set():
        _hooked.set()
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    for survivor in list(_living):
        survivor.reset_after_fork()


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_FLUSH_SECONDS
    for survivor in list(_living):
        survivor.close(max(0.0, deadline - time.monotonic()))
