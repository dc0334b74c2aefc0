"""Slack incoming webhook: one message of blocks, inside every limit Slack documents and one it does not.

Sources: Slack's Block Kit reference and its page on incoming webhooks. The whole-message limit is undocumented:
messages fail near 13 200 characters (slackapi/bolt-js#2509), so 12 000 are used.
"""

import json
from dataclasses import replace
from datetime import datetime

from alerts.message import (
    AlertDetail,
    IncidentMessage,
    Json,
    MessageStatus,
    json_bytes,
    largest,
    plain_text,
    when,
)
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request
from alerts.retry import classify
from alerts.text import clean, joined
from alerts.wording import footer, headline, remarks, standing

MESSAGE_LIMIT = 12_000
HEADER_LIMIT = 150
SECTION_LIMIT = 3000
_SHOWN_ALERTS = 10
_SUMMARY_CUT = 450
_EVIDENCE_CUT = 300
_REMARK_CUT = 300
_STANDING_CUT = 500
_FOOTER_CUT = 400
_COMMAND_CUT = 300
_LINKS_CUT = 1500
_FALLBACK_CUT = 1500

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "ˋ"}

# Plain-text answers after which no message to this hook can ever arrive.
_DEAD_HOOK = frozenset(
    {
        "invalid_token",
        "no_service",
        "no_service_id",
        "no_active_hooks",
        "no_team",
        "team_disabled",
        "channel_not_found",
        "channel_is_archived",
        "action_prohibited",
        "posting_to_general_channel_denied",
    }
)


class SlackReceiver:
    """A Slack channel behind an incoming webhook."""

    kind = "slack"
    spacing_seconds = 1.0  # Slack: about one message a second per channel

    def __init__(self, settings: ReceiverSettings) -> None:
        settings.refuse_secrets("Slack's")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """The largest message within the limits: columns are left out from the bottom, and counted."""
        payload = largest(
            message,
            _SHOWN_ALERTS,
            lambda shown: _payload(message, shown),
            lambda made: _length(made) <= MESSAGE_LIMIT,
        )
        return Rendered(body=json_bytes(payload))

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes to the hook; Slack knows no idempotency key, so the id stays here."""
        del message_id, now
        return self.settings.post(rendered)

    def classify(self, reply: Reply) -> Outcome:
        """As any HTTP reply, but success says `ok`, and some refusals mean that the hook is dead."""
        outcome = classify(reply)
        said = reply.body[:1000].decode("utf-8", "replace").strip()
        if outcome.kind is OutcomeKind.DONE:
            if said == "ok" or _field(said, "ok") is True:
                return outcome
            # Something between us and Slack answered: the message did not arrive.
            detail = f"{outcome.detail}, but the reply is not Slack's ok"
            return replace(outcome, kind=OutcomeKind.LATER, detail=detail)
        if reply.status is None or reply.failure is not None:
            return outcome
        if outcome.hold_receiver and outcome.retry_after is None:
            seconds = _field(said, "retry_after")
            return replace(outcome, retry_after=str(seconds) if isinstance(seconds, int) else None)
        word = said if said in _DEAD_HOOK else ""
        if reply.status in (404, 410) or (400 <= reply.status < 500 and word):
            detail = f"HTTP {reply.status} {word}".rstrip() + ": the webhook is dead, make a new one"
            return Outcome(kind=OutcomeKind.BROKEN, detail=detail, status=reply.status)
        return outcome


def escape(text: str, limit: int) -> str:
    """Make foreign text inert in mrkdwn and at most `limit` characters long once escaped.

    `&`, `<` and `>` become entities, which also kills `<!channel>` and `<url|links>`; back-ticks become a
    look-alike, so that no code span is opened or left. An entity is never cut in half.
    """
    return joined([_ENTITIES.get(character, character) for character in clean(text)], limit)


def _payload(message: IncidentMessage, shown: int) -> dict[str, Json]:
    """What moved comes first and at full size; what supports it is small, in context blocks."""
    title: Json = {"type": "plain_text", "text": escape(headline(message), HEADER_LIMIT), "emoji": True}
    blocks: list[Json] = [{"type": "header", "text": title}]
    if standing(message):
        blocks.append(_section(f"*{escape(standing(message), _STANDING_CUT)}*"))
    blocks.append(_context(escape(when(message), _STANDING_CUT)))
    for detail in message.alerts[:shown]:
        blocks += _column(detail)
    if len(message.alerts) > shown:
        blocks.append(_context(f"+{len(message.alerts) - shown} more"))
    said = "\n".join(f"*{name}:* {escape(text, _REMARK_CUT)}" for name, text in remarks(message))
    blocks += [_section(part) for part in (said, _links(message)) if part]
    if commands := _commands(message):
        blocks.append(_context(commands))
    blocks.append(_context(escape(footer(message), _FOOTER_CUT)))
    return {"text": _fallback(message), "blocks": blocks}


def _fallback(message: IncidentMessage) -> str:
    """What a notification shows: the first lines of the plain text, as many as fit whole."""
    lines: list[str] = []
    for line in plain_text(replace(message, links=(), commands=()), 3).split("\n"):
        lines.append(escape(line, 300))
        if sum(len(kept) + 1 for kept in lines) > _FALLBACK_CUT:
            return "\n".join(lines[:-1])
    return "\n".join(lines)


def _column(detail: AlertDetail) -> list[Json]:
    mark = "✅ " if detail.status is MessageStatus.RESOLVED else ""
    said = f"{mark}*`{escape(detail.name, 120)}`* {escape(detail.summary, _SUMMARY_CUT)}"
    if detail.told_evidence is None:
        return [_section(said)]
    return [_section(said), _context(escape(detail.told_evidence.sentence(), _EVIDENCE_CUT))]


def _commands(message: IncidentMessage) -> str:
    """Each in a code span; one whose text an escape would change is left out, as it would not run."""
    whole = [c for c in message.commands if len(c) <= _COMMAND_CUT and clean(c) == c and "`" not in c]
    return "\n".join(f"`{escape(command, SECTION_LIMIT)}`" for command in whole)


def _links(message: IncidentMessage) -> str:
    """The links that fit whole; `|`, `<`, `>` and quotes in a URL are percent-encoded, or they would end it."""
    shown: list[str] = []
    for link in message.links:
        url = clean(link.url).replace("|", "%7C").replace("<", "%3C").replace(">", "%3E").replace(" ", "%20")
        text = f"<{url.replace('&', '&amp;')}|{escape(link.title, 60).replace('|', '/')}>"
        if sum(map(len, shown)) + len(text) <= _LINKS_CUT:
            shown.append(text)
    return " · ".join(shown)


def _section(text: str) -> Json:
    return {"type": "section", "text": _mrkdwn(text)}


def _context(text: str) -> Json:
    return {"type": "context", "elements": [_mrkdwn(text)]}


def _mrkdwn(text: str) -> Json:
    # verbatim: a column named http://… stays a name.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _length(value: Json) -> int:
    """Characters of all the texts in a payload."""
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    if isinstance(value, list):
        return sum(map(_length, value))
    return len(value) if isinstance(value, str) else 0


def _field(said: str, name: str) -> object:
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return value.get(name) if isinstance(value, dict) else None
