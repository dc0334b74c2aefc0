"""The receivers there are. A new one is a file beside this and a line in the table."""

from collections.abc import Callable
from types import MappingProxyType

from alerts.errors import AlertError
from alerts.ports import Receiver, ReceiverSettings
from alerts.receivers.alertmanager import AlertmanagerReceiver
from alerts.receivers.apprise import AppriseReceiver
from alerts.receivers.discord import DiscordReceiver
from alerts.receivers.pagerduty import PagerDutyReceiver
from alerts.receivers.slack import SlackReceiver
from alerts.receivers.teams import TeamsReceiver
from alerts.receivers.webhook import WebhookReceiver

RECEIVERS: MappingProxyType[str, Callable[[ReceiverSettings], Receiver]] = MappingProxyType(
    {
        "alertmanager": AlertmanagerReceiver,
        "apprise": AppriseReceiver,
        "discord": DiscordReceiver,
        "pagerduty": PagerDutyReceiver,
        "slack": SlackReceiver,
        "teams": TeamsReceiver,
        "webhook": WebhookReceiver,
    }
)

ACKNOWLEDGING = frozenset({PagerDutyReceiver.kind})
"""Those that are told when somebody has taken an incident, because they call people until then."""


def build(settings: ReceiverSettings) -> Receiver:
    """The receiver that `settings` describe; AlertError for an unknown kind or settings it cannot work with."""
    if settings.kind not in RECEIVERS:
        raise AlertError(f"kind: {settings.kind!r} is none of {', '.join(sorted(RECEIVERS))}")
    return RECEIVERS[settings.kind](settings)
