"""Secrets planted in every place for one, then failures of every kind: none of them is ever seen again."""

import base64
import logging
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts import transport
from alerts.errors import AlertError
from alerts.ports import Request
from monitor.config import ConfigError, SecretError, parse
from monitor.operations import try_receiver
from monitor.receivers import build_receivers
from storage.engine import Address, Database
from storage.errors import StorageError
from tests.alerts.fault.catalogue import reply
from tests.alerts.wire import Script, reset, server
from tests.monitor.harness import Harness, drift_labels, harness

KEY = b"CANARY-signing-key-of-32-bytes!!"
SECRETS = {
    "slack url": "CANARYslackHookPath",
    "webhook url": "CANARYwebhookQueryToken",
    "webhook path": "CANARYwebhookPath",
    "signing secret": base64.b64encode(KEY).decode(),
    "signing key": KEY.decode(),
    "routing key": "CANARY0pagerduty0routing0key0xyz",
    "api token": "CANARY-token-that-may-everything",
}
PAUSE = timedelta(hours=2)
WRONG_TOKEN = "CANARY-token-of-somebody-else"
CONFIG = """
[[auth.tokens]]
name = "all"
token_file = "{token}"
scopes = ["read", "operate", "ingest:*"]
[alerts]
group_wait = "0s"
[receivers.slack]
type = "slack"
url = "{base}/services/T000/B000/CANARYslackHookPath"
allow_private = true
[receivers.hook]
type = "webhook"
url = "{base}/CANARYwebhookPath/x?token=CANARYwebhookQueryToken"
secret = "whsec_{signing}"
allow_private = true
[receivers.pager]
type = "pagerduty"
endpoint = "{base}/v2/enqueue"
routing_key = "CANARY0pagerduty0routing0key0xyz"
min_severity = "warning"
allow_private = true
"""


