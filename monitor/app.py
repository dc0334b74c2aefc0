"""The composition root: every part of the daemon, built once from the configuration and started in order."""

import logging
import os
import random
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind
from alerts.ports import Receiver, Transport
from alerts.transport import HttpTransport
from monitor import sdnotify
from monitor.catalog import Catalog
from monitor.clock import Clock, SystemClock
from monitor.config import Config
from monitor.deliver import Courier, Couriers
from monitor.emergency import Emergency
from monitor.halves import Halves
from monitor.ingestion import Ingestion
from monitor.jobs import TICK, Jobs
from monitor.membership import LOCAL, Membership
from monitor.notify import Notifier
from monitor.pipeline import Pipeline
from monitor.receivers import build_receivers
from monitor.retention import enforce_retention
from monitor.storagewatch import StorageWatch
from monitor.telemetry import Telemetry
from storage import alerts, outbox, receivers
from storage.engine import Connection, Database
from storage.errors import StorageError

RETENTION_INTERVAL: Final = timedelta(minutes=10)
EVENTS_INTERVAL: Final = timedelta(minutes=1)
STUCK_AFTER: Final = timedelta(minutes=5)

log = logging.getLogger("driftd")


class Service:
    """One daemon. Built without starting anything, so that commands can use it beside no daemon at all."""

    def __init__(
        self,
        config: Config,
        database: Database,
        *,
        clock: Clock | None = None,
        transport: Transport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.database = database
        self.clock = clock or SystemClock()
        self.telemetry = Telemetry()
        self.catalog = Catalog(database)
        self.receivers: Mapping[str, Receiver] = build_receivers(config)
        self.notifier = Notifier(config, self.receivers)
        self._rng = rng or random.Random()  # noqa: S311  # jitter of retries, no secret
        self.storage = StorageWatch(database, self.clock)
        self.emergency = Emergency(
            self.receivers,
            transport or HttpTransport(),
            self.clock,
            public_url=config.server.public_url,
            repeat_interval=config.alerts.repeat_interval,
            rng=self._rng,
        )
        self.membership = Membership(database, self.clock)
        self.pipeline = Pipeline(
            database,
            self.catalog,
            config,
            self.notifier,
            self.clock,
            self.telemetry,
            self.membership,
            self.storage,
            self.emergency,
        )
        writer = self.membership.writer
        self.ingestion = Ingestion(
            database, self.catalog, config, self.pipeline, self.clock, self.telemetry, writer
        )
        self.halves = Halves(database, config, self.clock, self.telemetry)
        self.couriers: Mapping[str, Courier] = {
            name: Courier(
                database,
                receiver,
                transport or HttpTransport(),
                self.clock,
                f"{socket.gethostname()}-{os.getpid()}" if writer == LOCAL else writer,
                self.telemetry,
                self._rng,
            )
            for name, receiver in self.receivers.items()
        }
        self._deliveries = Couriers(self.couriers)
        self._jobs = Jobs()
        self._stop_by: float | None = None
        self.started = False
        self.started_at: datetime | None = None

    def start(self) -> None:
        """Start the loops. The caller serves HTTP and says READY."""
        self.database.write(self._begin_anew).result()
        self.membership.renew()
        self.pipeline.start()
        self._deliveries.start()
        self._jobs.every(TICK, "tick", self.pipeline.wake)
        self._jobs.every(RETENTION_INTERVAL, "retention", self._retain)
        self._jobs.every(TICK, "storage", self.watch_storage)
        self._jobs.every(EVENTS_INTERVAL, "events", self.halves.expire)
        interval = sdnotify.watchdog_seconds()
        if interval is not None:
            self._jobs.every(timedelta(seconds=interval), "watchdog", self._watchdog)
        self._jobs.start()
        self.started = True
        self.started_at = self.clock.now()
        self.pipeline.wake()

    def _begin_anew(self, conn: Connection) -> None:
        """What a start means for the outbox."""
        now = self.clock.now()
        # A configuration takes effect by a restart, so a broken receiver may be whole again.
        receivers.try_again(conn, at=now)
        if not self.database.shared:
            outbox.end_leases(conn, at=now)  # those of the daemon that died: no page waits for a dead one

    def stopping(self) -> None:
        """From now on counts `server.shutdown_timeout`, for the requests, the loops and the sends together."""
        if self._stop_by is None:
            self._stop_by = self.clock.monotonic() + self.config.server.shutdown_timeout.total_seconds()

    def stop(self) -> None:
        """Drain: what was acknowledged is on disk already; finish the look under way, send what is due."""
        self.stopping()
        if self.started:
            self._jobs.stop()
            self.pipeline.stop(self._left())
            self._deliveries.stop(self._left())
            self._leave()
        self.database.close()

    def _left(self) -> float:
        """Seconds until the daemon is to have stopped."""
        assert self._stop_by is not None
        return max(0.1, self._stop_by - self.clock.monotonic())

    def wake_couriers(self) -> None:
        """Something was put in the outbox."""
        self._deliveries.wake()

    def watch_storage(self) -> None:
        """See whether the store can be written; where it cannot, and no alert could say so, tell the receivers."""
        self.storage.look()
        trouble = self.storage.trouble
        silent = self.storage.stubborn or not self.storage.writable
        if trouble is None or self.emergency.speaking or (silent and not self._alerted()):
            self.emergency.look(trouble)

    def _alerted(self) -> bool:
        """Whether a stored alert says already that the store fails."""
        try:
            with self.database.read() as conn:
                return any(row.kind == AlertKind.STORAGE_FAILING for row in alerts.active(conn, ""))
        except StorageError:
            return False

    def _leave(self) -> None:
        try:
            self.membership.leave()
        except StorageError as error:
            log.warning("the lease could not be ended and runs out by itself: %s", error)

    def _retain(self) -> None:
        enforce_retention(self.database, self.catalog, self.config, self.clock.now())

    def _watchdog(self) -> None:
        """A sign of life for systemd, given only while the evaluation loop completes its rounds."""
        last = self.pipeline.last_turn
        if last is None or self.clock.now() - last < STUCK_AFTER:
            sdnotify.notify("WATCHDOG=1")
