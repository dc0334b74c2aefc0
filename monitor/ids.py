"""Identifiers the daemon makes: message ids, and batch ids for clients that send none."""

import secrets
from datetime import datetime

from monitor.instants import to_ns


def message_id(now: datetime) -> str:
    """`msg_` and 26 hex digits: the time first, so that ids sort as they were made, then chance."""
    return f"msg_{to_ns(now) // 1_000_000:012x}{secrets.token_hex(7)}"


def anonymous_batch_id() -> str:
    """The key of a batch whose client sent none; it is never seen twice."""
    return f"anon-{secrets.token_hex(16)}"
