"""The elements of BYTES tensors: a little-endian uint32 length before each, as in the OIP binary extension."""

import struct
from collections.abc import Iterable
from typing import Final

NULL_LENGTH: Final = 0xFFFFFFFF
"""The length that stands for null; on the wire as in stored payloads."""

_LENGTH: Final = struct.Struct("<I")
_NULL: Final = _LENGTH.pack(NULL_LENGTH)

Buffer = bytes | bytearray | memoryview


def encode_elements(values: Iterable[bytes | str | None]) -> bytes:
    """Elements in order, each behind its length.

    >>> encode_elements(["é", None]).hex(" ")
    '02 00 00 00 c3 a9 ff ff ff ff'
    """
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
            continue
        raw = value.encode() if isinstance(value, str) else value
        parts.append(_LENGTH.pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def decode_elements(data: Buffer, count: int) -> list[bytes | None]:
    """The `count` elements that fill `data` exactly; ValueError where they do not."""
    view = bytes(data)
    end = len(view)
    if count * _LENGTH.size > end:
        raise ValueError(f"{end} bytes cannot hold {count} BYTES elements")
    elements: list[bytes | None] = []
    at = 0
    unpack = _LENGTH.unpack_from
    for index in range(count):
        if at + 4 > end:
            raise ValueError(f"BYTES element {index} has no length: the data ends after {end} bytes")
        length = unpack(view, at)[0]
        at += 4
        if length == NULL_LENGTH:
            elements.append(None)
            continue
        if at + length > end:
            raise ValueError(f"BYTES element {index} claims {length} bytes, {end - at} are left")
        elements.append(view[at : at + length])
        at += length
    if at != end:
        raise ValueError(f"{end - at} bytes are left behind the {count} BYTES elements")
    return elements
