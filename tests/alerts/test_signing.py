"""Signing, judged by the published vector and by two vendors' verifiers."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import standardwebhooks
import svix.webhooks

from alerts.errors import AlertError
from alerts.ports import Secret
from alerts.signing import sign, signing_key
from tests.alerts.samples import NOW, OLD_SIGNING, SIGNING

BODY = '{"state":"drift","µ":1}'.encode()


def now() -> datetime:
    """The verifiers read the real clock and allow five minutes."""
    return datetime.now(UTC)


def test_the_published_vector() -> None:
    # From the test suites of the Standard Webhooks reference libraries.
    moment = datetime.fromtimestamp(1614265330, UTC)
    headers = sign([SIGNING], "msg_p5jXN8AQM9LWM0D4loKWxJek", moment, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("verifier_secret", [SIGNING, OLD_SIGNING])
def test_both_verifiers_accept_either_secret_while_rotating(verifier_secret: Secret) -> None:
    headers = sign([SIGNING, OLD_SIGNING], "msg_1", now(), BODY)
    assert headers["webhook-signature"].count(" ") == 1
    assert standardwebhooks.Webhook(verifier_secret.reveal()).verify(BODY, headers) == json.loads(BODY)
    svix.webhooks.Webhook(verifier_secret.reveal()).verify(BODY, headers)


@pytest.mark.parametrize("change", ["body", "id", "timestamp"])
def test_verifiers_refuse_what_was_changed(change: str) -> None:
    headers, body = sign([SIGNING], "msg_1", now(), BODY), BODY
    if change == "body":
        body = BODY + b" "
    elif change == "id":
        headers["webhook-id"] = "msg_2"
    else:
        headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) + 1)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SIGNING.reveal()).verify(body, headers)


def test_the_time_zone_of_the_clock_does_not_matter() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert sign([SIGNING], "msg_1", elsewhere, BODY) == sign([SIGNING], "msg_1", NOW, BODY)


@pytest.mark.parametrize(
    "text",
    [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_tooshort",
        "whsec_MfKQ9r8G!!qrTwjUPD8ILPZIo2LaLaSw",
        "whsec_" + "A" * 100,
    ],
)
def test_a_bad_secret_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(AlertError, match="secrets") as caught:
        signing_key(Secret(text))
    assert text.removeprefix("whsec_") not in str(caught.value)


@pytest.mark.parametrize("message_id", ["", "msg.1", "msg 1", "msg\r\n1", "mség"])
def test_an_id_that_would_make_the_signature_ambiguous_is_refused(message_id: str) -> None:
    with pytest.raises(AlertError, match="message_id"):
        sign([SIGNING], message_id, NOW, BODY)


def test_signing_needs_a_secret() -> None:
    with pytest.raises(AlertError, match="at least one"):
        sign([], "msg_1", NOW, BODY)
