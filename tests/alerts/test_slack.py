"""Slack's blocks, judged by Slack's own SDK and by the limits it does not check."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from slack_sdk.models.blocks import Block

from alerts.errors import AlertError
from alerts.message import MessageStatus
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.slack import SlackReceiver, escape
from tests.alerts.samples import NASTY, NOW, SLACK_URL, detail, message, settings


def receiver() -> SlackReceiver:
    return SlackReceiver(settings("slack"))


def sent(**changes: Any) -> dict[str, Any]:
    """Render, check everything Slack demands, return the payload."""
    payload = json.loads(receiver().render(message(**changes)).body)
    assert isinstance(payload, dict)
    assert 0 < len(payload["text"]) <= 3000
    assert 1 <= len(payload["blocks"]) <= 50
    for block in payload["blocks"]:
        parsed = Block.parse(block)
        assert parsed is not None
        assert parsed.to_dict() == block  # to_dict validates the lengths that the SDK knows
        assert len(block.get("fields", [])) <= 10
        assert all(len(f["text"]) <= 2000 for f in block.get("fields", []))
    assert sum(map(len, texts(payload))) <= 12_000
    return payload


def texts(value: object) -> Iterator[str]:
    """Every text in a payload."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def test_a_message_says_everything() -> None:
    said = "\n".join(texts(sent()))
    for part in (
        "🔴 CRITICAL: credit-risk drifted",
        "3 of 21 columns drifted",
        "`temp`",
        "median 39.9 → 61.2",
        "ks 0.412 over 1h (limit 0.12)",
        "*What to do:* Compare",
        "*Changed nearby:* version 7",
        "<https://driftd.example/incidents/1?a=1&amp;b=2|Page>",
        "train-2026-04.parquet",
    ):
        assert part in said


def test_resolved_and_test_look_different() -> None:
    assert sent(status=MessageStatus.RESOLVED)["blocks"][0]["text"]["text"].startswith("✅ RESOLVED")
    assert sent(status=MessageStatus.TEST, alerts=())["blocks"][0]["text"]["text"].startswith("🧪 TEST")


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_within_the_limits_and_inert(name: str) -> None:
    payload = sent(
        title=f"t{name}",
        model=name,
        version=name,
        segment=name,
        baseline=name,
        what_to_do=name,
        changed_nearby=(name,) * 9,
        notes=(name,) * 9,
        alerts=tuple(detail(name, summary=name) for _ in range(30)),
    )
    for text in texts(payload):
        assert "<!" not in text
        assert "```" not in text
        assert "<https://evil" not in text
        assert "\r" not in text


def test_five_thousand_columns_are_one_message_that_counts_the_rest() -> None:
    payload = sent(alerts=tuple(detail(f"c{i}", float(i)) for i in range(5000)))
    assert any("+4990 more" in text for text in texts(payload))
    assert any("`c4999`" in text for text in texts(payload))


def test_long_summaries_leave_out_whole_columns() -> None:
    payload = sent(
        alerts=tuple(detail(f"c{i}" + "n" * 200, summary="s" * 5000) for i in range(10)),
        what_to_do="w" * 5000,
        notes=("n" * 500,) * 3,
        changed_nearby=("c" * 500,) * 3,
        title="t" * 500,
        commands=tuple("x" * 290 for _ in range(3)),
    )
    assert any(text.startswith("+") and text.endswith(" more") for text in texts(payload))


def test_escape_never_cuts_an_entity() -> None:
    assert escape("a<b>&`c`", 100) == "a&lt;b&gt;&amp;ˋcˋ"
    for limit in range(1, 30):
        text = escape("&" * 20, limit)
        assert len(text) <= limit
        assert text.replace("&amp;", "").strip("…") == ""


def test_what_moved_is_above_everything_else() -> None:
    blocks = sent()["blocks"]
    assert [block["type"] for block in blocks] == [
        "header", "section", "context", *["section", "context"] * 3, "section", "section", "context", "context"
    ]  # fmt: skip
    assert (
        blocks[1]["text"]["text"] == "*3 of 21 columns drifted · credit-risk, version 7, segment region=eu*"
    )
    assert blocks[3]["text"]["text"] == "*`temp`* median 39.9 → 61.2"


def test_a_command_that_slack_would_change_is_left_to_the_page() -> None:
    commands = (
        "driftd alerts ack 1",
        "driftd silence add --model 'a`b'",
        "driftd silence add --model 'a\u202eb'",
    )
    said = list(texts(sent(commands=commands)))
    assert "`driftd alerts ack 1`" in said
    assert not [text for text in said if "silence" in text]


def test_a_link_cannot_leave_its_place() -> None:
    from alerts.message import Link

    payload = sent(links=(Link(title="a|b>c", url="https://x.example/?q=<!channel>|y z"),))
    assert "<https://x.example/?q=%3C!channel%3E%7Cy%20z|a/b&gt;c>" in list(texts(payload))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"ok", OutcomeKind.DONE),
        (200, b"ok\n", OutcomeKind.DONE),
        (200, b'{"ok":true}', OutcomeKind.DONE),
        (200, b'{"ok":false,"error":"x"}', OutcomeKind.LATER),
        (200, b"error", OutcomeKind.LATER),
        (200, b"<html>sign in</html>", OutcomeKind.LATER),
        (200, b"[" * 60000, OutcomeKind.LATER),
        (400, b"invalid_payload", OutcomeKind.POISON),
        (400, b"invalid_token", OutcomeKind.BROKEN),
        (400, b"user_not_found", OutcomeKind.POISON),
        (403, b"invalid_token", OutcomeKind.BROKEN),
        (403, b"action_prohibited", OutcomeKind.BROKEN),
        (404, b"channel_not_found", OutcomeKind.BROKEN),
        (404, b"no_service", OutcomeKind.BROKEN),
        (404, b"<html>", OutcomeKind.BROKEN),
        (410, b"channel_is_archived", OutcomeKind.BROKEN),
        (429, b"", OutcomeKind.LATER),
        (500, b"rollup_error", OutcomeKind.LATER),
        (302, b"", OutcomeKind.LATER),
    ],
)
def test_slacks_answers(status: int, body: bytes, kind: OutcomeKind) -> None:
    assert receiver().classify(Reply(status=status, body=body)).kind is kind


def test_slacks_429_may_carry_its_wait_in_the_body() -> None:
    body = b'{"retry_after":7,"ok":false,"error":"rate_limited"}'
    assert receiver().classify(Reply(status=429, body=body)).retry_after == "7"
    both = Reply(status=429, body=body, headers={"retry-after": "30"})
    assert receiver().classify(both).retry_after == "30"


def test_the_url_is_nowhere_but_in_the_request() -> None:
    slack = receiver()
    rendered = slack.render(message())
    request = slack.request(rendered, message_id="msg_1", now=NOW)
    assert (request.url, request.body) == (SLACK_URL, rendered.body)
    for shown in (repr(slack.settings), repr(request), repr(rendered), slack.settings.destination):
        assert "sEcReT" not in shown
    assert request.destination == "https://hooks.slack.com"


def test_slack_takes_no_signing_secret() -> None:
    with pytest.raises(AlertError, match="secrets"):
        SlackReceiver(settings("slack", secrets=(Secret("x"),)))
