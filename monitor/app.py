"""The composition root: every part of the daemon, built once from the configuration and started in order."""

import logging
import os
import random
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from alerts.ports import Receiver, Transport
from alerts.pushing import RESEND
from alerts.transport import HttpTransport
from monitor import sdnotify
from monitor.catalog import Catalog
from monitor.clock import Clock, SystemClock
from monitor.config import Config
from monitor.config_secrets import AlertmanagerReceiver
from monitor.deliver import Courier, Couriers
from monitor.halves import Halves
from monitor.ingestion import Ingestion
from monitor.jobs import TICK, Jobs
from monitor.membership import LOCAL, Membership
from monitor.notify import Notifier
from monitor.pipeline import Pipeline
from monitor.pushing import whole
from monitor.receivers import build_receivers
from monitor.retention import enforce_retention
from monitor.telemetry import Telemetry
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.locks import announcing

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
        self.membership = Membership(database, self.clock)
        self.pipeline = Pipeline(
            database, self.catalog, config, self.notifier, self.clock, self.telemetry, self.membership
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
                rng or random.Random(),  # noqa: S311  # jitter of retries, no secret
            )
            for name, receiver in self.receivers.items()
        }
        self._deliveries = Couriers(self.couriers)
        self._jobs = Jobs()
        self.started = False
        self.started_at: datetime | None = None

    def start(self) -> None:
        """Start the loops. The caller serves HTTP and says READY."""
        self.membership.renew()
        self.pipeline.start()
        self._deliveries.start()
        self._jobs.every(TICK, "tick", self.pipeline.wake)
        self._jobs.every(RETENTION_INTERVAL, "retention", self._retain)
        self._jobs.every(EVENTS_INTERVAL, "events", self.halves.expire)
        interval = sdnotify.watchdog_seconds()
        if interval is not None:
            self._jobs.every(timedelta(seconds=interval), "watchdog", self._watchdog)
        if self._with_watchdog():
            self._jobs.every(RESEND, "alertmanager-watchdog", self.keep_watchdog)
        self.started_at = self.clock.now()
        self._jobs.start()
        self.started = True
        self.pipeline.wake()

    def stop(self) -> None:
        """Drain: what was acknowledged is on disk already; finish the look and the sends under way."""
        timeout = self.config.server.shutdown_timeout.total_seconds()
        if self.started:
            self._jobs.stop()
            self.pipeline.stop(timeout)
            self._deliveries.stop(timeout)
            self._leave()
        self.database.close()

    def keep_watchdog(self) -> None:
        """Renew the alert that always fires, but only while the daemon does its work."""
        now = self.clock.now()
        since, page = self.started_at or now, self.config.server.public_url

        def write(conn: Connection) -> None:
            announcing(conn)
            if whole(conn, self.pipeline.last_loop, now):
                self.notifier.pushes.keep_watchdog(conn, self._with_watchdog(), since, now, page)

        self.database.write(write).result()
        self.wake_couriers()

    def wake_couriers(self) -> None:
        """Something was put in the outbox."""
        self._deliveries.wake()

    def _with_watchdog(self) -> list[str]:
        return [
            n for n, r in self.config.receivers.items() if isinstance(r, AlertmanagerReceiver) and r.watchdog
        ]

    def _leave(self) -> None:
        try:
            self.membership.leave()
        except StorageError as error:
            log.warning("the lease could not be ended and runs out by itself: %s", error)

    def _retain(self) -> None:
        enforce_retention(self.database, self.catalog, self.config, self.clock.now())

    def _watchdog(self) -> None:
        """A sign of life for systemd, given only while the evaluation loop completes its rounds."""
        last = self.pipeline.last_loop
        if last is None or self.clock.now() - last < STUCK_AFTER:
            sdnotify.notify("WATCHDOG=1")
