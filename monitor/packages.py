"""The start-up check on our four package names, which are generic enough to exist elsewhere.

driftd is installed in an environment of its own. Where another distribution's `alerts` or `storage` comes first on
the path, the daemon would run somebody else's code, or fail far from the cause.
"""

import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

PACKAGES: Final = ("detectors", "alerts", "storage", "monitor")


class ForeignPackage(Exception):
    """One of our packages would be imported from another place; the message names whose it is."""


def check_packages(home: Path | None = None) -> None:
    """Raise ForeignPackage unless all four lie side by side in `home`, by default where this file's package lies.

    Imports nothing: a foreign package must not run before it is refused.
    """
    home = home or Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        found = _place(name)
        if found is None:
            raise ForeignPackage(f"the package {name!r} is missing beside {home}; install driftd again")
        if found.parent != home:
            raise ForeignPackage(
                f"{found} {_owner(name)} hides driftd's own {home / name}; install driftd in an environment of its own"
            )


def _place(name: str) -> Path | None:
    """The directory a package would be imported from."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return None if spec.origin is None else Path(spec.origin).resolve()


def _owner(name: str) -> str:
    owners = sorted(set(packages_distributions().get(name, ())) - {"driftd"})
    return f"(of the distribution {', '.join(owners)})" if owners else "(of no installed distribution)"
