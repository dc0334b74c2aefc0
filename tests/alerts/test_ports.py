"""Settings: what is refused, and what is never shown."""

from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.ports import ReceiverSettings, Request, Secret, origin, redacted
from tests.alerts.samples import SLACK_URL, settings


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/",
        "hooks.slack.com/services/x",
        "https:///path",
        "https://user:secretpw@host/",
        "https://user@host/",
        "https://host/#secretpart",
        "https://host:99999/",
        "https://host:0/",
        "https://[::1/",
        "https://host/a b",
        "https://host/\r\nX: 1",
        "https://good.example\\@evil.example/",
        "https://hőst/",
        "",
    ],
)
def test_a_bad_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(AlertError, match="url:") as caught:
        ReceiverSettings(name="a", kind="slack", url=Secret(url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("timeout_seconds", 0.0),
        ("timeout_seconds", 61.0),
        ("headers", (("X Y", Secret("1")),)),
        ("headers", (("X-A\r\nB", Secret("1")),)),
        ("headers", (("X-A", Secret("1\r\nB: 2")),)),
        ("headers", (("", Secret("1")),)),
    ],
)
def test_a_bad_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(AlertError, match=field):
        settings("webhook", **{field: value})


def test_secrets_print_as_stars() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {settings('slack', headers=(('A', secret),))!r}"
    assert secret.reveal() == "hunter2"
    assert not Secret("")
    assert Secret("a") == Secret("a")


def test_the_origin_is_all_of_a_url_that_is_shown() -> None:
    assert origin(SLACK_URL) == "https://hooks.slack.com"
    assert origin("https://[::1]:8443/x?y") == "https://[::1]:8443"
    assert origin("https://[") == "(invalid URL)"
    assert origin("nonsense") == "(invalid URL)"
    request = Request(url=SLACK_URL, body=b"secret body", headers={"A": "secret"}, timeout_seconds=1)
    assert "ecret" not in repr(request).replace("Secret", "")


def test_redaction_covers_parts_and_encodings() -> None:
    chosen = settings(
        "webhook",
        url=Secret("https://h.example/services/T00000000/abc%2Fdef?token=sec+ret/123"),
        headers=(("Authorization", Secret("Bearer topsecrettoken")),),
    )
    text = "T00000000 and sec+ret/123 and sec%2Bret%2F123 and topsecrettoken and h.example"
    assert redacted(text, chosen) == "*** and *** and *** and *** and h.example"
