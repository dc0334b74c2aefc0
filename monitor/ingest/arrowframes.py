"""The frames of an Arrow IPC stream, walked without reading a value: is it whole, and what would it inflate to?

pyarrow inflates every compressed buffer of a body the moment it reads it, and has no limit to be told. So the
declared sizes are added up first. Frame: `FF FF FF FF`, int32 metadata bytes, a flatbuffer `Message`, its body
(Arrow columnar format, "Encapsulated message format"); a compressed buffer begins with its inflated size, int64, -1 for
one that is kept as it is (Message.fbs, `BodyCompression`). A decompressor never writes beyond the size declared.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from monitor.ingest.errors import MalformedError, TooLargeError

MAX_FRAMES: Final = 4096
FILE_MAGIC: Final = b"ARROW1"

_PREFIX: Final = struct.Struct("<Ii")
_CONTINUATION: Final = 0xFFFFFFFF
_I16, _I32, _U32, _I64 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_MESSAGE_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY = 1, 2, 3
_DICTIONARY_DATA: Final = 1
_BATCH_BUFFERS, _BATCH_COMPRESSION = 2, 3


def stream_of(body: bytes, *, is_file: bool) -> memoryview:
    """The stream in a body: all of it, or what the file format wraps, whose footer only repeats what the stream says."""
    view = memoryview(body)
    if not is_file:
        return view
    if not body.startswith(FILE_MAGIC) or not body.endswith(FILE_MAGIC) or len(body) < 24:
        raise MalformedError("the body is no Arrow file; a stream is application/vnd.apache.arrow.stream")
    return view[8:]


def check_frames(stream: memoryview, limit: int, *, is_file: bool) -> None:
    """Refuse a stream that is broken or cut, or whose buffers inflate to more than `limit` bytes in all."""
    try:
        _walk(stream, limit, is_file=is_file)
    except (struct.error, IndexError, OverflowError) as error:
        raise MalformedError("the body is no Arrow IPC stream: a message's metadata is broken") from error


def _walk(stream: memoryview, limit: int, *, is_file: bool) -> None:
    at = inflated = frames = 0
    ended = False
    while at < stream.nbytes and not ended:
        marker, size = _PREFIX.unpack_from(stream, at)
        if marker != _CONTINUATION or size < 0:
            raise MalformedError(f"the body is no Arrow IPC stream: no message begins at byte {at}")
        at += _PREFIX.size
        if size == 0:
            ended = True
            continue
        frames += 1
        if frames > MAX_FRAMES:
            raise TooLargeError(f"the stream has more than {MAX_FRAMES} messages; send fewer, larger batches")
        message = _Table.root(stream[at : at + size])
        length = message.integer(_MESSAGE_BODY)
        at += size
        if length < 0 or length > stream.nbytes - at:
            raise MalformedError("the Arrow stream is cut short")
        inflated += _inflated(message, stream[at : at + length])
        if inflated > limit:
            raise TooLargeError(f"the buffers inflate to more than {limit} bytes; send smaller batches")
        at += length
    if frames == 0:
        raise MalformedError("the body is no Arrow IPC stream: it holds no message")
    # A stream may end without its mark; bytes behind the mark would be data that nobody counts.
    if at != stream.nbytes and not is_file:
        raise MalformedError("bytes follow the end of the Arrow stream; send exactly one")


def _inflated(message: "_Table", body: memoryview) -> int:
    """The bytes of one message's buffers once read."""
    kind = message.byte(_MESSAGE_TYPE)
    if kind not in (_SCHEMA, _DICTIONARY, _RECORDS):
        raise MalformedError("the Arrow stream holds a message that is no schema, dictionary or record batch")
    if kind == _SCHEMA:
        return 0
    batch = message.table(_MESSAGE_HEADER)
    if kind == _DICTIONARY:
        batch = batch.table(_DICTIONARY_DATA)
    if not batch.has(_BATCH_COMPRESSION):
        return body.nbytes
    total = 0
    for offset, length in batch.pairs(_BATCH_BUFFERS):
        if length == 0:
            continue
        if offset < 0 or length < _I64.size or offset + length > body.nbytes:
            raise MalformedError("a buffer of the Arrow stream lies outside its message")
        declared = _I64.unpack_from(body, offset)[0]
        if declared < -1:
            raise MalformedError("a compressed buffer of the Arrow stream declares a negative size")
        total += length if declared == -1 else declared
    return total


@dataclass(frozen=True, slots=True)
class _Table:
    """A flatbuffer table: `at` is where it begins; fields are found through its vtable."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> "_Table":
        return cls(data, _U32.unpack_from(data, 0)[0])

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def byte(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else self.data[place]

    def integer(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else int(_I64.unpack_from(self.data, place)[0])

    def table(self, field: int) -> "_Table":
        return _Table(self.data, self._target(field))

    def pairs(self, field: int) -> list[list[int]]:
        """A vector of structs of two int64."""
        at = self._target(field)
        count = _U32.unpack_from(self.data, at)[0]
        end = at + 4 + 16 * count
        if end > self.data.nbytes:
            raise IndexError("the vector is cut short")
        found = np.frombuffer(self.data[at + 4 : end], dtype="<i8")
        pairs: list[list[int]] = found.reshape(-1, 2).tolist()
        return pairs

    def _target(self, field: int) -> int:
        place = self._place(field)
        if place is None:
            raise IndexError("a field is missing")
        return place + int(_U32.unpack_from(self.data, place)[0])

    def _place(self, field: int) -> int | None:
        vtable = self.at - _I32.unpack_from(self.data, self.at)[0]
        if vtable < 0:
            raise IndexError("a vtable lies before its message")
        slot = 4 + 2 * field
        if slot >= _I16.unpack_from(self.data, vtable)[0]:
            return None
        offset = _I16.unpack_from(self.data, vtable + slot)[0]
        return self.at + offset if offset else None
