"""Slack incoming webhook: one message of blocks, inside every limit Slack documents and one it does not.

Sources: Slack's Block Kit reference and its page on incoming webhooks. The whole-message limit is undocumented:
messages fail near 13 200 characters (slackapi/bolt-js#2509), so 12 000 are used.
"""

import json
from dataclasses import replace
from datetime import datetime

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import (
    AlertDetail,
    IncidentMessage,
    Json,
    MessageStatus,
    json_bytes,
    plain_text,
)
from alerts.ports import Outcome, OutcomeKind, ReceiverSettings, Rendered, Reply, Request
from alerts.retry import classify
from alerts.text import ELLIPSIS, clean
from alerts.times import for_readers

MESSAGE_LIMIT = 12_000
HEADER_LIMIT = 150
SECTION_LIMIT = 3000
FIELD_LIMIT = 2000
_SHOWN_ALERTS = 10
_ALERT_CUT = 900
_FIELD_CUT = 200
_ADVICE_CUT = 1000
_LINKS_CUT = 1500
_FALLBACK_CUT = 1500

_MARKS = {Severity.CRITICAL: "🔴", Severity.ERROR: "🟠", Severity.WARNING: "🟡", Severity.INFO: "🔵"}
_STATUS_MARKS = {MessageStatus.RESOLVED: "✅", MessageStatus.TEST: "🧪"}
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

    def __init__(self, settings: ReceiverSettings) -> None:
        if settings.secrets:
            raise AlertError(f"secrets: receiver {settings.name!r} is Slack's, whose only secret is its url")
        self.settings = settings

    def render(self, message: IncidentMessage) -> Rendered:
        """The largest message within the limits: columns are left out from the bottom, and counted."""
        for shown in range(min(len(message.alerts), _SHOWN_ALERTS), -1, -1):
            payload = _payload(message, shown)
            if _length(payload) <= MESSAGE_LIMIT:
                break
        return Rendered(body=json_bytes(payload))

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """The stored bytes to the hook; Slack knows no idempotency key, so the id stays here."""
        del message_id, now
        settings = self.settings
        headers = {"Content-Type": rendered.content_type, **dict(rendered.headers)}
        return Request(
            url=settings.url.reveal(),
            body=rendered.body,
            headers={**headers, **{name: value.reveal() for name, value in settings.headers}},
            timeout_seconds=settings.timeout_seconds,
            allow_private=settings.allow_private,
            ca_file=settings.ca_file,
        )

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
    pieces = [_ENTITIES.get(character, character) for character in clean(text)]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    kept, length = [], 0
    for piece in pieces:
        if length + len(piece) > limit - len(ELLIPSIS):
            break
        kept.append(piece)
        length += len(piece)
    return "".join(kept) + ELLIPSIS


def _payload(message: IncidentMessage, shown: int) -> dict[str, Json]:
    blocks: list[Json] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": escape(_headline(message), HEADER_LIMIT), "emoji": True},
        },
        _section(escape(_subline(message), 600)),
        {"type": "section", "fields": _fields(message)},
    ]
    blocks += [_section(_alert_text(detail)) for detail in message.alerts[:shown]]
    if len(message.alerts) > shown:
        blocks.append(_context(f"+{len(message.alerts) - shown} more"))
    remarks = _remarks(message)
    if remarks:
        blocks.append(_section(remarks))
    links = _links(message)
    if links:
        blocks.append(_section(links))
    return {"text": _fallback(message), "blocks": blocks}


def _fallback(message: IncidentMessage) -> str:
    """What a notification shows: the first lines of the plain text, as many as fit whole."""
    lines: list[str] = []
    for line in plain_text(replace(message, links=()), 3).split("\n"):
        lines.append(escape(line, 300))
        if sum(len(kept) + 1 for kept in lines) > _FALLBACK_CUT:
            return "\n".join(lines[:-1])
    return "\n".join(lines)


def _headline(message: IncidentMessage) -> str:
    mark = _STATUS_MARKS.get(message.status, _MARKS[message.severity])
    word = message.severity if message.status is MessageStatus.FIRING else message.status
    return f"{mark} {word.value.upper()}: {message.title}"


def _subline(message: IncidentMessage) -> str:
    parts = [f"{message.status.value} since {for_readers(message.started_at)}"]
    if message.counts is not None:
        parts.append(message.counts.sentence())
    if message.reason:
        parts.append(message.reason)
    return " · ".join(parts)


def _fields(message: IncidentMessage) -> list[Json]:
    pairs = (
        ("Model", message.model),
        ("Version", message.version),
        ("Segment", message.segment),
        ("Severity", message.severity.value),
        ("Baseline", message.baseline),
        ("As of", for_readers(message.created_at)),
    )
    return [_mrkdwn(f"*{name}*\n{escape(value, _FIELD_CUT)}") for name, value in pairs if value.strip()]


def _alert_text(detail: AlertDetail) -> str:
    mark = "✅ " if detail.status is MessageStatus.RESOLVED else ""
    text = f"{mark}*`{escape(detail.name, 120)}`* {escape(detail.summary, _ALERT_CUT // 2)}"
    if detail.evidence is not None:
        text += f"\n{escape(detail.evidence.sentence(), _ALERT_CUT // 3)}"
    return text


def _remarks(message: IncidentMessage) -> str:
    lines = [f"*Changed nearby:* {escape(change, 300)}" for change in message.changed_nearby[:3]]
    lines += [f"*Note:* {escape(note, 300)}" for note in message.notes[:3]]
    if message.what_to_do:
        lines.append(f"*What to do:* {escape(message.what_to_do, _ADVICE_CUT)}")
    return "\n".join(lines)


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
