"""The version this process runs, as installed."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("driftd")
    except PackageNotFoundError:
        return "unknown"


VERSION = _installed()
