"""The composition root: every part of the daemon, built once from the configuration and started in order."""

import logging
import os
import random
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind
from alerts.ports import Receiver, Transport
from alerts.pushing import RESEND
from alerts.transport import HttpTransport
from monitor import sdnotify
from monitor.api.auth import Token
from monitor.catalog import Catalog
from monitor.clock import Clock, SystemClock
from monitor.config import Config
from monitor.config_secrets import AlertmanagerReceiver
from monitor.deliver import Courier, Couriers
from monitor.digest import Digest
from monitor.emergency import Emergency
from monitor.halves import Halves
from monitor.heartbeat import Heartbeat
from monitor.ingestion import Ingestion
from monitor.jobs import TICK, Jobs
from monitor.labelling import Labelling
from monitor.membership import LOCAL, Membership
from monitor.notify import Notifier
from monitor.pipeline import Pipeline
from monitor.pushing import whole
from monitor.receivers import build_receivers
from monitor.retention import enforce_retention
from monitor.storagewatch import StorageWatch
from monitor.telemetry import Telemetry
from storage import alerts, outbox, receivers
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.locks import announcing
from storage.operations import AuditEntry, record_audit

RETENTION_INTERVAL: Final = timedelta(minutes=10)
DIGEST_INTERVAL: Final = timedelta(minutes=1)
EVENTS_INTERVAL: Final = timedelta(minutes=1)
STUCK_AFTER: Final = timedelta(minutes=5)

