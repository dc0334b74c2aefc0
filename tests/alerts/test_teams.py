"""Adaptive Cards for Teams, against what Microsoft documents of them."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from alerts.errors import AlertError
from alerts.message import Link, MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.teams import TeamsReceiver
from tests.alerts.samples import NASTY, detail, message, settings

# Microsoft's page on Workflows webhooks for the envelope; the Adaptive Cards 1.2 schema for the elements used.
TEXT_BLOCK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "text"],
    "properties": {
        "type": {"const": "TextBlock"},
        "text": {"type": "string", "minLength": 1},
        "wrap": {"type": "boolean"},
        "weight": {"enum": ["Lighter", "Default", "Bolder"]},
        "size": {"enum": ["Default", "Small", "Medium", "Large", "ExtraLarge"]},
        "color": {"enum": ["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]},
        "fontType": {"enum": ["Default", "Monospace"]},
        "isSubtle": {"type": "boolean"},
        "separator": {"type": "boolean"},
        "spacing": {"enum": ["None", "Small", "Default", "Medium", "Large", "ExtraLarge", "Padding"]},
    },
}
OPEN_URL = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "title", "url"],
    "properties": {
        "type": {"const": "Action.OpenUrl"},
        "title": {"type": "string", "minLength": 1},
        "url": {"type": "string", "pattern": "^https?://"},
    },
}
CARD = {
    "type": "object",
    "required": ["type", "version", "body"],
    "properties": {
        "type": {"const": "AdaptiveCard"},
        "version": {"enum": ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]},
        "body": {"type": "array", "items": TEXT_BLOCK},
        "actions": {"type": "array", "items": OPEN_URL, "maxItems": 6},
    },
}
ENVELOPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "attachments"],
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "required": ["contentType", "content"],
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "content": CARD,
                },
            },
        },
    },
}


def sent(**changes: Any) -> dict[str, Any]:
    body = TeamsReceiver(settings("teams")).render(message(**changes)).body
    assert len(body) <= 28 * 1024
    found = json.loads(body)
    jsonschema.validate(found, ENVELOPE)
    card = found["attachments"][0]["content"]
    assert isinstance(card, dict)
    return card


def said(card: dict[str, Any]) -> list[str]:
    return [block["text"] for block in card["body"]]


def test_a_card_says_what_moved_first() -> None:
    card = sent()
    assert said(card)[:4] == [
        "🔴 CRITICAL: credit-risk drifted: temp and 2 more columns",
        "3 of 21 columns drifted · credit-risk, version 7, segment region=eu",
        "moving since about 2026-05-01 09:18 UTC, firing since 2026-05-01 09:40 UTC",
        "temp: median 39.9 → 61.2",
    ]
    assert [action["title"] for action in card["actions"]] == ["Page", "Runbook"]
    assert card["body"][0]["color"] == "Attention"
    assert sent(status=MessageStatus.RESOLVED)["body"][0]["color"] == "Good"


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_are_no_markdown_and_no_mention(name: str) -> None:
    columns = tuple(detail(name, summary=name) for _ in range(30))
    for text in said(sent(title=f"t{name}", model=name, what_to_do=name, notes=(name,) * 3, alerts=columns)):
        assert not set("<>[]*`#") & set(text)


def test_markdown_links_and_emphasis_are_inert() -> None:
    assert "［click］(https://evil.example) ∗∗bold∗∗ ＿it＿" in " ".join(
        said(sent(alerts=(detail(summary="[click](https://evil.example) **bold** _it_"),)))
    )


def test_many_columns_are_counted() -> None:
    card = sent(alerts=tuple(detail(f"c{i}", float(i), summary="ü" * 900) for i in range(500)))
    assert any(text.startswith("+") and text.endswith(" more") for text in said(card))


def test_a_card_shows_six_links() -> None:
    links = tuple(Link(title=f"l{i}", url=f"https://x.example/{i}") for i in range(9))
    assert len(sent(links=links)["actions"]) == 6


def test_a_workflow_accepts_or_is_gone() -> None:
    receiver = TeamsReceiver(settings("teams"))
    assert receiver.classify(Reply(status=202)).kind is OutcomeKind.DONE
    assert receiver.classify(Reply(status=404)).kind is OutcomeKind.BROKEN
    assert receiver.classify(Reply(status=400)).kind is OutcomeKind.POISON


def test_teams_takes_no_signing_secret() -> None:
    with pytest.raises(AlertError, match="secrets"):
        TeamsReceiver(settings("teams", secrets=(Secret("x"),)))
