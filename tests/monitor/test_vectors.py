"""Which machines sort with AVX2: the one kind of CPU that is slower with AVX-512."""

import sys
from pathlib import Path

import pytest

from monitor.vectors import SETTING, prefer_fast_sort

ZEN_4 = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: fpu avx2 avx512f\n\n"


@pytest.fixture(autouse=True)
def _before_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", {})


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (ZEN_4, "X86_V4"),
        (ZEN_4.replace(" avx512f", ""), None),  # Zen 3
        (ZEN_4.replace("25", "26"), None),  # Zen 5
        (ZEN_4.replace("AuthenticAMD", "GenuineIntel"), None),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n", None),
        ("", None),
    ],
)
def test_only_zen_4_does_without(tmp_path: Path, cpuinfo: str, expected: str | None) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    environ: dict[str, str] = {}
    prefer_fast_sort(environ, file)
    assert environ.get(SETTING) == expected


def test_whoever_chose_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(ZEN_4)
    environ = {SETTING: ""}
    prefer_fast_sort(environ, file)
    assert environ == {SETTING: ""}


def test_without_cpuinfo_nothing_is_said(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    prefer_fast_sort(environ, tmp_path / "absent")
    assert environ == {}


def test_once_numpy_is_imported_it_is_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(ZEN_4)
    monkeypatch.setattr(sys, "modules", {"numpy": object()})
    environ: dict[str, str] = {}
    prefer_fast_sort(environ, file)
    assert environ == {}
