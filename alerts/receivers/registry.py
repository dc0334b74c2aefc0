"""The receivers there are. A new one is a file beside this and a line in the table."""

from collections.abc import Callable
from types import MappingProxyType

from alerts.errors import AlertError
from alerts.ports import Receiver, ReceiverSettings
from alerts.receivers.pagerduty import PagerDutyReceiver
from alerts.receivers.slack import SlackReceiver
from alerts.receivers.webhook import WebhookReceiver

RECEIVERS: MappingProxyType[str, Callable[[ReceiverSettings], Receiver]] = MappingProxyType(
    {
        "pagerduty": PagerDutyReceiver,
        "slack": SlackReceiver,
        "webhook": WebhookReceiver,
    }
)


def build(settings: ReceiverSettings) -> Receiver:
    """The receiver that `settings` describe; AlertError for an unknown kind or settings it cannot work with."""
    if settings.kind not in RECEIVERS:
        raise AlertError(f"kind: {settings.kind!r} is none of {', '.join(sorted(RECEIVERS))}")
    return RECEIVERS[settings.kind](settings)
