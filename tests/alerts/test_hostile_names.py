"""Names that strangers chose, on the wire: whatever a model or column is called, the request stays the one we meant."""

import json
from typing import Any

import pytest

from alerts.ports import Secret
from alerts.receivers.registry import RECEIVERS, build
from alerts.transport import HttpTransport
from tests.alerts.samples import NASTY, NOW, detail, message, settings
from tests.alerts.wire import OK, server

KINDS = sorted(RECEIVERS)
# What a chat would take for a command, or a parser for the end of the line.
MARKS = ("<!channel>", "<!here>", "@everyone", "\r", "\x1b", "\u202e", "\u2066")


def texts(value: Any) -> list[str]:
    """Every text a person is shown; keys are ours."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def sent(kind: str, name: str) -> tuple[list[str], Any]:
    """Header lines and decoded body of one request about things called `name`."""
    with server(OK) as peer:
        receiver = build(settings(kind, url=Secret(f"http://127.0.0.1:{peer.port}/hook"), allow_private=True))
        hostile = message(
            title=f"drift of {name}",
            model=name,
            version=name,
            segment=name,
            baseline=name,
            what_to_do=name,
            notes=(name,),
            alerts=(detail(name, summary=name),),
        )
        wanted = receiver.request(receiver.render(hostile), message_id="msg_1", now=NOW)
        assert HttpTransport().send(wanted).failure is None
    [raw] = peer.requests
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.decode("ascii").split("\r\n"), json.loads(body.decode("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [*NASTY, "@everyone", "<!here>", "שלום \u2066x\u2069", "a\nb\r\n\r\nGET / HTTP/1.1"]
)
def test_no_name_becomes_a_header(kind: str, name: str) -> None:
    lines, _ = sent(kind, name)
    assert lines[0] == "POST /hook HTTP/1.1"
    plain, _ = sent(kind, "temp")
    assert [line.partition(":")[0] for line in lines] == [line.partition(":")[0] for line in plain]


@pytest.mark.parametrize("name", [*NASTY, "<!here>", "שלום \u2066x\u2069"])
def test_no_name_mentions_anybody_or_turns_the_text_around(name: str) -> None:
    _, body = sent("slack", name)
    assert not [text for text in texts(body) if any(mark in text for mark in MARKS)]
