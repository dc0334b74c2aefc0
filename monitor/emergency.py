"""The voice for when nothing can be written: says so to every receiver directly, from memory.

The ordinary way (an alert, its notifications, the outbox) needs the store. This one needs the network only, keeps the
same retry schedule, and is silent after a restart until it has seen the trouble itself.
"""

import logging
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind, Severity, alert_labels, group_key, kind_class
from alerts.message import AlertDetail, IncidentMessage, Link, MessageStatus
from alerts.ports import Receiver, Transport
from alerts.retry import Action, next_attempt
from monitor.clock import Clock
from monitor.ids import message_id

_KIND: Final = AlertKind.STORAGE_FAILING

log = logging.getLogger("driftd.emergency")


@dataclass(slots=True, kw_only=True)
class _Line:
    """What one receiver is being told."""

    message: IncidentMessage
    id: str
    due: datetime
    attempts: int = 0
    delivered_at: datetime | None = None
    ended: bool = False
    busy: threading.Thread | None = None


class Emergency:
    """One message per receiver while the store fails, repeated as any other, and one when it is over."""

    def __init__(
        self,
        receivers: Mapping[str, Receiver],
        transport: Transport,
        clock: Clock,
        *,
        public_url: str,
        repeat_interval: timedelta,
        rng: random.Random,
    ) -> None:
        self._receivers = receivers
        self._transport = transport
        self._clock = clock
        self._link = Link(title="Page", url=public_url)
        self._repeat = repeat_interval
        self._rng = rng
        self._since: datetime | None = None
        self._lines: dict[str, _Line] = {}

    @property
    def speaking(self) -> bool:
        """Whether somebody was told and has not heard of the end yet: then the ordinary alert need not open."""
        return bool(self._lines)

    def look(self, trouble: str | None) -> None:
        """Take in how the store stands now, and send what is due, each receiver in a thread of its own."""
        now = self._clock.now()
        if trouble is not None and self._since is None:
            self._since = now
            self._lines = {name: self._line(MessageStatus.FIRING, trouble, now) for name in self._receivers}
        elif trouble is None and self._since is not None:
            self._over(now)
            self._since = None
        for name, line in list(self._lines.items()):
            self._turn(name, line, trouble, now)

    def join(self, timeout_seconds: float) -> None:
        """Wait for the sends under way."""
        for line in list(self._lines.values()):
            if line.busy is not None:
                line.busy.join(timeout_seconds)

    def _turn(self, name: str, line: _Line, trouble: str | None, now: datetime) -> None:
        if line.busy is not None and line.busy.is_alive():
            return
        if line.ended and line.message.status is MessageStatus.RESOLVED:
            del self._lines[name]
            return
        repeat = line.delivered_at is not None and now - line.delivered_at >= self._repeat
        if repeat and trouble is not None:
            line = self._lines[name] = self._line(MessageStatus.FIRING, trouble, now)
        if not line.ended and line.due <= now:
            line.busy = threading.Thread(
                target=self._send, args=(name, line), name=f"emergency-{name}", daemon=True
            )
            line.busy.start()

    def _over(self, now: datetime) -> None:
        """Who was told of the beginning is told of the end."""
        told = {
            name
            for name, line in self._lines.items()
            if line.attempts and self._receivers[name].settings.send_resolved
        }
        self.join(0)
        self._lines = {name: self._line(MessageStatus.RESOLVED, "", now) for name in told}

    def _send(self, name: str, line: _Line) -> None:
        receiver = self._receivers[name]
        line.attempts += 1
        try:
            request = receiver.request(
                receiver.render(line.message), message_id=line.id, now=self._clock.now()
            )
            outcome = receiver.classify(self._transport.send(request))
        except Exception:
            log.exception("receiver %s: a defect in telling that the store fails", name)
            line.ended = True
            return
        now = self._clock.now()
        decision = next_attempt(line.attempts, Severity.CRITICAL, outcome, now, self._rng)
        if decision.action is Action.RETRY and decision.retry_at is not None:
            line.due = decision.retry_at
        else:
            line.ended = True
            line.delivered_at = now if decision.action is Action.DONE else None
        log.warning(
            "receiver %s: told that the store %s: %s (%s)",
            name,
            "works again" if line.message.status is MessageStatus.RESOLVED else "fails",
            decision.action.value,
            decision.reason,
        )

    def _line(self, status: MessageStatus, trouble: str, now: datetime) -> _Line:
        began = self._since or now
        over = status is MessageStatus.RESOLVED
        labels = alert_labels(_KIND)
        detail = AlertDetail(
            labels=labels,
            status=status,
            severity=Severity.CRITICAL,
            starts_at=began,
            ends_at=now if over else None,
            summary="what comes is stored again" if over else f"predictions are refused: {trouble}",
        )
        message = IncidentMessage(
            status=status,
            group_key=group_key(kind_class(_KIND), "", ""),
            kind_class=kind_class(_KIND),
            severity=Severity.CRITICAL,
            title="driftd: nothing can be stored",
            created_at=now,
            started_at=began,
            alerts=(detail,),
            reason="all alerts resolved" if over else "first notification",
            what_to_do="Nothing: this is over."
            if over
            else "Make room on the disk of the state directory, or repair it; driftd goes on by itself.",
            links=(self._link,),
        )
        return _Line(message=message, id=message_id(now), due=now)
