"""The C library is told, where it is glibc; elsewhere nothing happens."""

import ctypes
import platform
import subprocess
import sys

import pytest

from monitor import allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_takes_both_settings() -> None:
    assert allocator.keep_large_buffers() is True


def test_a_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert allocator.keep_large_buffers() is False


def test_what_is_there_is_left_out_of_searches_and_cycles_are_still_found() -> None:
    # In a process of its own: the settings are the interpreter's.
    told = subprocess.run(
        [sys.executable, "-c", _CYCLE], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert told.split() == ["True", "20000", "None"]


_CYCLE = """
import gc, weakref
from monitor.allocator import collect_seldom

class Node: pass

collect_seldom()
print(gc.get_freeze_count() > 1000, gc.get_threshold()[0])
node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = [[] for _ in range(25_000)]
print(gone())
"""
