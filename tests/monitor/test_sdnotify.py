"""sd_notify: what the service manager would read."""

import os
import socket
from pathlib import Path

import pytest

from monitor import sdnotify


def test_ready_reaches_the_socket_systemd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        sdnotify.ready("serving 3 models")
        sdnotify.stopping()
        assert manager.recv(256) == b"READY=1\nSTATUS=serving 3 models"
        assert manager.recv(256) == b"STOPPING=1\nSTATUS=draining"


def test_an_abstract_socket_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"driftd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert sdnotify.notify("WATCHDOG=1")
        assert manager.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "relative/path", "/nonexistent/notify"])
def test_nobody_listening_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not sdnotify.notify("READY=1")


def test_the_watchdog_interval_is_halved_and_only_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert sdnotify.watchdog_seconds() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sdnotify.watchdog_seconds() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    assert sdnotify.watchdog_seconds() is None
