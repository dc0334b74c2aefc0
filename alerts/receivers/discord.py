"""Discord: one embed to a channel's webhook, inside every limit of an embed.

Source: Discord's reference of webhooks and embeds: title 256, description 4096, 25 fields of name 256 and value 1024,
footer 2048, 6000 characters over all of them; 429 carries `retry_after` in seconds, often a fraction. Mentions are
switched off as a whole by `allowed_mentions`.
"""

import json
import math
from dataclasses import replace
from datetime import datetime

from alerts.identity import Severity
from alerts.message import (
    PAGE,
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
from alerts.text import clean, cut, joined
from alerts.times import rfc3339
from alerts.wording import footer, headline, name_of, remarks, standing

EMBED_LIMIT = 6000
TITLE_LIMIT = 256
FIELD_NAME_LIMIT = 256
FIELDS_LIMIT = 25
_SHOWN_ALERTS = 10
_NAME_CUT = 100
_VALUE_CUT = 400
_COMMAND_CUT = 200
_URL_CUT = 500
_LINKS = 5
_COLOURS = {
    Severity.CRITICAL: 0xD92D20,
    Severity.ERROR: 0xF97316,
    Severity.WARNING: 0xEAB308,
    Severity.INFO: 0x3B82F6,
}
_RESOLVED_COLOUR = 0x16A34A
_MARKDOWN = frozenset("\\*_~`|>#[]()<-")


class DiscordReceiver:
    """A Discord channel behind its webhook."""

    kind = "discord"
    spacing_seconds = 0.5  # Discord: five requests per two seconds and webhook

    def __init__(self, settings: ReceiverSettings) -> None:
        settings.refuse_secrets("Discord's")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """The largest embed within the limits: columns are left out from the bottom, and counted."""
        embed = largest(
            message,
            _SHOWN_ALERTS,
            lambda shown: _embed(message, shown),
            lambda made: _length(made) <= EMBED_LIMIT,
        )
        body: dict[str, Json] = {"username": "driftd", "allowed_mentions": {"parse": []}, "embeds": [embed]}
        return Rendered(body=json_bytes(body))

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes; a webhook knows no idempotency key, so the id stays here."""
        del message_id, now
        return self.settings.post(rendered)

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply; a 404 means that the webhook was deleted, and a 429 may say its wait in the body."""
        outcome = classify(reply)
        if reply.failure is not None:
            return outcome
        if reply.status == 404:
            detail = "HTTP 404: the webhook was deleted, make a new one"
            return Outcome(kind=OutcomeKind.BROKEN, detail=detail, status=404)
        if outcome.hold_receiver and outcome.retry_after is None:
            return replace(outcome, retry_after=_retry_after(reply.body))
        return outcome


def _embed(message: IncidentMessage, shown: int) -> dict[str, Json]:
    fields = [_column(detail) for detail in message.alerts[:shown]]
    if len(message.alerts) > shown:
        fields.append(_field("…", f"+{len(message.alerts) - shown} more"))
    fields += [_field(name, inert(said, _VALUE_CUT)) for name, said in remarks(message)]
    commands = [c for c in message.commands if "`" not in c and len(c) <= _COMMAND_CUT]
    if commands:
        fields.append(_field("Commands", "\n".join(f"`{clean(command)}`" for command in commands)))
    resolved = message.status is MessageStatus.RESOLVED
    embed: dict[str, Json] = {
        "title": cut(clean(headline(message)), TITLE_LIMIT),
        "description": _description(message),
        "color": _RESOLVED_COLOUR if resolved else _COLOURS[message.severity],
        "timestamp": rfc3339(message.created_at),
        "fields": list(fields[:FIELDS_LIMIT]),
        "footer": {"text": cut(clean(footer(message)), _VALUE_CUT)},
    }
    page = message.link(PAGE)
    return {**embed, "url": page} if page and len(page) <= _URL_CUT else embed


def _description(message: IncidentMessage) -> str:
    links = [
        f"[{inert(link.title, 40)}]({_url(link.url)})" for link in message.links if len(link.url) <= _URL_CUT
    ]
    stands = f"**{inert(standing(message), 300)}**" if standing(message) else ""
    lines = [stands, inert(when(message), 300), " · ".join(links[:_LINKS])]
    return "\n".join(line for line in lines if line)


def _column(detail: AlertDetail) -> Json:
    said = inert(detail.summary, _VALUE_CUT)
    if detail.told_evidence is not None:
        said += f"\n{inert(detail.told_evidence.sentence(), _VALUE_CUT)}"
    return _field(cut(name_of(detail), _NAME_CUT), said)


def _field(name: str, value: str) -> Json:
    """A field; `value` is markdown already."""
    return {"name": inert(name, FIELD_NAME_LIMIT) or "–", "value": value or "–", "inline": False}


def inert(text: str, limit: int) -> str:
    """Foreign text without the power of markdown, at most `limit` characters; an escape is never cut in half."""
    return joined([f"\\{c}" if c in _MARKDOWN else c for c in clean(text)], limit)


def _url(url: str) -> str:
    return clean(url).replace("(", "%28").replace(")", "%29").replace(" ", "%20").replace("<", "%3C")


def _length(embed: dict[str, Json]) -> int:
    """What Discord counts towards 6000: title, description, footer, names and values of fields."""
    fields, foot = embed["fields"], embed["footer"]
    assert isinstance(fields, list)
    assert isinstance(foot, dict)
    texts = [embed["title"], embed["description"], foot["text"]]
    texts += [part for field in fields if isinstance(field, dict) for part in (field["name"], field["value"])]
    return sum(len(text) for text in texts if isinstance(text, str))


def _retry_after(body: bytes) -> str | None:
    """The wait that the body names, in whole seconds rounded up; None where it names none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    seconds = found.get("retry_after") if isinstance(found, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return None
    return str(math.ceil(seconds))
