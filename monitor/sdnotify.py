"""Tells systemd how the daemon is doing (sd_notify(3)), without a library.

Every call is a no-op where `NOTIFY_SOCKET` is not set, so that the daemon runs the same outside systemd.
"""

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Send `state` (such as "READY=1") to the service manager; False where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@":
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.connect(address)
        sock.sendall(state.encode())
        return True
    return False


def ready(status: str) -> None:
    """Say that start-up is complete; `status` is shown by `systemctl status`."""
    notify(f"READY=1\nSTATUS={status}")


def stopping() -> None:
    """Say that the daemon drains and ends."""
    notify("STOPPING=1\nSTATUS=draining")


def watchdog_seconds() -> float | None:
    """Half of the interval in which systemd expects a sign of life, or None where it expects none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or pid != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000
