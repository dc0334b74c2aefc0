"""Tokens, scopes, and the loopback."""

import hashlib

import pytest
from starlette.requests import Request

from monitor.api.auth import LOOPBACK, Authenticator, Principal, Token
from monitor.api.problem import ProblemError
from tests.monitor.api.asgi import URL, Daemon
from tests.monitor.ingest.bodies import GOOD, rows_body

BODY = rows_body([GOOD])


def token(secret: str, *scopes: str) -> Token:
    return Token(
        name=f"of {scopes}", digest=hashlib.sha256(secret.encode()).digest(), scopes=frozenset(scopes)
    )


TOKENS = (
    token("one", "ingest:credit"),
    token("other", "ingest:fraud"),
    token("all", "ingest:*"),
    token("eyes", "read", "operate"),
)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer one", 200), ("bearer  one ", 200), ("Bearer all", 200), ("Bearer other", 403), ("Bearer eyes", 403),
        ("Bearer wrong", 401), ("Bearer", 401), ("Bearer ", 401), ("Basic one", 401), ("one", 401), ("-", 401),
        ("Bearer é", 401), ("Bearer one\xff", 401), ("Bearer " + "x" * 8000, 401),
    ],
)  # fmt: skip
def test_a_token_opens_what_its_scopes_say(authorization: str, status: int) -> None:
    answer = Daemon(tokens=TOKENS).post(BODY, authorization=authorization)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_browser_opens_pages_with_the_token_as_a_password_and_nothing_else() -> None:
    authenticator = Authenticator(lambda: TOKENS)

    def ask(authorization: str, *, basic: bool) -> str:
        scope = {
            "type": "http",
            "headers": [(b"authorization", authorization.encode())],
            "client": ("10.0.0.9", 1),
        }
        try:
            return authenticator.require(Request(scope), "read", basic=basic).name
        except ProblemError as error:
            return f"{error.status} {error.headers.get('WWW-Authenticate', '')}".strip()

    # RFC 7617: base64 of user-id ":" password.
    right, wrong = "Basic YW55b25lOmV5ZXM=", "Basic YW55b25lOm5v"
    assert ask(right, basic=True) == "of ('read', 'operate')"
    assert ask("Bearer eyes", basic=True) == "of ('read', 'operate')"
    assert ask(right, basic=False) == '401 Bearer realm="driftd"'
    for bad in (wrong, "Basic !!!", "Basic ", "Basic ZXllcw=="):
        assert ask(bad, basic=True) == '401 Basic realm="driftd", charset="UTF-8"'


def test_two_tokens_at_once_are_none() -> None:
    headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer one"),
        ("authorization", "Bearer one"),
    ]
    assert Daemon(tokens=TOKENS).request("POST", URL, BODY, headers).status_code == 401


def test_a_missing_scope_hides_whether_the_model_exists() -> None:
    daemon = Daemon(tokens=TOKENS)
    absent = "/v1/models/absent/predictions"
    assert daemon.post(BODY, absent, authorization="Bearer one").status_code == 403
    assert daemon.post(BODY, absent, authorization="Bearer all").status_code == 404
    assert daemon.post(BODY, URL, authorization="Bearer other").status_code == 403


def test_nothing_is_read_before_the_token_is_right() -> None:
    answer = Daemon(tokens=TOKENS).post(b"[" * 10, content_encoding="gzip", content_length="99999999")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("127.0.0.1", {}, 200), ("127.9.9.9", {}, 200), ("::1", {}, 200), ("::ffff:127.0.0.1", {}, 200),
        ("10.0.0.1", {}, 401), ("::ffff:10.0.0.1", {}, 401), ("", {}, 401), ("localhost.evil.example", {}, 401),
        ("127.0.0.1", {"origin": "http://evil.example"}, 403), ("127.0.0.1", {"origin": "null"}, 403),
        ("127.0.0.1", {"origin": "http://localhost:8787"}, 200), ("127.0.0.1", {"host": "evil.example"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1:8787"}, 200), ("127.0.0.1", {"host": "[::1]:8787"}, 200),
        ("127.0.0.1", {"host": "[::1"}, 403),
    ],
)  # fmt: skip
def test_without_tokens_only_this_machine_may_send(client: str, headers: dict[str, str], status: int) -> None:
    assert Daemon(client=(client, 5000)).post(BODY, **headers).status_code == status


def test_with_tokens_this_machine_needs_one_too() -> None:
    assert Daemon(tokens=TOKENS).post(BODY).status_code == 401


def test_scopes() -> None:
    assert LOOPBACK.may("ingest:credit")
    assert LOOPBACK.may("operate")
    reader = Principal(name="r", scopes=frozenset({"read"}))
    assert reader.may("read")
    assert not reader.may("operate")
    assert not reader.may("ingest:credit")
    assert not Principal(name="i", scopes=frozenset({"ingest:*"})).may("read")


def test_a_digest_that_is_no_sha256_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Token(name="t", digest=b"short", scopes=frozenset())
