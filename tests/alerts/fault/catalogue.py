"""The faults, as scripts for a server on loopback, each with what becomes of the notification.

The expectations are the table of replies of the design: class of outcome, when the next attempt is due, and
whether the whole receiver is held back. Waits are those of a critical notification's first attempt.
"""

import contextlib
import gzip
import random
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Final, Literal

from alerts.retry import Action
from tests.alerts.samples import NOW
from tests.alerts.wire import Script, reset

FIRST_WAIT: Final = 5.0
HOUR: Final = 3600.0
DRIP_SECONDS: Final = 0.4
Stage = Literal["serving", "refusing", "blackhole", "self-signed", "wrong host", "expired"]
_RNG: Final = random.Random(6)
_PACE: Final = threading.Event()  # never set: its wait is the peer's slowness


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """`wait`: least seconds until the next attempt, None where there is none; `hold`: seconds the receiver is held back."""

    action: Action
    wait: float | None = None
    hold: float | None = None


LATER: Final = Expected(action=Action.RETRY, wait=FIRST_WAIT)
DONE: Final = Expected(action=Action.DONE)
POISON: Final = Expected(action=Action.DEAD_LETTER)
BROKEN: Final = Expected(action=Action.BREAK_RECEIVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`slow`: it ends by the deadline alone. `of` are the receivers that know better than the status line."""

    script: Script | bytes = b""
    stage: Stage = "serving"
    status: int | None = None
    expected: Expected = LATER
    of: Mapping[str, Expected] = field(default_factory=dict)
    slow: bool = False

    def outcome(self, receiver_kind: str) -> Expected:
        """What must become of a notification of that receiver."""
        return self.of.get(receiver_kind, self.expected)


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP reply."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _reset_at(offset: int) -> Script:
    whole = reply(200, b"ok" + b" " * 200)

    def script(peer: socket.socket, request: bytes) -> None:
        peer.sendall(whole[:offset])
        reset(peer, request)

    return script


def _dripping(peer: socket.socket, _request: bytes) -> None:
    until = time.monotonic() + 10
    for byte in reply(200, b"ok" * 100):
        peer.sendall(bytes([byte]))
        if time.monotonic() > until or _PACE.wait(DRIP_SECONDS):
            return


def _silent(peer: socket.socket, _request: bytes) -> None:
    with contextlib.suppress(TimeoutError):
        peer.recv(1)  # nothing comes until the other side gives up


def _fifty_mebibytes(peer: socket.socket, _request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    step = _RNG.randbytes(64 * 1024)
    for _ in range(800):
        peer.sendall(step)


def _held(seconds: float) -> Expected:
    return Expected(action=Action.RETRY, wait=max(FIRST_WAIT, seconds), hold=seconds)


_BOMB: Final = gzip.compress(b"\0" * 50 * 1024 * 1024)
_NOT_SLACKS_OK: Final = {"slack": LATER}
_DEAD_HOOK: Final = {"slack": BROKEN}
_NO_HOOK: Final = {**_DEAD_HOOK, "discord": BROKEN, "teams": BROKEN}  # of theirs, a 404 alone says it
_METADATA: Final = "http://169.254.169.254/latest/meta-data/"

FAULTS: Final[Mapping[str, Fault]] = {
    "refused": Fault(stage="refusing"),
    "blackholed": Fault(stage="blackhole", slow=True),
    "silent": Fault(script=_silent, slow=True),
    "dripping": Fault(script=_dripping, slow=True),
    "reset at once": Fault(script=reset),
    "reset in the head": Fault(script=_reset_at(_RNG.randrange(1, 40))),
    "reset in the body": Fault(script=_reset_at(_RNG.randrange(60, 200)), status=200),
    "gzip of 50 MiB": Fault(
        script=reply(200, _BOMB, Content_Encoding="gzip"), status=200, expected=DONE, of=_NOT_SLACKS_OK
    ),
    "50 MiB of gzip": Fault(script=_fifty_mebibytes, status=200, expected=DONE, of=_NOT_SLACKS_OK),
    "redirect": Fault(script=reply(301, Location=_METADATA), status=301),
    "redirect with a body": Fault(script=reply(307, b"x" * 200_000, Location=_METADATA), status=307),
    "self-signed": Fault(script=reply(200, b"ok"), stage="self-signed"),
    "wrong host": Fault(script=reply(200, b"ok"), stage="wrong host"),
    "expired": Fault(script=reply(200, b"ok"), stage="expired"),
    "200 with an error": Fault(
        script=reply(200, b'{"ok":false,"error":"invalid_blocks"}'),
        status=200,
        expected=DONE,
        of=_NOT_SLACKS_OK,
    ),
    "204": Fault(script=reply(204), status=204, expected=DONE, of={**_NOT_SLACKS_OK, "apprise": BROKEN}),
    "429 after 2": Fault(script=reply(429, Retry_After="2"), status=429, expected=_held(2)),
    "429 after a date": Fault(
        script=reply(429, Retry_After=format_datetime(NOW + timedelta(seconds=90), usegmt=True)),
        status=429,
        expected=_held(90),
    ),
    "429 after garbage": Fault(script=reply(429, Retry_After="soon"), status=429, expected=_held(FIRST_WAIT)),
    "429 after 10^9": Fault(script=reply(429, Retry_After="1000000000"), status=429, expected=_held(HOUR)),
    "503": Fault(script=reply(503, Retry_After="7"), status=503, expected=_held(7)),
    "500 with HTML": Fault(script=reply(500, b"<html><h1>Oops</h1></html>" * 50), status=500),
    "410": Fault(script=reply(410, b"gone"), status=410, expected=BROKEN),
    "dead hook: no_service": Fault(
        script=reply(404, b"no_service"), status=404, expected=POISON, of=_NO_HOOK
    ),
    "dead hook: invalid_token": Fault(
        script=reply(403, b"invalid_token"), status=403, expected=POISON, of=_DEAD_HOOK
    ),
    "dead hook: action_prohibited": Fault(
        script=reply(403, b"action_prohibited"), status=403, expected=POISON, of=_DEAD_HOOK
    ),
    "dead hook: channel_is_archived": Fault(
        script=reply(410, b"channel_is_archived"), status=410, expected=BROKEN
    ),
    "refusal": Fault(script=reply(400, b"invalid_payload"), status=400, expected=POISON),
}
