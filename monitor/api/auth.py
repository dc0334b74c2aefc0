"""Who may do what: bearer tokens with scopes, and the loopback that needs none.

Scopes are `ingest:<model>`, `ingest:*`, `read` and `operate`. Tokens are known by their sha256 only. Without
any token configured, requests of this machine may do everything (the server refuses any other bind then); a
browser that was lured here by a foreign page, or by DNS rebinding, is told apart by its Origin and Host.
"""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from monitor.api.problem import ProblemError

READ: Final = "read"
OPERATE: Final = "operate"
INGEST_ANY: Final = "ingest:*"

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="driftd"'}
_BASIC_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="driftd", charset="UTF-8"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A configured token: its name for the audit, sha256 digest (32 bytes) and scopes."""

    name: str
    digest: bytes
    scopes: frozenset[str]

    def __post_init__(self) -> None:
        if len(self.digest) != hashlib.sha256().digest_size:
            raise ValueError(
                f"token {self.name!r}: a digest is the 32 bytes of a sha256, not {len(self.digest)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sent a request."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this scope was granted; `ingest:*` covers every `ingest:<model>`."""
        return scope in self.scopes or (scope.startswith("ingest:") and INGEST_ANY in self.scopes)


LOOPBACK: Final = Principal(name="loopback", scopes=frozenset({INGEST_ANY, READ, OPERATE}))


def ingest_scope(model: str) -> str:
    """The scope that may send predictions of this model."""
    return f"ingest:{model}"


class Authenticator:
    """Tells who sent a request. `tokens` is asked each time, so that a reload or a revocation counts at once."""

    def __init__(self, tokens: Callable[[], Sequence[Token]]) -> None:
        self._tokens = tokens

    def require(self, request: Request, scope: str, *, basic: bool = False) -> Principal:
        """The sender, if it has the scope; ProblemError 401 for an unknown sender, 403 for a missing scope.

        `basic` also takes the token as the password of HTTP Basic, which is how a browser can send one. Only for
        pages that change nothing: a browser sends such credentials along with a foreign page's requests too.
        """
        principal = self.identify(request, basic=basic)
        if not principal.may(scope):
            raise ProblemError(403, f"the token lacks the scope {scope!r}")
        return principal

    def identify(self, request: Request, *, basic: bool = False) -> Principal:
        """The sender; ProblemError 401 where it is unknown."""
        challenge = _BASIC_CHALLENGE if basic else _CHALLENGE
        tokens = self._tokens()
        if not tokens:
            return _local(request)
        presented = request.headers.getlist("authorization")
        if len(presented) != 1:
            raise _unauthorized("send one header Authorization: Bearer TOKEN", challenge)
        secret = _secret(presented[0], basic=basic)
        if not secret:
            raise _unauthorized("send Authorization: Bearer TOKEN", challenge)
        # Header text is latin-1; compare_digest refuses str beyond ASCII, so digests of bytes are compared.
        digest = hashlib.sha256(secret.encode("latin-1", "replace")).digest()
        found: Token | None = None
        for token in tokens:
            # No early exit: the time must not tell which token was nearly right.
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None:
            raise _unauthorized("the token is unknown or revoked", challenge)
        return Principal(name=found.name, scopes=found.scopes)


def _local(request: Request) -> Principal:
    host = request.client.host if request.client else ""
    if not _is_loopback(host):
        raise _unauthorized("no token is configured, so only this machine may send requests")
    _refuse_browsers(request.headers)
    return LOOPBACK


def _refuse_browsers(headers: Headers) -> None:
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(_host_of(origin)):
        raise ProblemError(403, "requests of foreign web pages need a token")
    named = headers.get("host")
    if named and not _is_loopback(_host_of(f"//{named}")):
        raise ProblemError(403, "without a token the Host must be localhost or a loopback address")


@lru_cache(maxsize=256)
def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _secret(presented: str, *, basic: bool) -> str:
    """The token in an Authorization header; empty where there is none that may be used here."""
    scheme, _, value = presented.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if not basic or scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(value.strip(), validate=True).decode("latin-1")
    except ValueError:
        return ""
    return pair.partition(":")[2]


def _unauthorized(detail: str, challenge: Mapping[str, str] = _CHALLENGE) -> ProblemError:
    return ProblemError(401, detail, headers=challenge)