def echo(status: int, **headers: str) -> Script:
    """Answers with everything it was sent, in the body and in a header."""

    def script(peer: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        peer.sendall(reply(status, request, X_Echo=path, **headers))

    return script


def raw_echo(peer: socket.socket, request: bytes) -> None:
    peer.sendall(request)


def broken_head(peer: socket.socket, request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n" + request.replace(b":", b" ") + b"\r\nContent-Length: 2\r\n\r\nok")


def half(peer: socket.socket, request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + request)
    reset(peer, request)


def redirect(peer: socket.socket, request: bytes) -> None:
    path = request.split(b" ")[1].decode()
    peer.sendall(reply(302, Location=f"http://169.254.169.254{path}"))


FAILURES: dict[str, Script] = {
    **{f"echo {status}": echo(status) for status in (200, 400, 403, 404, 408, 410, 422, 500)},
    "echo 429": echo(429, Retry_After="0"),
    "raw echo": raw_echo,
    "broken head": broken_head,
    "half a reply": half,
    "redirect": redirect,
    "reset": reset,
}


class Scripted:
    """A server whose script can be changed."""

    def __init__(self) -> None:
        self.script: Script = reset

    def __call__(self, peer: socket.socket, request: bytes) -> None:
        self.script(peer, request)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def daemon(tmp_path: Path, scripted: Scripted) -> Iterator[Harness]:
    token = tmp_path / "token"
    token.write_text(SECRETS["api token"] + "\n")
    with server(scripted) as peer:
        text = CONFIG.format(
            base=f"http://127.0.0.1:{peer.port}", token=token, signing=SECRETS["signing secret"]
        )
        with harness(tmp_path, text) as found:
            yield found


def ask(daemon: Harness, method: str, target: str, token: str = SECRETS["api token"]) -> str:
    reply = daemon.ask(method, target, headers={"Authorization": f"Bearer {token}"})
    return f"{reply.status} {dict(reply.headers)} {reply.body.decode('utf-8', 'replace')}"


def drive(daemon: Harness, scripted: Scripted, seen: list[str]) -> None:
    """Every failure at every receiver, by hand and in the course of things."""
    for script in FAILURES.values():
        scripted.script = script
        for name in daemon.service.receivers:
            seen.append(repr(try_receiver(daemon.service, name, actor="ann")))
            seen.append(ask(daemon, "POST", f"/v1/receivers/{name}/test"))
    alert = daemon.open_alert(drift_labels())
    for script in FAILURES.values():
        scripted.script = script
        daemon.clock.advance(PAUSE)
        for courier in daemon.service.couriers.values():
            courier.run_once()
    daemon.service.pipeline.run_once()
    seen.append(ask(daemon, "GET", f"/v1/alerts/{alert}"))


def test_no_secret_is_ever_seen_again(
    daemon: Harness, scripted: Scripted, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "driftd", "uvicorn"):
        caplog.set_level(logging.DEBUG, logger=name)
    seen: list[str] = []
    drive(daemon, scripted, seen)
    defects(daemon, monkeypatch, seen)
    for target in (
        *("/", "/alerts", "/alerts/1", "/models/m", "/metrics", "/healthz", "/readyz", "/nowhere"),
        *("/v1/status", "/v1/models", "/v1/alerts", "/v1/silences", "/v1/baselines"),
    ):
        seen += [ask(daemon, "GET", target), ask(daemon, "GET", target, WRONG_TOKEN)]
    service = daemon.service
    seen += [repr(service.config), str(service.config), repr(service.receivers), repr(vars(service))]
    seen += [repr(r.settings) + str(r.settings) + repr(vars(r)) for r in service.receivers.values()]
    kept = b"".join(path.read_bytes() for path in sorted(daemon.state_dir.iterdir()))
    assert len(caplog.records) > len(FAILURES)
    assert b"HTTP 400" in kept  # what is looked through did see the failures
    for place, secret in SECRETS.items():
        assert secret.encode() not in kept, place
        assert not [line for line in caplog.text.splitlines() if secret in line], place
        assert not [text for text in seen if secret in text], place
    assert WRONG_TOKEN not in caplog.text + "".join(seen)


def defects(daemon: Harness, monkeypatch: pytest.MonkeyPatch, seen: list[str]) -> None:
    """Errors that nobody foresaw, whose texts hold the request itself."""

    def defective(request: Request, exchange: object) -> object:
        raise KeyError(f"{request.url} {dict(request.headers)} {request.body!r}")

    with monkeypatch.context() as patch:
        patch.setattr(transport, "_post", defective)
        tried = [try_receiver(daemon.service, name, actor="ann") for name in daemon.service.receivers]
    assert {t.detail.partition(": ")[2] for t in tried} == {"request cannot be sent (a defect: KeyError)"}
    seen += map(repr, tried)


def test_a_database_that_cannot_be_reached_does_not_show_its_password() -> None:
    address = Address("postgresql://driftd:CANARY@127.0.0.1:1/driftd?connect_timeout=2")
    with pytest.raises(StorageError) as refused:
        Database.open(address)
    error: BaseException | None = refused.value
    while error is not None:
        assert "CANARY" not in f"{error} {error!r}"
        error = error.__cause__
    assert "CANARY" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "text",
    [
        'url = "CANARY no address"\ntype = "slack"',
        'url = "http://u:CANARY@host/"\ntype = "slack"',
        'url = "https://host/CANARY#x"\ntype = "webhook"',
        'url = "https://host/"\ntype = "webhook"\nsecret = "whsec_CANARY"',
        'url = "https://host/"\ntype = "webhook"\nsecrett = "CANARY"',
        'url = "https://host/CANARY"\ntype = "webhook"\nsecret = "CANARY"\nsecret_file = "/x"',
        'url = "https://host/CANARY"\nurl_file = "/x"\ntype = "slack"',
        'type = "pagerduty"\nrouting_key = "CANARY"',
        'type = "pagerduty"\nrouting_key = 5\nendpoint = "CANARY"',
        'url = "https://host/CANARY"\ntype = "pigeon"',
        'url = "https://host/CANARY\ntype = "slack"',
    ],
)
def test_a_mistake_beside_a_secret_does_not_quote_it(text: str) -> None:
    with pytest.raises((ConfigError, SecretError, AlertError)) as refused:
        build_receivers(parse(f"[receivers.r]\n{text}\n"))
    error: BaseException | None = refused.value
    said = []
    while error is not None:
        said.append(f"{error} {error!r}")
        error = error.__cause__
    assert "CANARY" not in "".join(said)
