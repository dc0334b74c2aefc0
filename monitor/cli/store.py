"""The baseline commands' view of the store, by way of the API: see `monitor.cli.ports.BaselineOperations`."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from monitor.cli.backend import Answer, Backend, open_backend
from monitor.cli.ports import OperationError, StoredBaseline
from monitor.cli.running import CommandFailed, Session

if TYPE_CHECKING:
    from detectors.profile import Baseline
    from monitor.config import Config
    from monitor.training import BuildResult


def register_baseline(config: "Config", *, model: str, version: str, result: "BuildResult") -> str:
    """Store a baseline, and what it taught, and make it its version's own; returns its fingerprint."""
    from detectors.codec import encode_baseline

    taught = b"" if result.calibration is None else result.calibration.encode()
    with open_backend(_session(), config=config, create=True) as backend:
        stored = _value(
            backend.call(
                "PUT",
                _path(model, version),
                query={
                    "artefact_sha256": result.artefact_sha256,
                    "calibration_bytes": str(len(taught)) if taught else None,
                },
                body=encode_baseline(result.baseline) + taught,
            )
        )
    return str(stored["fingerprint"])


def load_baseline(config: "Config", *, model: str, version: str | None) -> "tuple[StoredBaseline, Baseline]":
    """The current baseline of a version; without one, of the version registered last that has one."""
    from detectors.codec import decode_baseline

    with open_backend(_session(), config=config) as backend:
        if version is None:
            version = _last_version(backend, model)
        found = [s for s in _list(backend, model) if s.current and s.version == version]
        blob = _value(backend.call("GET", _path(model, version)))
    if not found:
        raise OperationError(f"version {version!r} of model {model!r} has no baseline")
    return found[0], decode_baseline(blob)


def list_baselines(config: "Config", *, model: str | None) -> Sequence[StoredBaseline]:
    """All baselines, or those of one model, newest first."""
    with open_backend(_session(), config=config) as backend:
        return _list(backend, model)


def _last_version(backend: Backend, model: str) -> str:
    shown = _value(backend.call("GET", f"/v1/models/{quote(model, safe='')}"))
    names = [str(version["version"]) for version in shown["versions"] if version["baseline"] is not None]
    if not names:
        raise OperationError(f"model {model!r} has no baseline yet; driftd baseline build makes one")
    return names[0]


def _list(backend: Backend, model: str | None) -> list[StoredBaseline]:
    rows = _value(backend.call("GET", "/v1/baselines", query={"model": model}))["baselines"]
    return [
        StoredBaseline(
            model=row["model"],
            version=row["version"],
            fingerprint=row["fingerprint"],
            source=row["source"],
            rows=row["rows"],
            created_at=datetime.fromisoformat(row["created_at"]),
            current=row["current"],
            refold=row["refold"],
        )
        for row in rows
    ]


def _path(model: str, version: str) -> str:
    return f"/v1/models/{quote(model, safe='')}/versions/{quote(version, safe='')}/baseline"


def _value(answer: Answer) -> Any:
    try:
        return Backend.expect(answer)
    except CommandFailed as error:
        raise OperationError(error.message) from None


def _session() -> Session:
    """The session of the command that runs: it knows the token's file."""
    context = click.get_current_context(silent=True)
    return (context.find_object(Session) if context is not None else None) or Session()
