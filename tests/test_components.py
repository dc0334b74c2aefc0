"""A component that is missing is named: as the reason of a skip at home, and of a failure in CI."""

from collections.abc import Callable

import pytest

from tests import postgres
from tests.components import require_models, require_program, require_published


@pytest.fixture(params=["program", "package", "models", "server"])
def lacking(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], object], str]:
    """What asks for something that is not there, and how that is named."""
    monkeypatch.setattr("sys.prefix", "/nonexistent")
    monkeypatch.setattr(postgres, "BINARIES", postgres.BINARIES / "nonexistent")
    asked: dict[str, tuple[Callable[[], object], str]] = {
        "program": (lambda: require_program("no-such-program"), "no-such-program is not installed"),
        "package": (lambda: require_published("river"), "river (requirements-oracles.lock) is not installed"),
        "models": (require_models, "(requirements-models.lock) is not installed"),
        "server": (
            lambda: postgres.running(durable=False).__enter__(),
            f"PostgreSQL is not installed in {postgres.BINARIES}",
        ),
    }
    return asked[str(request.param)]


def test_it_skips_at_home(lacking: tuple[Callable[[], object], str], monkeypatch: pytest.MonkeyPatch) -> None:
    ask, named = lacking
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception) as told:
        ask()
    assert named in str(told.value)


def test_it_fails_in_ci_in_one_line(
    lacking: tuple[Callable[[], object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, named = lacking
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception) as told:
        ask()
    assert named in str(told.value)
    assert str(told.value).endswith(", and CI must have it")
    assert not told.value.pytrace
