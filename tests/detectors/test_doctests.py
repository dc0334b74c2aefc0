"""The examples in the docstrings run and are right."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import detectors


def module_names() -> Iterator[str]:
    for found in pkgutil.walk_packages(detectors.__path__, "detectors."):
        yield found.name


@pytest.mark.parametrize("name", sorted(module_names()))
def test_examples_in_docstrings_are_right(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, raise_on_error=False).failed == 0


EXPLAINED = [
    *("ks", "psi", "mean_shift", "categorical", "quality", "cells"),
    *("distances", "wasserstein", "variance", "volume"),
]


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_detector_has_an_example(name: str) -> None:
    module = importlib.import_module(f"detectors.{name}")
    assert sum(len(test.examples) for test in doctest.DocTestFinder().find(module)) > 0
