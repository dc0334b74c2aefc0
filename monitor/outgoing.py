"""A message on its way into the outbox: rendered for one receiver, under an id of its own."""

from collections.abc import Sequence
from datetime import datetime

from alerts.message import IncidentMessage
from alerts.ports import Receiver
from monitor.ids import message_id
from storage.outbox import NewNotification


def notification(
    receiver: Receiver,
    message: IncidentMessage,
    *,
    now: datetime,
    due: datetime | None = None,
    group: str | None = None,
    kind: str | None = None,
    alert_ids: Sequence[int] = (),
) -> NewNotification:
    """What is stored of a message that came up `now`: due at once, in its own group, and of the kind of its status, unless
    said otherwise.
    """
    rendered = receiver.render(message)
    return NewNotification(
        id=message_id(now),
        receiver=receiver.settings.name,
        group_key=message.group_key if group is None else group,
        kind=message.status.value if kind is None else kind,
        severity=message.severity.value,
        body=rendered.body,
        content_type=rendered.content_type,
        headers=dict(rendered.headers),
        alert_ids=alert_ids,
        next_attempt_at=now if due is None else due,
        created_at=now,
    )
