"""Apprise: the long tail of services, through an Apprise API server that speaks to them.

Source: the reference of Apprise API (`POST /notify/{KEY}`): `title`, `body`, `type` (info, success, warning, failure) and
`format`; 200 when everything was sent, 424 when a service did not take it, 204 when nothing is configured under the key.
The library itself is not used: it would send from inside driftd, past its transport (docs/receivers.md).
"""

from dataclasses import replace
from datetime import datetime

from alerts.identity import Severity
from alerts.message import IncidentMessage, MessageStatus, json_bytes, plain_text
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request
from alerts.retry import classify
from alerts.text import clean, cut
from alerts.wording import headline

TITLE_LIMIT = 250
_TYPES = {
    Severity.CRITICAL: "failure",
    Severity.ERROR: "failure",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}


class AppriseReceiver:
    """Whatever an Apprise API server has under one key."""

    kind = "apprise"
    spacing_seconds = 0.0

    def __init__(self, settings: ReceiverSettings) -> None:
        settings.refuse_secrets("an Apprise API")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """The incident as plain text of one screen; the server cuts it where a service takes less."""
        resolved = message.status is MessageStatus.RESOLVED
        return Rendered(
            body=json_bytes(
                {
                    "title": cut(clean(headline(message)), TITLE_LIMIT),
                    "body": plain_text(message),
                    "type": "success" if resolved else _TYPES[message.severity],
                    "format": "text",
                }
            )
        )

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes; the server knows no idempotency key, so the id stays here."""
        del message_id, now
        return self.settings.post(rendered)

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply, but a 204 says that nobody is behind the key, and a 424 that not all were reached.

        It is then sent to all again: a service that hears it twice is better than one that never does.
        """
        outcome = classify(reply)
        if reply.failure is not None:
            return outcome
        if reply.status == 204:
            detail = "HTTP 204: nothing is configured under this key"
            return Outcome(kind=OutcomeKind.BROKEN, detail=detail, status=204)
        if reply.status == 424:
            detail = "HTTP 424: a service behind it did not take the message; it is sent to all again"
            return replace(outcome, kind=OutcomeKind.LATER, detail=detail)
        return outcome
