"""Every error is problem+json, the framework's too."""

import logging

import pytest

from monitor.api.problem import ProblemError, respond
from monitor.ingest.errors import Issue
from tests.monitor.api.asgi import URL, Daemon


@pytest.mark.parametrize(
    ("method", "url", "status", "title"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", URL, 405, "Method Not Allowed"),
        ("GET", "/teapot", 418, "I'm a Teapot"),
    ],
)
def test_the_frameworks_errors_are_problems(method: str, url: str, status: int, title: str) -> None:
    answer = Daemon().request(method, url)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["title"], body["status"]) == ("about:blank", title, status)
    assert body["detail"]


def test_405_names_the_method_in_allow() -> None:
    answer = Daemon().request("PUT", URL)
    assert answer.headers["allow"] == "POST"
    assert "POST" in answer.json()["detail"]


def test_an_unforeseen_error_is_logged_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = Daemon().request("GET", "/boom")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "swordfish" not in answer.text
    assert "swordfish" in caplog.text


def test_an_unknown_model_is_404() -> None:
    answer = Daemon().post(b"{}", "/v1/models/absent/predictions")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "absent" in answer.json()["detail"]


def test_lone_surrogates_and_long_texts_survive_as_ascii() -> None:
    error = ProblemError(422, "é\ud800" * 1000, issues=[Issue(pointer="/a\ud800", detail="x" * 9000)])
    body = bytes(respond(None, error).body)  # type: ignore[arg-type]  # the request is not looked at
    assert body.isascii()
    assert len(body) < 9000
