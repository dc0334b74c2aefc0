"""Receivers as the configuration names them, built with their secrets."""

import json
from datetime import UTC, datetime

import pytest

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


def test_a_secret_that_is_not_there_is_named_by_its_key_and_never_shown(tmp_path: object) -> None:
    config = parse(f'[receivers.pager]\ntype = "pagerduty"\nrouting_key_file = "{tmp_path}/none"\n')
    with pytest.raises(SecretError, match="routing_key_file"):
        build_receivers(config)


def test_no_secret_stands_in_the_configurations_repr() -> None:
    assert KEY not in repr(parse(CONFIG))
