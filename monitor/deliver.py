"""The delivery loop: claims due notifications by lease, sends the stored bytes, records what became of them.

One thread per receiver, so that a dead one delays nobody else. The claim is committed before the send: a
crash in between sends again, under the same id. While the store cannot be written (a full disk), what is due
is sent all the same, and what came of it is remembered here until it can be: only a crash meanwhile sends again.
"""

import logging
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import Severity
from alerts.ports import Receiver, Rendered, Transport
from alerts.retry import Action, Decision, next_attempt
from monitor.clock import Clock
from monitor.telemetry import Telemetry
from storage import outbox, receivers
from storage.engine import Connection, Database
from storage.errors import StorageClosed, StorageError
from storage.outbox import Attempt, NotificationRow

LEASE_MARGIN: Final = timedelta(seconds=30)
IDLE_SECONDS: Final = 1.0

log = logging.getLogger("driftd.deliver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """A notification that was sent, and could not be marked: `row` as it was tried last, and every try since the lease."""

    row: NotificationRow
    decision: Decision
    attempts: tuple[Attempt, ...]

    def due(self, now: datetime) -> bool:
        """Whether it is to be tried again by now."""
        return self.decision.retry_at is not None and self.decision.retry_at <= now

    def holds(self, now: datetime) -> bool:
        """Whether the reply keeps back the whole receiver."""
        until = self.decision.hold_receiver_until
        return self.decision.action is Action.BREAK_RECEIVER or (until is not None and until > now)


class Courier:
    """Delivers to one receiver. `run_once` is the whole of it; the thread only repeats it."""

    def __init__(
        self,
        database: Database,
        receiver: Receiver,
        transport: Transport,
        clock: Clock,
        worker: str,
        telemetry: Telemetry,
        rng: random.Random,
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._transport = transport
        self._clock = clock
        self._worker = worker
        self._telemetry = telemetry
        self._rng = rng
        self._debts: dict[str, Debt] = {}

    @property
    def name(self) -> str:
        return self._receiver.settings.name

    @property
    def timeout_seconds(self) -> float:
        """The longest that one send may take."""
        return self._receiver.settings.timeout_seconds

    def run_once(self, limit: int = 10) -> int:
        """Send what is due now; returns how many attempts were made. Raises StorageError only."""
        now, leased = self._clock.now(), True
        lease = now + timedelta(seconds=self._receiver.settings.timeout_seconds) * limit + LEASE_MARGIN
        try:
            self._repay()
            claimed = self._database.write(
                lambda conn: outbox.claim_due(
                    conn, now=now, lease_until=lease, worker=self._worker, limit=limit, receiver=self.name
                )
            ).result()
        except StorageClosed:
            raise
        except StorageError as error:
            if self._database.shared:
                raise  # another daemon may reach it, and would send the same
            claimed, leased = self._unleased(now, limit), False
            if claimed:
                log.error("receiver %s: sending without the store, which fails: %s", self.name, error)
        for row in claimed:
            self._send(row, leased=leased)
        return len(claimed)

    def _unleased(self, now: datetime, limit: int) -> list[NotificationRow]:
        """What is due though no lease can be written, without what was tried meanwhile and is not due again."""
        if any(debt.holds(now) for debt in self._debts.values()):
            return []
        with self._database.read() as conn:
            found = outbox.due(conn, now=now, limit=limit + len(self._debts), receiver=self.name)
        rows = {row.id: row for row in found} | {debt.row.id: debt.row for debt in self._debts.values()}
        due = [
            replace(row, attempts=row.attempts + 1)
            for row in rows.values()
            if row.id not in self._debts or self._debts[row.id].due(now)
        ]
        return due[:limit]

    def _repay(self) -> None:
        """Write what came of the sends that could not be written at the time."""
        for debt in list(self._debts.values()):
            self._database.write(lambda conn, debt=debt: self._settle(conn, debt, leased=False)).result()  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            del self._debts[debt.row.id]

    def _send(self, row: NotificationRow, *, leased: bool) -> None:
        started = self._clock.now()
        rendered = Rendered(body=row.body, content_type=row.content_type, headers=tuple(row.headers.items()))
        request = self._receiver.request(rendered, message_id=row.id, now=started)
        reply = self._transport.send(request)
        outcome = self._receiver.classify(reply)
        now = self._clock.now()
        decision = next_attempt(row.attempts, Severity(row.severity), outcome, now, self._rng)
        attempt = Attempt(
            notification_id=row.id,
            at=now,
            outcome=decision.action.value,
            http_status=reply.status,
            detail=outcome.detail,
            duration_ms=round(reply.elapsed_seconds * 1000),
        )
        before = self._debts[row.id].attempts if row.id in self._debts else ()
        debt = Debt(row=row, decision=decision, attempts=(*before, attempt))
        try:
            self._database.write(lambda conn: self._settle(conn, debt, leased=leased)).result()
        except StorageError as error:
            self._debts[row.id] = debt
            log.error("receiver %s: notification %s: not marked yet: %s", self.name, row.id, error)
        else:
            self._debts.pop(row.id, None)
        self._telemetry.attempts.labels(receiver=self.name, outcome=decision.action.value).inc()
        if decision.action is not Action.DONE:
            log.warning(
                "receiver %s: notification %s: %s (%s)",
                self.name,
                row.id,
                decision.action.value,
                decision.reason,
            )

    def _settle(self, conn: Connection, debt: Debt, *, leased: bool) -> None:
        """Record the tries of one notification and what follows from the last of them."""
        now, row, decision = self._clock.now(), debt.row, debt.decision
        if not leased and not outbox.adopt(conn, row.id, worker=self._worker, attempts=row.attempts, now=now):
            return
        for attempt in debt.attempts:
            outbox.record_attempt(conn, attempt)
        if decision.action is Action.DONE:
            outbox.finish(conn, row.id, worker=self._worker, at=now)
            receivers.clear(conn, self.name)
            return
        if decision.action is Action.DEAD_LETTER:
            outbox.dead_letter(conn, row.id, worker=self._worker, at=now, reason=decision.reason)
            return
        retry_at = decision.retry_at or now
        outbox.reschedule(conn, row.id, worker=self._worker, next_attempt_at=retry_at, reason=decision.reason)
        broken = decision.action is Action.BREAK_RECEIVER
        if broken or decision.hold_receiver_until is not None:
            since = receivers.get(conn, self.name).broken_since or now
            receivers.put(
                conn,
                receivers.ReceiverState(
                    receiver=self.name,
                    broken_since=since if broken else None,
                    hold_until=decision.hold_receiver_until,
                    reason=decision.reason,
                ),
            )


class Couriers:
    """Every courier, each in its own thread."""

    def __init__(self, couriers: Mapping[str, Courier]) -> None:
        self._couriers = couriers
        self._stop = threading.Event()
        self._until = 0.0
        self._wake = {name: threading.Event() for name in couriers}
        self._threads = [
            threading.Thread(target=self._loop, args=(name,), name=f"deliver-{name}", daemon=True)
            for name in couriers
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look now instead of within a second."""
        for event in self._wake.values():
            event.set()

    def stop(self, timeout_seconds: float) -> None:
        """Send what is due until then; what is left waits in the outbox for the next start."""
        self._until = time.monotonic() + timeout_seconds
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join(max(0.0, self._until - time.monotonic()))

    def _loop(self, name: str) -> None:
        courier, wake = self._couriers[name], self._wake[name]
        while not self._stop.is_set() or time.monotonic() + courier.timeout_seconds < self._until:
            try:
                busy = courier.run_once(limit=1) > 0
            except StorageError as error:
                log.error("receiver %s: the outbox cannot be read or written: %s", name, error)
                busy = False
            except Exception:
                log.exception("receiver %s: a defect in the delivery; it goes on", name)
                busy = False
            if not busy:
                if self._stop.is_set():
                    return
                wake.wait(IDLE_SECONDS)
                wake.clear()
