"""What the rest of the daemon needs to know of receivers and of the network, and nothing more."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote, urlsplit

from alerts.errors import AlertError
from alerts.identity import Severity
from alerts.message import IncidentMessage
from alerts.text import clean, cut

# Anything shorter is more likely a word than a secret, and replacing it would garble every text.
_SHORTEST_REDACTED = 6
_EXCERPT_BYTES = 2000
_EXCERPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that prints as `***`; `reveal()` is the only way to it."""

    _value: str

    def reveal(self) -> str:
        """The value itself: for the wire only."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """One configured receiver.

    name: the operator's word for it, unique. kind: a key of the registry.
    url: where to post; a secret, because Slack's is one.
    secrets: newest first; the webhook's signing secrets (`whsec_…`, two while rotating), PagerDuty's routing
        key; none for the others.
    headers: extra request headers, such as Authorization; values are secrets.
    min_severity: alerts below it are not told here. send_resolved: whether the end is told too.
    timeout_seconds: wall clock for the whole exchange, 1–60.
    allow_private: whether the address may be loopback or private (an Alertmanager next door).
    ca_file: PEM file of the authorities to trust instead of the public ones; empty for those.
    """

    name: str
    kind: str
    url: Secret
    secrets: tuple[Secret, ...] = ()
    headers: tuple[tuple[str, Secret], ...] = ()
    min_severity: Severity = Severity.WARNING
    send_resolved: bool = True
    timeout_seconds: float = 10.0
    allow_private: bool = False
    ca_file: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise AlertError("name: a receiver needs a name")
        if not 1 <= self.timeout_seconds <= 60:
            raise AlertError(f"timeout_seconds: {self.timeout_seconds} is not within 1–60")
        check_url("url", self.url)
        for name, value in self.headers:
            if not name.replace("-", "").isalnum() or not name.isascii():
                raise AlertError(f"headers: {name!r} is not a header name")
            if not value.reveal().isascii() or not value.reveal().isprintable():
                raise AlertError(f"headers: the value of {name} may hold printable ASCII only")

    @property
    def destination(self) -> str:
        """Scheme and host of the URL: all of it that may be shown."""
        return origin(self.url.reveal())

    def refuse_secrets(self, owner: str) -> None:
        """AlertError where secrets are given to a receiver, `owner`'s, that has none but its url."""
        if self.secrets:
            raise AlertError(f"secrets: receiver {self.name!r} is {owner}, whose only secret is its url")

    def post(
        self, rendered: "Rendered", body: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> "Request":
        """The request of what was rendered, with the configured headers; `body` in place of the stored bytes, and `more`
        headers, where those are made at the moment of sending."""
        configured = {name: value.reveal() for name, value in self.headers}
        return Request(
            url=self.url.reveal(),
            body=rendered.body if body is None else body,
            headers={
                "Content-Type": rendered.content_type,
                **dict(rendered.headers),
                **configured,
                **(more or {}),
            },
            timeout_seconds=self.timeout_seconds,
            allow_private=self.allow_private,
            ca_file=self.ca_file,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A message in its receiver's form, as the outbox stores it: the very bytes, and no secret."""

    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One POST, ready to send. Its repr shows neither URL, headers nor body: they hold secrets."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout_seconds: float
    allow_private: bool = False
    ca_file: str = ""

    @property
    def destination(self) -> str:
        """Scheme and host."""
        return origin(self.url)


class Failure(StrEnum):
    """Why an exchange gave no complete reply."""

    DNS = "host name not found"
    ADDRESS = "address not allowed"
    CONNECT = "cannot connect"
    TLS = "TLS failed"
    TIMEOUT = "timed out"
    RESET = "connection lost"
    PROTOCOL = "not a valid HTTP reply"
    REQUEST = "request cannot be sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. `failure` is None exactly when a whole reply (or its first 64 KiB) was read.

    status is None when not even the status line arrived; header names are lower-case; body is raw (not
    inflated); detail says what failed, with no more of the URL than scheme and host.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    failure: Failure | None = None
    detail: str = ""
    elapsed_seconds: float = 0.0


class OutcomeKind(StrEnum):
    """What an attempt came to."""

    DONE = "done"
    LATER = "later"  # try this row again
    POISON = "poison"  # this row can never be accepted; the receiver is fine
    BROKEN = "broken"  # the receiver itself is dead until its settings change


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A classified reply. `retry_after` is the header as it came; `hold_receiver`: it speaks for the receiver.

    `detail` is safe to store and show.
    """

    kind: OutcomeKind
    detail: str
    status: int | None = None
    retry_after: str | None = None
    hold_receiver: bool = False


class Receiver(Protocol):
    """A configured destination. Pure: it turns messages into bytes and replies into outcomes."""

    @property
    def kind(self) -> str:
        """Its key in the registry."""

    @property
    def spacing_seconds(self) -> float:
        """The least time between two sends that its vendor asks for; 0 where nobody does."""

    @property
    def settings(self) -> ReceiverSettings:
        """What it was built from."""

    def render(self, message: IncidentMessage) -> Rendered:
        """The message in the receiver's form, without any secret: what the outbox stores."""

    def request(self, rendered: Rendered, *, message_id: str, now: datetime) -> Request:
        """One attempt: adds address, secrets and signature to the stored bytes.

        The body is `rendered.body` unless the vendor wants its key inside (PagerDuty).
        """

    def classify(self, reply: Reply) -> Outcome:
        """What the reply means for the row and for the receiver."""


class Transport(Protocol):
    """The way out. Never raises for what a network or a peer does: that is a Reply with a failure."""

    def send(self, request: Request) -> Reply:
        """Exchange one request for one reply within its wall-clock timeout."""


def check_url(setting: str, url: Secret) -> None:
    """Refuse what is not a plain absolute http(s) URL; the error never quotes it."""
    text = url.reveal()
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise AlertError(f"{setting}: may hold printable ASCII without spaces or backslashes only")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise AlertError(f"{setting}: not a valid URL (host or port)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise AlertError(f"{setting}: must be https://host/… or http://host/…")
    if "@" in parts.netloc:
        raise AlertError(f"{setting}: user and password do not belong in a URL; use headers (Authorization)")
    if parts.fragment:
        raise AlertError(f"{setting}: a fragment (#…) is never sent; remove it")


def origin(url: str) -> str:
    """Scheme and host of a URL, or `(invalid URL)`: what an error, log or page may say of it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "(invalid URL)"
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}" if host else "(invalid URL)"


def redacted(text: str, settings: ReceiverSettings) -> str:
    """Replace every trace of the receiver's secrets in a foreign text (a reply may echo its URL)."""
    url = settings.url.reveal()
    parts = urlsplit(url)
    values = [url, parts.path, parts.query, *parts.path.split("/"), *parts.query.split("&")]
    values += [query.partition("=")[2] for query in parts.query.split("&")]
    values += [secret.reveal() for secret in settings.secrets]
    for _, header in settings.headers:
        values += [header.reveal(), *header.reveal().split()]
    found = {value for value in values if len(value) >= _SHORTEST_REDACTED}
    found |= {quote(value, safe="") for value in found}
    for value in sorted(found, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def excerpt(
    outcome: Outcome, reply: Reply, settings: ReceiverSettings, quoted: Collection[OutcomeKind]
) -> Outcome:
    """Add the beginning of the reply to the detail of an outcome of the `quoted` kinds, once, without secrets."""
    said = redacted(clean(reply.body[:_EXCERPT_BYTES].decode("utf-8", "replace")), settings).strip()
    said = cut(said, _EXCERPT_CHARACTERS)
    if outcome.kind not in quoted or not said or outcome.detail.endswith(said):
        return outcome
    return replace(outcome, detail=f"{outcome.detail}: {said}")
