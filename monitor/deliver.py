"""The delivery loop: claims due notifications by lease, sends the stored bytes, records what became of them.

One thread per receiver, so that a dead one delays nobody else. The claim is committed before the send: a
crash in between sends again, under the same id.
"""

import logging
import random
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from alerts.identity import Severity
from alerts.message import MessageStatus
from alerts.ports import Outcome, OutcomeKind, Receiver, Rendered, Reply, Transport, excerpt
from alerts.retry import Action, Decision, next_attempt
from monitor.clock import Clock
from monitor.telemetry import Telemetry
from storage import outbox, receivers
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.outbox import Attempt, NotificationRow

LEASE_MARGIN: Final = timedelta(seconds=30)
IDLE_SECONDS: Final = 1.0

log = logging.getLogger("driftd.deliver")


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

    @property
    def name(self) -> str:
        return self._receiver.settings.name

    @property
    def spacing_seconds(self) -> float:
        return self._receiver.spacing_seconds

    def run_once(self, limit: int = 10) -> int:
        """Send what is due now; returns how many attempts were made. Raises StorageError only."""
        now = self._clock.now()
        lease = now + timedelta(seconds=self._receiver.settings.timeout_seconds) * limit + LEASE_MARGIN
        claimed = self._database.write(
            lambda conn: outbox.claim_due(
                conn, now=now, lease_until=lease, worker=self._worker, limit=limit, receiver=self.name
            )
        ).result()
        for row in claimed:
            self._send(row)
        return len(claimed)

    def _send(self, row: NotificationRow) -> None:
        started = self._clock.now()
        rendered = Rendered(body=row.body, content_type=row.content_type, headers=tuple(row.headers.items()))
        request = self._receiver.request(rendered, message_id=row.id, now=started)
        reply = self._transport.send(request)
        outcome = self._receiver.classify(reply)
        if row.kind == MessageStatus.TEST:  # whoever tests a receiver wants to see what it says
            outcome = excerpt(outcome, reply, self._receiver.settings, quoted=tuple(OutcomeKind))
        now = self._clock.now()
        decision = next_attempt(row.attempts, Severity(row.severity), outcome, now, self._rng)
        self._database.write(lambda conn: self._settle(conn, row, reply, outcome, decision)).result()
        self._telemetry.attempts.labels(receiver=self.name, outcome=decision.action.value).inc()
        if decision.action is not Action.DONE:
            log.warning(
                "receiver %s: notification %s: %s (%s)",
                self.name,
                row.id,
                decision.action.value,
                decision.reason,
            )

    def _settle(
        self, conn: Connection, row: NotificationRow, reply: Reply, outcome: Outcome, decision: Decision
    ) -> None:
        now = self._clock.now()
        outbox.record_attempt(
            conn,
            Attempt(
                notification_id=row.id,
                at=now,
                outcome=decision.action.value,
                http_status=reply.status,
                detail=outcome.detail,
                duration_ms=round(reply.elapsed_seconds * 1000),
            ),
        )
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
            receivers.put(
                conn,
                receivers.ReceiverState(
                    receiver=self.name,
                    broken_since=now if broken else None,
                    hold_until=decision.hold_receiver_until,
                    reason=decision.reason,
                ),
            )


class Couriers:
    """Every courier, each in its own thread."""

    def __init__(self, couriers: Mapping[str, Courier]) -> None:
        self._couriers = couriers
        self._stop = threading.Event()
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
        """Finish the sends under way; what is left waits in the outbox for the next start."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def _loop(self, name: str) -> None:
        courier, wake = self._couriers[name], self._wake[name]
        while not self._stop.is_set():
            try:
                busy = courier.run_once(limit=1) > 0
            except StorageError as error:
                log.error("receiver %s: the outbox cannot be read or written: %s", name, error)
                busy = False
            except Exception:
                log.exception("receiver %s: a defect in the delivery; it goes on", name)
                busy = False
            if busy:
                self._stop.wait(courier.spacing_seconds)
            else:
                wake.wait(IDLE_SECONDS)
                wake.clear()