log = logging.getLogger("driftd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A configuration with everything that can fail about it done: its secrets read, its receivers built."""

    config: Config
    receivers: Mapping[str, Receiver]
    heartbeat: Heartbeat | None
    tokens: Sequence[Token]

    @classmethod
    def of(cls, service: "Service", config: Config) -> "Prepared":
        """Raises SecretError or AlertError, naming the key."""
        return cls(
            config=config,
            receivers=build_receivers(config),
            heartbeat=service.heartbeat_of(config),
            tokens=read_tokens(config),
        )


def read_tokens(config: Config) -> Sequence[Token]:
    """The configured tokens. SecretError."""
    return [
        Token(name=token.name, digest=bytes.fromhex(token.read_digest()), scopes=frozenset(token.scopes))
        for token in config.auth.tokens
    ]


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
        self._transport = transport or HttpTransport()
        self._rng = rng or random.Random()  # noqa: S311  # jitter of retries, no secret
        self.reload_from: Callable[[], Config] | None = None
        """Reads the configuration's file again; None where there is no daemon to reload."""
        self.clock = clock or SystemClock()
        self.telemetry = Telemetry()
        self.catalog = Catalog(database)
        self.receivers: Mapping[str, Receiver] = build_receivers(config)
        self.notifier = Notifier(config, self.receivers)
        self.digest = Digest(config, database, self.catalog, self.receivers, self.clock)
        self.storage = StorageWatch(database, self.clock)
        self.emergency = Emergency(
            self.receivers,
            self._transport,
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
        self.labelling = Labelling(database, config, self.clock, self.telemetry)
        self.couriers: Mapping[str, Courier] = {
            name: self._courier(receiver) for name, receiver in self.receivers.items()
        }
        self._deliveries = Couriers(self.couriers)
        self._jobs = Jobs(self.clock, self._clock_stepped)
        self._stop_by: float | None = None
        self.heartbeat = self.heartbeat_of(config)
        self.tokens: Sequence[Token] = ()
        self.started = False
        self.started_at: datetime | None = None
        self._started_monotonic = 0.0

    def heartbeat_of(self, config: Config) -> Heartbeat | None:
        """The configured heartbeat. SecretError, AlertError."""
        if config.heartbeat is None:
            return None
        looked = lambda: self.pipeline.looked_at  # noqa: E731  # it does not exist yet
        return Heartbeat(config.heartbeat, self.database, self._transport, self.clock, looked)

    def _courier(self, receiver: Receiver) -> Courier:
        writer = self.membership.writer
        worker = f"{socket.gethostname()}-{os.getpid()}" if writer == LOCAL else writer
        return Courier(
            self.database, receiver, self._transport, self.clock, worker, self.telemetry, self._rng
        )

    def adopt(self, new: "Prepared", *, changed: Sequence[str], actor: str) -> None:
        """Put a prepared configuration in force, between two looks. StorageError; then nothing has changed."""
        renewed = {
            name
            for name, found in new.receivers.items()
            if name in self.receivers and found.settings != self.receivers[name].settings
        }
        now, names = self.clock.now(), list(new.receivers)

        def write(conn: Connection) -> None:
            if not self.database.shared:
                outbox.forsake(conn, names, now=now, reason="its receiver is configured no more")
            for name in renewed:
                receivers.clear(
                    conn, name
                )  # what was wrong with the old settings is not known of the new ones
            entry = AuditEntry(
                at=now,
                actor=actor,
                action="config.reload",
                target="config",
                detail={"changed": list(changed)},
            )
            record_audit(conn, entry)

        with self.pipeline.exclusive():
            self.database.write(write).result()
            self._put_in_force(new, renewed)
        self.pipeline.wake()
        self.wake_couriers()

    def _put_in_force(self, new: "Prepared", renewed: Collection[str]) -> None:
        couriers = {
            name: self.couriers[name] if name in self.couriers else self._courier(found)
            for name, found in new.receivers.items()
        }
        for name in renewed:
            couriers[name].adopt(new.receivers[name])
        self.config, self.receivers, self.couriers = new.config, new.receivers, couriers
        self.tokens = new.tokens
        self.notifier.adopt(new.config, new.receivers)
        self.digest.adopt(new.config, new.receivers)
        self.emergency.adopt(
            new.receivers,
            public_url=new.config.server.public_url,
            repeat_interval=new.config.alerts.repeat_interval,
        )
        self.pipeline.adopt(new.config)
        self.ingestion.adopt(new.config)
        self.labelling.adopt(new.config)
        self._deliveries.adopt(couriers)
        self._jobs.cancel("heartbeat")
        self._jobs.cancel("alertmanager-watchdog")
        if self.started and self._with_watchdog():
            self._jobs.every(RESEND, "alertmanager-watchdog", self.keep_watchdog)
        self.heartbeat = new.heartbeat
        if self.started and self.heartbeat is not None:
            self._jobs.every(self.heartbeat.interval, "heartbeat", self.heartbeat.beat)

    def start(self) -> None:
        """Start the loops. The caller serves HTTP and says READY."""
        self.database.write(self._begin_anew).result()
        self._forsake()
        self.membership.renew()
        self.labelling.recount()
        self.pipeline.start()
        self._deliveries.start()
        self._jobs.every(TICK, "tick", self.pipeline.wake)
        self._jobs.every(RETENTION_INTERVAL, "retention", self._retain)
        self._jobs.every(TICK, "storage", self.watch_storage)
        self._jobs.every(EVENTS_INTERVAL, "events", self.halves.expire)
        self._jobs.every(DIGEST_INTERVAL, "digest", self._digest)
        if self.heartbeat is not None:
            self._jobs.every(self.heartbeat.interval, "heartbeat", self.heartbeat.beat)
        interval = sdnotify.watchdog_seconds()
        if interval is not None:
            self._jobs.every(timedelta(seconds=interval), "watchdog", self._watchdog)
        if self._with_watchdog():
            self._jobs.every(RESEND, "alertmanager-watchdog", self.keep_watchdog)
        self.started_at, self._started_monotonic = self.clock.now(), self.clock.monotonic()
        self._jobs.start()
        self.started = True
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
        self.ingestion.counting.stop()
        self.database.close()

    def keep_watchdog(self) -> None:
        """Renew the alert that always fires, but only while the daemon does its work."""
        now = self.clock.now()
        since, page = self.started_at or now, self.config.server.public_url

        def write(conn: Connection) -> None:
            announcing(conn)
            if whole(conn, self.pipeline.stood_still(), now):
                self.notifier.pushes.keep_watchdog(conn, self._with_watchdog(), since, now, page)

        self.database.write(write).result()
        self.wake_couriers()

    def _left(self) -> float:
        """Seconds until the daemon is to have stopped."""
        assert self._stop_by is not None
        return max(0.1, self._stop_by - self.clock.monotonic())

    def wake_couriers(self) -> None:
        """Something was put in the outbox."""
        self._deliveries.wake()

    def _with_watchdog(self) -> list[str]:
        return [
            n for n, r in self.config.receivers.items() if isinstance(r, AlertmanagerReceiver) and r.watchdog
        ]

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

    def silent_for(self) -> timedelta | None:
        """How long the evaluation loop has made no progress, whatever the wall clock says; None if it was never started."""
        if not self.started:
            return None
        last = self.pipeline.progressed_at
        since = self._started_monotonic if last is None else max(last, self._started_monotonic)
        return timedelta(seconds=self.clock.monotonic() - since)

    def _clock_stepped(self, by: timedelta) -> None:
        """Set back, the wall clock would keep every waiting message for as long: what is due is due all the same."""
        if by < timedelta(0):
            self.database.write(lambda conn: outbox.shift(conn, by)).result()
        self.pipeline.wake()
        self.wake_couriers()

    def _forsake(self) -> None:
        """What waits for a receiver that is configured no more would wait for ever; another daemon may know it, though."""
        if self.database.shared:
            return
        now, names = self.clock.now(), list(self.receivers)
        why = "its receiver is configured no more"
        dropped = self.database.write(lambda conn: outbox.forsake(conn, names, now=now, reason=why)).result()
        if dropped:
            log.warning("%d notifications were dropped: %s", dropped, why)

    def _digest(self) -> None:
        if self.membership.leads("") and self.digest.run():
            self.wake_couriers()

    def _retain(self) -> None:
        enforce_retention(self.database, self.catalog, self.config, self.clock.now())
        self.labelling.recount()

    def _watchdog(self) -> None:
        """A sign of life for systemd, given only while the evaluation loop completes its rounds."""
        silent = self.silent_for()
        if silent is None or silent < STUCK_AFTER:
            sdnotify.notify("WATCHDOG=1")
