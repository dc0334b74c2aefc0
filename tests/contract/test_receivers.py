"""What every receiver in the registry has to keep, present and future ones."""

import inspect
import json
from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.message import MessageStatus, trial_message
from alerts.ports import Failure, Outcome, OutcomeKind, Receiver, Reply, Secret
from alerts.receivers.registry import RECEIVERS, build
from tests.alerts.samples import NASTY, NOW, detail, message, settings

KINDS = sorted(RECEIVERS)
MESSAGES = {
    "firing": message(),
    "resolved": message(MessageStatus.RESOLVED),
    "acknowledged": message(MessageStatus.ACKNOWLEDGED),
    "trial": trial_message("team", NOW),
    "bare": message(
        alerts=(), model="", version="", segment="", counts=None, baseline="", links=(), what_to_do=""
    ),
    "huge": message(alerts=tuple(detail(f"c{i}", float(i)) for i in range(5000))),
    "mixed": message(alerts=(detail("a"), detail("b", status=MessageStatus.RESOLVED))),
}
HOSTILE = [
    message(
        title=f"t{name}",
        model=name,
        version=name,
        segment=name,
        baseline=name,
        changed_nearby=(name,),
        notes=(name,),
        what_to_do=name,
        reason=name,
        alerts=(detail(name, summary=name),),
    )
    for name in NASTY
]


@pytest.fixture(params=KINDS)
def receiver(request: pytest.FixtureRequest) -> Receiver:
    return build(settings(request.param, timeout_seconds=7.0, allow_private=True, ca_file="/ca.pem"))


def secrets_of(receiver: Receiver) -> list[str]:
    url = receiver.settings.url.reveal()
    path = url.split("/", 3)[3]
    found = [secret.reveal() for secret in receiver.settings.secrets]
    # PagerDuty's URL is the same for all, and Alertmanager's is an address.
    return found + ([path] if receiver.kind not in ("pagerduty", "alertmanager") else [])


def contains(sent: Any, stored: Any) -> bool:
    """Whether everything that was stored is in what is sent, at its place."""
    if isinstance(stored, dict):
        return isinstance(sent, dict) and all(contains(sent.get(key), value) for key, value in stored.items())
    if isinstance(stored, list):
        return isinstance(sent, list) and len(sent) == len(stored) and all(map(contains, sent, stored))
    return bool(sent == stored)


def test_an_unknown_kind_lists_the_table() -> None:
    with pytest.raises(AlertError, match=", ".join(KINDS)):
        build(
            settings("slack").__class__(name="a", kind="pigeon", url=Secret("https://example.com/")),
        )


def test_it_knows_its_name_and_settings(receiver: Receiver) -> None:
    assert receiver.kind == receiver.settings.kind
    assert RECEIVERS[receiver.kind] is type(receiver)
    assert inspect.getdoc(type(receiver))
    assert 0 <= receiver.spacing_seconds <= 1


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_becomes_valid_json_and_always_the_same(receiver: Receiver, name: str) -> None:
    rendered = receiver.render(MESSAGES[name])
    assert rendered == receiver.render(MESSAGES[name])
    assert isinstance(json.loads(rendered.body.decode("utf-8")), dict | list)
    assert rendered.content_type == "application/json"
    # Alertmanager wants every alert; everybody else one message that a person can read.
    assert len(rendered.body) <= (4_000_000 if receiver.kind == "alertmanager" else 512_000)


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_become_valid_json(receiver: Receiver, hostile: Any) -> None:
    body = receiver.render(hostile).body.decode("utf-8")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads(body, parse_constant=refuse)


def test_the_stored_form_holds_no_secret_and_shows_none(receiver: Receiver) -> None:
    rendered = receiver.render(message())
    request = receiver.request(rendered, message_id="msg_1", now=NOW)
    shown = [repr(receiver.settings), repr(request), repr(rendered), rendered.body.decode()]
    shown += [value for pair in rendered.headers for value in pair]
    for secret in secrets_of(receiver):
        assert all(secret not in text for text in shown)


def test_an_attempt_goes_where_the_settings_say(receiver: Receiver) -> None:
    request = receiver.request(receiver.render(message()), message_id="msg_1", now=NOW)
    assert request.url == receiver.settings.url.reveal()
    assert (request.timeout_seconds, request.allow_private, request.ca_file) == (7.0, True, "/ca.pem")
    assert request.headers["Content-Type"] == "application/json"


def test_extra_headers_go_along(receiver: Receiver) -> None:
    own = build(settings(receiver.kind, headers=(("Authorization", Secret("Bearer x")),)))
    request = own.request(own.render(message()), message_id="msg_1", now=NOW)
    assert request.headers["Authorization"] == "Bearer x"


def test_attempts_repeat_what_is_stored(receiver: Receiver) -> None:
    rendered = receiver.render(message())
    stored = json.loads(rendered.body)
    one = json.loads(receiver.request(rendered, message_id="msg_1", now=NOW).body)
    two = json.loads(receiver.request(rendered, message_id="msg_1", now=NOW.replace(hour=12)).body)
    assert contains(one, stored)
    assert contains(two, stored)
    if receiver.kind == "alertmanager":  # the end of what fires is that of the attempt
        for alert in (*one, *two):
            del alert["endsAt"]
    assert one == two


@pytest.mark.parametrize("failure", list(Failure))
def test_no_failure_of_the_network_loses_a_row(receiver: Receiver, failure: Failure) -> None:
    for status in (None, 200, 404):
        reply = Reply(status=status, body=b"ok", failure=failure, detail="https://host: lost")
        outcome = receiver.classify(reply)
        assert (outcome.kind, outcome.detail) == (OutcomeKind.LATER, "https://host: lost")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 425 + 75, 502, 504])
def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    assert receiver.classify(Reply(status=status)).kind is OutcomeKind.LATER


@pytest.mark.parametrize("status", [429, 503])
def test_too_many_requests_hold_the_receiver_back(receiver: Receiver, status: int) -> None:
    outcome = receiver.classify(Reply(status=status, headers={"retry-after": "9"}))
    assert (outcome.kind, outcome.retry_after, outcome.hold_receiver) == (OutcomeKind.LATER, "9", True)


def test_gone_is_broken_and_refused_is_poison(receiver: Receiver) -> None:
    assert receiver.classify(Reply(status=410)).kind is OutcomeKind.BROKEN
    assert receiver.classify(Reply(status=422, body=b"no")).kind is OutcomeKind.POISON


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe", b"[" * 60_000, b'{"ok":1e999}', b'"\\ud800"'])
@pytest.mark.parametrize("status", [200, 400, 403, 404, 429, 500])
def test_no_reply_raises_or_quotes_a_secret(receiver: Receiver, status: int, body: bytes) -> None:
    echo = body + " ".join(secrets_of(receiver)).encode()
    for said in (body, echo):
        outcome = receiver.classify(Reply(status=status, body=said))
        assert isinstance(outcome, Outcome)
        assert outcome.status == status
        assert all(secret not in outcome.detail for secret in secrets_of(receiver))
        assert outcome.detail.isprintable()
