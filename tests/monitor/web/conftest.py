"""The gallery is read-only, and made once."""

from collections.abc import Iterator

import pytest

from tests.monitor.web import gallery
from tests.monitor.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = gallery.fill(tmp_path_factory.mktemp("gallery") / "state")
    yield opened
    opened.close()
