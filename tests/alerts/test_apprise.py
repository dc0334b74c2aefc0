"""What an Apprise API server is posted, against its reference, and what its answers mean."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import MessageStatus, plain_text
from alerts.ports import OutcomeKind, Reply, Secret
from alerts.receivers.apprise import AppriseReceiver
from tests.alerts.samples import NASTY, detail, message, settings

# The reference of POST /notify/{KEY}.
NOTIFY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["body"],
    "properties": {
        "title": {"type": "string"},
        "body": {"type": "string", "minLength": 1},
        "type": {"enum": ["info", "success", "warning", "failure"]},
        "format": {"enum": ["text", "markdown", "html"]},
    },
}


def sent(**changes: Any) -> dict[str, Any]:
    found = json.loads(AppriseReceiver(settings("apprise")).render(message(**changes)).body)
    jsonschema.validate(found, NOTIFY)
    assert isinstance(found, dict)
    return found


def test_the_title_says_what_happened_and_the_body_is_the_plain_text() -> None:
    found = sent()
    assert found["title"] == "🔴 CRITICAL: credit-risk drifted: temp and 2 more columns"
    assert found["body"] == plain_text(message())
    assert found["format"] == "text"


@pytest.mark.parametrize(
    ("severity", "status", "kind"),
    [
        (Severity.CRITICAL, MessageStatus.FIRING, "failure"),
        (Severity.ERROR, MessageStatus.FIRING, "failure"),
        (Severity.WARNING, MessageStatus.FIRING, "warning"),
        (Severity.INFO, MessageStatus.FIRING, "info"),
        (Severity.CRITICAL, MessageStatus.RESOLVED, "success"),
    ],
)
def test_the_type_follows_severity_and_state(severity: Severity, status: MessageStatus, kind: str) -> None:
    assert sent(severity=severity, status=status)["type"] == kind


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_on_their_line(name: str) -> None:
    found = sent(title=f"t{name}", model=name, alerts=(detail(name, summary=name),))
    assert len(found["title"]) <= 250
    assert "\n" not in found["title"]
    assert len(found["body"].split("\n")) <= 40


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, OutcomeKind.DONE),
        (204, OutcomeKind.BROKEN),
        (424, OutcomeKind.LATER),
        (500, OutcomeKind.LATER),
        (400, OutcomeKind.POISON),
    ],
)
def test_answers_mean_what_the_reference_says(status: int, kind: OutcomeKind) -> None:
    assert AppriseReceiver(settings("apprise")).classify(Reply(status=status, body=b"")).kind is kind


def test_a_secret_beside_its_url_is_refused() -> None:
    with pytest.raises(AlertError, match="only secret is its url"):
        AppriseReceiver(settings("apprise", secrets=(Secret("x" * 32),)))
