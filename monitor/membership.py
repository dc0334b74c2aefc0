"""This daemon among those that share a database: its lease, which models it leads, and what the dead left behind.

Leases and leaders save work and end waits; that nothing is counted or told twice rests on `storage.locks` alone. So
a clock that is wrong, or a daemon that was thought dead and is not, costs time and no rows. On SQLite there is one
daemon, which leads everything.
"""

import hashlib
import logging
import os
import secrets
import socket
from datetime import datetime, timedelta
from typing import Final

from monitor.clock import Clock
from storage import batches, operations
from storage.engine import Connection, Database

LOCAL: Final = "local"
"""The writer of a SQLite database: there is one daemon, whose rows must be its own after a restart too."""
LEASE: Final = timedelta(seconds=60)
"""A loop gives a sign of life with everything it commits, so only one that hangs goes so long without."""
RENEWED_EVERY: Final = timedelta(seconds=10)

log = logging.getLogger("driftd.membership")


class Membership:
    """Not thread-safe: the evaluation loop owns it, so that a loop that hangs loses its lease."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.writer = name if database.shared else LOCAL
        self._started_at = clock.now()
        self._renewed_at: datetime | None = None
        self._live: tuple[str, ...] = (self.writer,)

    def renew(self) -> None:
        """Prolong the lease if it is time, take over what dead daemons left unfolded, and see who lives."""
        now = self._clock.now()
        if not self._database.shared or (
            self._renewed_at is not None and now - self._renewed_at < RENEWED_EVERY
        ):
            return
        taken = self._database.write(lambda conn: self._renew(conn, now)).result()
        self._renewed_at = now
        for dead, count in taken.items():
            if not count:
                continue
            log.warning("daemon %s is gone: its %d unfolded batches are folded here", dead, count)

    def look(self) -> None:
        """See which daemons live now."""
        if self._database.shared:
            now = self._clock.now()
            with self._database.read() as conn:
                live = {w.id for w in operations.list_writers(conn) if w.lease_until > now}
            self._live = tuple(sorted(live | {self.writer}))

    def leads(self, subject: str) -> bool:
        """Whether this daemon is the one of the living that looks after `subject`, a model's name ('' for the rest)."""
        return max(self._live, key=lambda writer: _weight(writer, subject)) == self.writer

    def leave(self) -> None:
        """End the lease at once, so that others take over without waiting for it to run out."""
        now = self._clock.now()
        if self._database.shared and self._renewed_at is not None:
            self._database.write(
                lambda conn: operations.renew_writer(conn, self.writer, lease_until=now)
            ).result()

    def _renew(self, conn: Connection, now: datetime) -> dict[str, int]:
        operations.register_writer(
            conn,
            operations.Writer(
                id=self.writer,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=self._started_at,
                lease_until=now + LEASE,
            ),
        )
        dead_ones = {w.id: w for w in operations.expired_writers(conn, now=now)}
        if self._renewed_at is None:
            # A restart after a crash need not wait for its own former lease.
            dead_ones |= {w.id: w for w in operations.list_writers(conn) if _is_gone(w)}
        taken = {}
        for dead in dead_ones.values():
            taken[dead.id] = batches.reassign(conn, from_writer=dead.id, to_writer=self.writer)
            operations.remove_writer(conn, dead.id)
        return taken


def _is_gone(writer: operations.Writer) -> bool:
    """Whether the daemon ran on this machine and its process is no more."""
    if writer.host != socket.gethostname():
        return False
    try:
        os.kill(writer.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _weight(writer: str, subject: str) -> bytes:
    """Highest random weight: when a daemon comes or goes, only the subjects it gains or had are moved."""
    return hashlib.sha256(f"{writer}\0{subject}".encode()).digest()
