"""A test notification, sent the way a real one is: rendered, queued, claimed, signed and posted."""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from alerts.message import Link, trial_message
from alerts.ports import Receiver, Rendered
from monitor.app import Service
from monitor.operations.acts import perform
from monitor.operations.errors import NotKnown
from monitor.outgoing import notification
from storage import outbox, receivers
from storage.engine import Connection
from storage.outbox import Attempt, NotificationRow

PATIENCE_SECONDS: Final = 5.0
"""Waited beyond the receiver's own timeout, for what is in front of it in the queue."""
_POLL_SECONDS: Final = 0.05
_QUEUE_AHEAD: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What was sent and what came back, without secrets: they read `***`, and so does the path, which may be one.

    `request_line` and `headers` as they go out; `body` the very bytes, but for a key that the vendor wants inside.
    `detail` begins with the status and goes on with the beginning of the reply.
    `delivered` False with `attempted` False: it was not sent within the time, and `detail` says what keeps it.
    """

    receiver: str
    kind: str
    destination: str
    message_id: str
    request_line: str
    headers: tuple[tuple[str, str], ...]
    content_type: str
    body: bytes
    attempted: bool
    delivered: bool
    http_status: int | None
    detail: str
    duration_ms: int


def try_receiver(service: Service, name: str, *, actor: str) -> Exchange:
    """Send one test notification to a receiver and wait for its one attempt. NotKnown.

    A receiver that was marked broken is given another chance: an operator who tests it has repaired it.
    """
    receiver = service.receivers.get(name)
    if receiver is None:
        known = ", ".join(service.receivers) or "none configured"
        raise NotKnown(f"there is no receiver {name!r}; there are: {known}")
    row_id = _queue(service, receiver, actor)
    attempt = _wait(service, receiver, row_id)
    return _finish(service, receiver, row_id, attempt)


def _queue(service: Service, receiver: Receiver, actor: str) -> str:
    now = service.clock.now()
    name = receiver.settings.name
    message = trial_message(name, now, (Link(title="Page", url=service.config.server.public_url),))
    new = notification(receiver, message, now=now)

    def write(conn: Connection) -> str:
        for older in outbox.pending_for(conn, name, message.group_key):
            outbox.drop(conn, older.id, at=now, reason="a newer test", attempted_too=True)
        state = receivers.get(conn, name)
        if state.broken_since is not None:
            receivers.clear(conn, name)
        outbox.add(conn, new)
        return new.id

    return perform(
        service,
        write,
        actor=actor,
        action="receiver.test",
        target=lambda _: f"receiver/{name}",
        detail={"message_id": new.id},
    )


def _wait(service: Service, receiver: Receiver, row_id: str) -> Attempt | None:
    """The attempt, or None where it was not made in time."""
    if not service.started:
        # No loop runs in this process: the courier is driven by hand, past what was due before.
        courier = service.couriers[receiver.settings.name]
        for _ in range(_QUEUE_AHEAD):
            if not courier.run_once(limit=1) or _attempt(service, row_id) is not None:
                break
        return _attempt(service, row_id)
    service.wake_couriers()
    until = time.monotonic() + receiver.settings.timeout_seconds + PATIENCE_SECONDS
    pause = threading.Event()
    while (attempt := _attempt(service, row_id)) is None and time.monotonic() < until:
        pause.wait(_POLL_SECONDS)
    return attempt


def _attempt(service: Service, row_id: str) -> Attempt | None:
    with service.database.read() as conn:
        return next(iter(outbox.list_attempts(conn, row_id)), None)


def _finish(service: Service, receiver: Receiver, row_id: str, attempt: Attempt | None) -> Exchange:
    """Nobody waits for a second try of a test, so there is none."""
    now, name = service.clock.now(), receiver.settings.name

    def write(conn: Connection) -> tuple[NotificationRow, str]:
        outbox.drop(conn, row_id, at=now, reason="a test is tried once", attempted_too=True)
        state = receivers.get(conn, name)
        held = state.hold_until
        why = (
            "" if held is None else f"on hold until {held:%H:%M:%S} UTC: {state.reason or 'it asked for it'}"
        )
        return outbox.get(conn, row_id), why

    row, reason = service.database.write(write).result()
    request_line, headers, body = _shown(receiver, row, now)
    waiting = f"not sent in time; {reason}" if reason else "not sent in time"
    return Exchange(
        receiver=name,
        kind=receiver.kind,
        destination=receiver.settings.destination,
        message_id=row_id,
        request_line=request_line,
        headers=headers,
        content_type=row.content_type,
        body=body,
        attempted=attempt is not None,
        delivered=row.status == "sent",
        http_status=None if attempt is None else attempt.http_status,
        detail=waiting if attempt is None else attempt.detail,
        duration_ms=0 if attempt is None else attempt.duration_ms,
    )


def _shown(
    receiver: Receiver, row: NotificationRow, now: datetime
) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """Request line, headers and body of an attempt, as they may be shown."""
    rendered = Rendered(body=row.body, content_type=row.content_type, headers=tuple(row.headers.items()))
    request = receiver.request(rendered, message_id=row.id, now=now)
    body = request.body
    for secret in receiver.settings.secrets:
        body = body.replace(secret.reveal().encode(), b"***")
    open_headers = {"content-type", "webhook-id", *(name.lower() for name in row.headers)}
    headers = tuple(
        (name, value if name.lower() in open_headers else "***") for name, value in request.headers.items()
    )
    return f"POST {request.destination}/***", headers, body
