"""Microsoft Teams: an Adaptive Card to a workflow ("When a Teams webhook request is received").

Sources: Microsoft's pages on Workflows webhooks (body, 28 KB, 4 requests a second, 202) and the Adaptive Cards
schema 1.2 to 1.4. A workflow answers 202 before it has posted anything: that a card was refused shows only in its
run history.
"""

from datetime import datetime

from alerts.identity import Severity
from alerts.message import (
    AlertDetail,
    IncidentMessage,
    Json,
    MessageStatus,
    json_bytes,
    largest,
    when,
)
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request
from alerts.retry import classify
from alerts.text import clean, cut
from alerts.wording import footer, headline, name_of, remarks, standing

BODY_LIMIT = 28_000
_SHOWN_ALERTS = 10
_SUMMARY_CUT = 500
_TITLE_CUT = 300
_REMARK_CUT = 600
_SHOWN_LINKS = 6  # a card shows six actions, the rest in an overflow menu
_URL_CUT = 2000
_COLOURS = {
    Severity.CRITICAL: "Attention",
    Severity.ERROR: "Attention",
    Severity.WARNING: "Warning",
    Severity.INFO: "Accent",
}
# What TextBlock reads as markdown. Teams has no escape for all of it, so look-alikes take its place.
_LOOK_ALIKES = str.maketrans(
    {"*": "∗", "_": "＿", "[": "［", "]": "］", "`": "ˋ", "<": "‹", ">": "›", "#": "＃"}
)


class TeamsReceiver:
    """A Teams channel or chat behind a workflow's URL."""

    kind = "teams"
    spacing_seconds = 0.25  # Microsoft: four requests a second

    def __init__(self, settings: ReceiverSettings) -> None:
        settings.refuse_secrets("a workflow")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """The largest card within the limit: columns are left out from the bottom, and counted."""
        body = largest(
            message,
            _SHOWN_ALERTS,
            lambda shown: json_bytes(_envelope(message, shown)),
            lambda made: len(made) <= BODY_LIMIT,
        )
        return Rendered(body=body)

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes; a workflow knows no idempotency key, so the id stays here."""
        del message_id, now
        return self.settings.post(rendered)

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply: 202 is taken, 429 is too fast; a 404 means that the workflow was deleted."""
        if reply.status == 404 and reply.failure is None:
            detail = "HTTP 404: the workflow was deleted, make a new one"
            return Outcome(kind=OutcomeKind.BROKEN, detail=detail, status=404)
        return classify(reply)


def _envelope(message: IncidentMessage, shown: int) -> dict[str, Json]:
    body: list[Json] = [
        _text(headline(message), _TITLE_CUT, weight="Bolder", size="Medium", color=_colour(message)),
        _text(standing(message) or "driftd", _TITLE_CUT, weight="Bolder", spacing="None"),
        _text(when(message), _TITLE_CUT, isSubtle=True, spacing="None", size="Small"),
    ]
    for detail in message.alerts[:shown]:
        body += _alert(detail)
    if len(message.alerts) > shown:
        body.append(_text(f"+{len(message.alerts) - shown} more", _TITLE_CUT, isSubtle=True))
    body += [_text(f"{name}: {said}", _REMARK_CUT) for name, said in remarks(message)]
    body += [_text(command, _REMARK_CUT, fontType="Monospace", size="Small") for command in message.commands]
    body.append(_text(footer(message), _REMARK_CUT, isSubtle=True, size="Small"))
    card: dict[str, Json] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "msteams": {"width": "Full"},
        "body": body,
        "actions": [
            {"type": "Action.OpenUrl", "title": cut(clean(link.title), 40), "url": link.url}
            for link in message.links[:_SHOWN_LINKS]
            if len(link.url) <= _URL_CUT
        ],
    }
    content: Json = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [content]}


def _alert(detail: AlertDetail) -> list[Json]:
    lines = [_text(f"{name_of(detail)}: {detail.summary}", _SUMMARY_CUT, separator=True)]
    if detail.told_evidence is not None:
        lines.append(
            _text(detail.told_evidence.sentence(), _SUMMARY_CUT, isSubtle=True, spacing="None", size="Small")
        )
    return lines


def _colour(message: IncidentMessage) -> str:
    return "Good" if message.status is MessageStatus.RESOLVED else _COLOURS[message.severity]


def _text(text: str, limit: int, **style: Json) -> Json:
    return {"type": "TextBlock", "text": cut(_plain(text), limit), "wrap": True, **style}


def _plain(text: str) -> str:
    return clean(text).translate(_LOOK_ALIKES)
