"""The start-up check on our generic package names."""

import sys
from pathlib import Path

import pytest

from monitor.packages import ForeignPackage, check_packages


def test_our_own_lie_side_by_side() -> None:
    check_packages()


def test_a_foreign_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tmp_path / "alerts"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise AssertionError('a foreign package was run')")
    metadata = tmp_path / "pager_alerts-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pager-alerts\nVersion: 1.0\n")
    (metadata / "top_level.txt").write_text("alerts\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "alerts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ForeignPackage) as caught:
        check_packages()
    words = str(caught.value)
    assert str(foreign) in words
    assert "pager-alerts" in words
    assert "an environment of its own" in words


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.packages.PACKAGES", ("detectors_that_are_nowhere",))
    with pytest.raises(ForeignPackage, match="'detectors_that_are_nowhere' is missing"):
        check_packages(tmp_path)
