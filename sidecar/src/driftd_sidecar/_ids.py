"""Batch ids: UUID version 7, so that ids sort by the time they were made."""

import os
import uuid


def uuid7(time_ns: int) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) as lower-case text.

    The first 48 bits are `time_ns` (nanoseconds since the Unix epoch, UTC) in milliseconds, the 74 bits that are
    not version or variant come from the operating system, so two processes forked from one never share an id.
    """
    milliseconds = (time_ns // 1_000_000) & 0xFFFF_FFFF_FFFF
    entropy = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | entropy
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
