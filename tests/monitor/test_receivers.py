"""Receivers as the configuration names them, built with their secrets."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
import svix.webhooks

from alerts.identity import Severity
from alerts.message import trial_message
from monitor.config import SecretError, parse
from monitor.receivers import build_receivers
from monitor.routes import policy_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"

CONFIG = f"""
[receivers.chat]
type = "slack"
url = "https://hooks.slack.com/services/T0/B0/x"

[receivers.hook]
type = "webhook"
url = "https://hook.example/driftd"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

[receivers.pager]
type = "pagerduty"
routing_key = "{KEY}"
endpoint = "https://events.eu.pagerduty.com/v2/enqueue"
"""


def test_each_sends_to_its_own_address_with_its_own_secret() -> None:
    receivers = build_receivers(parse(CONFIG))
    assert sorted(receivers) == ["chat", "hook", "pager"]
    requests = {}
    for name, receiver in receivers.items():
        rendered = receiver.render(trial_message(name, NOW))
        requests[name] = receiver.request(rendered, message_id="msg_1", now=NOW)
    assert {name: request.destination for name, request in requests.items()} == {
        "chat": "https://hooks.slack.com",
        "hook": "https://hook.example",
        "pager": "https://events.eu.pagerduty.com",
    }
    assert requests["hook"].headers["webhook-signature"].startswith("v1,")
    assert json.loads(requests["pager"].body)["routing_key"] == KEY


def test_a_pager_takes_pages_only_unless_told_otherwise() -> None:
    config = parse(CONFIG)
    receivers = build_receivers(config)
    assert policy_of(config, receivers["pager"].settings).min_severity is Severity.CRITICAL
    assert policy_of(config, receivers["chat"].settings).min_severity is Severity.WARNING


def test_while_a_secret_is_changed_either_one_verifies(tmp_path: Path) -> None:
    old, new = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
    (tmp_path / "old").write_text(f"{old}\n")
    hook = f"""
        [receivers.hook]
        type = "webhook"
        url = "https://hook.example/driftd"
        secret = "{new}"
        previous_secret_file = "{tmp_path}/old"
    """
    receiver = build_receivers(parse(hook))["hook"]
    now = datetime.now(UTC)  # the verifiers read the real clock
    request = receiver.request(receiver.render(trial_message("hook", now)), message_id="msg_1", now=now)
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
        svix.webhooks.Webhook(secret).verify(request.body, dict(request.headers))


def test_an_alertmanager_is_given_by_its_own_address() -> None:
    for given in (
        "http://am.example:9093",
        "http://am.example:9093/",
        "http://am.example:9093/api/v2/alerts",
    ):
        config = parse(
            f'[receivers.am]\ntype = "alertmanager"\nurl = "{given}"\nauthorization = "Bearer x"\n'
        )
        settings = build_receivers(config)["am"].settings
        assert settings.url.reveal() == "http://am.example:9093/api/v2/alerts"
        assert [(name, value.reveal()) for name, value in settings.headers] == [("Authorization", "Bearer x")]
        assert "Bearer x" not in repr(config)


def test_a_secret_that_is_not_there_is_named_by_its_key_and_never_shown(tmp_path: object) -> None:
    config = parse(f'[receivers.pager]\ntype = "pagerduty"\nrouting_key_file = "{tmp_path}/none"\n')
    with pytest.raises(SecretError, match="routing_key_file"):
        build_receivers(config)


def test_no_secret_stands_in_the_configurations_repr() -> None:
    assert KEY not in repr(parse(CONFIG))
