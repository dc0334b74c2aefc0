"""The frame around every stored payload: what it is, in which form, and a checksum over all of it."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from monitor.ingest.elements import Buffer
from monitor.ingest.errors import PayloadDamagedError

MAGIC: Final = b"dfpl"
_HEAD: Final = struct.Struct("<4sBxxxII")  # magic, codec, header bytes, crc32 of all that follows


def seal(codec: int, header: Mapping[str, Any], buffers: Sequence[Buffer]) -> bytes:
    """A fixed head, the header as JSON, then the buffers one behind the other."""
    parts: list[Buffer] = [msgspec.json.encode(header), *buffers]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([_HEAD.pack(MAGIC, codec, len(parts[0]), checksum), *parts])


def unseal(payload: Buffer, codec: int, *, checked: bool = True) -> tuple[Any, memoryview]:
    """The header and the buffers of a payload in the form `codec`; PayloadDamagedError for anything else.

    `checked`: compare the checksum, which is for bytes that have been on a disk.
    """
    view = memoryview(payload)
    if view.nbytes < _HEAD.size:
        raise PayloadDamagedError(f"a payload of {view.nbytes} bytes has no head")
    magic, found, header_bytes, checksum = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise PayloadDamagedError("these bytes are no batch payload: the magic is missing")
    if found != codec:
        raise PayloadDamagedError(f"the payload is in codec {found}, where codec {codec} was to be read")
    if checked and zlib.crc32(view[_HEAD.size :]) != checksum:
        raise PayloadDamagedError("the payload's checksum does not match its bytes")
    end = _HEAD.size + header_bytes
    try:
        return msgspec.json.decode(view[_HEAD.size : end]), view[end:]
    except ValueError as error:
        raise PayloadDamagedError(f"the payload's header is no JSON: {error}") from error
