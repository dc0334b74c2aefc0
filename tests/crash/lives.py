"""Daemons that are started to die: how one is configured, what is launched, and a death that comes early."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.crash.driver import NOWHERE
from tests.monitor.cli.test_daemon import Daemon, DiedAtStart

RANDOM = "at random"
CONFIG = """
[server]
bind = "127.0.0.1:0"
[storage]
{storage}
"""
TELLING = """
[alerts]
group_wait = "0s"
group_interval = "0s"
[receivers.ops]
type = "webhook"
url = "{url}"
allow_private = true
"""


def configured(place: Path, storage: str, more: str = "") -> Path:
    """The configuration of a daemon that runs in `place` and listens wherever there is room."""
    config = place / "driftd.toml"
    config.write_text(CONFIG.format(storage=storage) + more)
    return config


def telling(tmp_path: Path, url: str, more: str = "") -> Path:
    """The configuration of a daemon on SQLite that tells `url` of everything at once; `more` is said of this receiver."""
    return configured(tmp_path, f'state_dir = "{tmp_path / "state"}"', TELLING.format(url=url) + more)


def driven(point: str = NOWHERE, nth: int = 0) -> Sequence[str | Path]:
    """What to launch for a daemon with short intervals that dies the `nth` time at `point`."""
    return (sys.executable, "-m", "tests.crash.driver", point, str(nth), "serve")


@contextlib.contextmanager
def perhaps_dead_at_start() -> Iterator[None]:
    """A block that is over if the daemon is killed before it says that it is ready: what waits is done at once."""
    try:
        yield
    except DiedAtStart as died:
        if died.args[0] != -signal.SIGKILL:
            raise


def die_under_load(
    daemons: Sequence[Daemon], clients: Sequence[threading.Thread], death: str, seconds: Callable[[], float]
) -> None:
    """Let the clients post until the daemons are gone; a death at random comes after so many seconds each."""
    for client in clients:
        client.start()
    for served in daemons:
        if death == RANDOM:
            # Not a wait for something to happen: the moment of death is what chance decides.
            threading.Event().wait(seconds())
            served.process.send_signal(signal.SIGKILL)
    for served in daemons:
        assert served.process.wait(60) == -signal.SIGKILL, death
    for client in clients:
        client.join(30)
