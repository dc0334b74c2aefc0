"""Discord's embeds, against the limits of its reference."""

import json
import re
from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.discord import DiscordReceiver, inert
from tests.alerts.samples import NASTY, detail, message, settings


def sent(**changes: Any) -> dict[str, Any]:
    """Render, check every limit of Discord's reference, return the embed."""
    body = json.loads(DiscordReceiver(settings("discord")).render(message(**changes)).body)
    assert body["allowed_mentions"] == {"parse": []}
    assert len(body["embeds"]) <= 10
    (embed,) = body["embeds"]
    fields = embed["fields"]
    assert len(fields) <= 25
    assert 0 < len(embed["title"]) <= 256
    assert len(embed["description"]) <= 4096
    assert len(embed["footer"]["text"]) <= 2048
    assert all(0 < len(f["name"]) <= 256 and 0 < len(f["value"]) <= 1024 for f in fields)
    counted = [embed["title"], embed["description"], embed["footer"]["text"]]
    counted += [part for f in fields for part in (f["name"], f["value"])]
    assert sum(map(len, counted)) <= 6000
    assert 0 <= embed["color"] <= 0xFFFFFF
    assert isinstance(embed, dict)
    return embed


def test_an_embed_says_what_moved_first() -> None:
    embed = sent()
    assert embed["title"] == "🔴 CRITICAL: credit-risk drifted: temp and 2 more columns"
    assert [field["name"] for field in embed["fields"]][:4] == ["temp", "zip", "age", "Changed nearby"]
    assert embed["fields"][0]["value"].startswith("median 39.9 → 61.2\nks 0.412 over 1h")
    assert "[Page](https://driftd.example/incidents/1?a=1&b=2)" in embed["description"]
    assert embed["url"] == "https://driftd.example/incidents/1?a=1&b=2"


def test_resolved_is_green() -> None:
    assert sent(status=MessageStatus.RESOLVED)["color"] != sent()["color"]


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_within_the_limits_and_inert(name: str) -> None:
    columns = tuple(detail(name, summary=name) for _ in range(30))
    embed = sent(
        title=f"t{name}", model=name, baseline=name, what_to_do=name, notes=(name,) * 9, alerts=columns
    )
    for field in embed["fields"][:5]:
        assert not re.search(r"(?<!\\)(```|<https|<!)", field["value"])


def test_inert_never_cuts_an_escape() -> None:
    assert inert("a*b_[c](d)", 100) == "a\\*b\\_\\[c\\]\\(d\\)"
    for limit in range(1, 30):
        text = inert("*" * 20, limit)
        assert len(text) <= limit
        assert text.removesuffix("…").replace("\\*", "") == ""


def test_many_columns_are_counted() -> None:
    embed = sent(alerts=tuple(detail(f"c{i}", float(i), summary="s" * 900) for i in range(500)))
    assert any(re.fullmatch(r"\+\d+ more", field["value"]) for field in embed["fields"])


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        (b'{"message": "You are being rate limited.", "retry_after": 0.652, "global": false}', "1"),
        (b'{"retry_after": 64}', "64"),
        (b'{"retry_after": -1}', None),
        (b'{"retry_after": true}', None),
        (b'{"retry_after": 1e999}', None),
        (b'{"retry_after": NaN}', None),
        (b"error code: 1015", None),
        (b"", None),
    ],
)
def test_a_429_may_say_its_wait_in_the_body(body: bytes, wait: str | None) -> None:
    receiver = DiscordReceiver(settings("discord"))
    assert receiver.classify(Reply(status=429, body=body)).retry_after == wait
    said = Reply(status=429, body=body, headers={"retry-after": "9"})
    assert receiver.classify(said).retry_after == "9"


def test_a_deleted_webhook_is_broken() -> None:
    receiver = DiscordReceiver(settings("discord"))
    gone = receiver.classify(Reply(status=404, body=b'{"message": "Unknown Webhook", "code": 10015}'))
    assert gone.kind is OutcomeKind.BROKEN
    assert receiver.classify(Reply(status=204)).kind is OutcomeKind.DONE


def test_discord_takes_no_signing_secret() -> None:
    with pytest.raises(AlertError, match="secrets"):
        DiscordReceiver(settings("discord", secrets=(Secret("x"),)))
