"""Detectors are found by name, and an unknown name is answered with the names there are."""

import pytest

from detectors import registry
from detectors.types import DetectorError


def test_every_detector_is_under_its_own_name() -> None:
    assert list(registry.DETECTORS) == [detector.name for detector in registry.DETECTORS.values()]
    assert all(registry.get(name) is detector for name, detector in registry.DETECTORS.items())


def test_an_unknown_name_is_answered_with_the_table() -> None:
    with pytest.raises(DetectorError) as caught:
        registry.get("kl")
    assert all(name in str(caught.value) for name in registry.DETECTORS)
