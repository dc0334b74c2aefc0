"""Somebody is on it: an acknowledged incident is not repeated."""

from monitor.app import Service
from monitor.operations.acts import perform, speak, text
from storage import alerts
from storage.alerts import AckRow
from storage.engine import Connection


def acknowledge(service: Service, alert_id: int, *, author: str, comment: str = "", actor: str) -> AckRow:
    """Record that `author` is on it; `actor` is who the request was made as. NotKnown, Invalid."""
    author, comment = text("author", author, required=True), text("comment", comment)
    now = service.clock.now()

    def write(conn: Connection) -> AckRow:
        alerts.add_ack(conn, alert_id, at=now, author=author, comment=comment)
        speak(service, conn)
        service.notifier.acknowledge(conn, alerts.get(conn, alert_id).group_key, now)
        return alerts.list_acks(conn, alert_id)[-1]

    return perform(
        service,
        write,
        actor=actor,
        action="alert.ack",
        target=lambda _: f"alert/{alert_id}",
        detail={"author": author, "comment": comment},
    )
