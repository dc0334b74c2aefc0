"""What tests need of the machine: where it is missing they skip and say why, and in CI they fail and say the same."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End the test in one line: skipped at home, failed where `CI=true` promises that everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must have it", pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The path of an installed program."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return path


def require_published(name: str) -> Path:
    """The folder of a published package that `make` installs beside ours (requirements-oracles.lock), to read files from."""
    return _beside(Path("oracles") / name, f"the published package {name} (requirements-oracles.lock)")


def require_models() -> Path:
    """The folder of what `make` installs beside ours from requirements-models.lock."""
    return _beside(Path("models") / "skl2onnx", "what makes models (requirements-models.lock)").parent


def _beside(path: Path, what: str) -> Path:
    found = Path(sys.prefix) / path
    if not found.is_dir():
        missing(f"{what} is not installed: `make test` installs it")
    return found
