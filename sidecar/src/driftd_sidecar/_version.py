"""The version of this distribution; `0` when it runs from a plain folder."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("driftd-sidecar")
except PackageNotFoundError:
    __version__ = "0"
