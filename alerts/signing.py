"""Standard Webhooks v1 signatures: HMAC-SHA256 over `id.timestamp.body`.

Source: the Standard Webhooks specification. The timestamp is fresh for each attempt (verifiers allow ±300 s),
the id stays the same over all attempts and is the receiver's idempotency key.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from alerts.errors import AlertError
from alerts.ports import Secret
from alerts.times import aware

_PREFIX = "whsec_"
_SHORTEST_KEY = 24
_LONGEST_KEY = 64


def signing_key(secret: Secret) -> bytes:
    """Decode a `whsec_…` secret to its 24–64 key bytes; the error never quotes it."""
    text = secret.reveal()
    fix = "use whsec_ followed by the base64 of 24–64 random bytes"
    if not text.startswith(_PREFIX):
        raise AlertError(f"secrets: a signing secret must start with {_PREFIX}; {fix}")
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise AlertError(f"secrets: a signing secret is not valid base64; {fix}") from None
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise AlertError(f"secrets: a signing secret has {len(key)} bytes; {fix}")
    return key


def sign(secrets: Sequence[Secret], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The three headers of one attempt; with two secrets (rotation) both signatures, the newest first.

    Raises AlertError for a missing secret, a naive time, or an id that is empty or not plain ASCII without
    dots and spaces (a dot would make the signed text ambiguous).
    """
    if not secrets:
        raise AlertError("secrets: signing needs at least one")
    if (
        not message_id
        or not message_id.replace("_", "").replace("-", "").isalnum()
        or not message_id.isascii()
    ):
        raise AlertError(f"message_id: {message_id!r} may hold ASCII letters, digits, _ and - only")
    timestamp = str(int(aware("now", now).timestamp()))
    signed = f"{message_id}.{timestamp}.".encode("ascii") + body
    tokens = [_token(signing_key(secret), signed) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        # One space exactly: verifiers split on it and choke on an empty token.
        "webhook-signature": " ".join(tokens),
    }


def _token(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
