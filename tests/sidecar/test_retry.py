"""What is retried, when, and what is given up."""

from email.utils import formatdate

import pytest

from driftd_sidecar._retry import Delivered, GiveUp, Retry, decide

NOW = 1_767_225_600.0


def after(
    status: int | None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    attempt: int = 0,
    jitter: float = 0.0,
) -> object:
    return decide(status, headers or {}, body, attempt=attempt, jitter=jitter, now_seconds=NOW)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_is_delivery(status: int) -> None:
    assert after(status, body=b' {"id": "1", "accepted": 3, "rejected": 0') == Delivered()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"\xff", b'<html>"accepted"</html>'])
def test_a_success_that_the_daemon_did_not_say_is_none(body: bytes) -> None:
    assert after(200, body=body, jitter=1.0) == Retry(after_seconds=0.5, told_by_server=False)


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_retried(status: int | None) -> None:
    assert isinstance(after(status), Retry)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 409, 413, 422])
def test_what_will_not_change_is_given_up(status: int) -> None:
    assert after(status) == GiveUp(reason=f"HTTP {status}")


def test_delays_double_up_to_thirty_seconds_and_jitter_spreads_them() -> None:
    longest = [after(None, attempt=n, jitter=1.0) for n in range(9)]
    assert [each.after_seconds for each in longest if isinstance(each, Retry)] == [
        0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0,
    ]  # fmt: skip
    shortest = after(None, attempt=1000, jitter=0.0)
    assert isinstance(shortest, Retry)
    assert shortest.after_seconds == 15.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999999999", 300.0),
        (formatdate(NOW + 42, usegmt=True), 42.0),
        (formatdate(NOW - 42, usegmt=True), 0.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int, text: str, seconds: float) -> None:
    assert after(status, {"retry-AFTER": text}) == Retry(after_seconds=seconds, told_by_server=True)


@pytest.mark.parametrize("text", ["soon", "-3", "", "1.5e"])
def test_a_senseless_retry_after_is_ignored(text: str) -> None:
    decision = after(503, {"Retry-After": text}, jitter=1.0)
    assert decision == Retry(after_seconds=0.5, told_by_server=False)
