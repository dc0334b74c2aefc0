"""What the baseline commands ask of `monitor.cli.store`, which reaches the store by way of the API."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from monitor.cli.running import CommandFailed

if TYPE_CHECKING:
    from detectors.profile import Baseline
    from monitor.config import Config
    from monitor.training import BuildResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBaseline:
    """A baseline of the store: `current` is the one its version is compared with now.

    `refold` is the API's word on which retained rows were counted on it again, None where it replaced no other.
    """

    model: str
    version: str
    fingerprint: str
    source: str
    rows: int
    created_at: datetime
    current: bool
    refold: Mapping[str, Any] | None = None


class OperationError(Exception):
    """What an operation could not do, in words for the user."""


class BaselineOperations(Protocol):
    """The functions of `monitor.cli.store`; all raise OperationError."""

    def register_baseline(self, config: "Config", *, model: str, version: str, result: "BuildResult") -> str:
        """Store a baseline and make it its version's own, creating model and version; returns its fingerprint."""
        ...

    def load_baseline(
        self, config: "Config", *, model: str, version: str | None
    ) -> "tuple[StoredBaseline, Baseline]":
        """The current baseline of a version; without one, of the model's version registered last."""
        ...

    def list_baselines(self, config: "Config", *, model: str | None) -> Sequence[StoredBaseline]:
        """All baselines, or those of one model, newest first."""
        ...


def baseline_operations() -> BaselineOperations:
    """`monitor.cli.store`, imported when a command needs the store."""
    try:
        return cast("BaselineOperations", importlib.import_module("monitor.cli.store"))
    except ImportError as error:
        raise CommandFailed(f"the store cannot be used: {error}") from error
