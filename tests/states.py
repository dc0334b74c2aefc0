"""State directories with an empty database in it: migrated once in each process that tests, and then copied.

Who tests migrations or a first start lets the daemon make its own.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from storage.engine import Database


def new_state(state_dir: Path) -> Path:
    """`state_dir`, with an empty database in it that nobody has open; one that is there already stays as it is."""
    if not (state_dir / "driftd.db").exists():
        shutil.copytree(_migrated(), state_dir, dirs_exist_ok=True)
    return state_dir


@functools.cache
def _migrated() -> Path:
    place = Path(tempfile.mkdtemp(prefix="driftd-empty-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    Database.open(place / "state").close()
    return place / "state"
