"""The C library is told, where it is glibc; elsewhere nothing happens."""

import ctypes
import platform

import pytest

from monitor import allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_takes_both_settings() -> None:
    assert allocator.keep_large_buffers() is True


def test_a_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert allocator.keep_large_buffers() is False
