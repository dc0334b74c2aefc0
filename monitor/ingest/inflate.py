"""Compressed bodies, inflated in bounded steps: a bomb costs its limit, never its size.

Exactly one gzip member or zstd frame per body: a second one, trailing bytes or a cut end are refused, since each
would be data somebody meant to send and nobody counted.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Final

import zstandard

from monitor.ingest.errors import MalformedError, TooLargeError, UnsupportedError

_STEP: Final = 2**20
_MAX_WINDOW: Final = 2**23  # what RFC 8878 asks every decoder to support


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content encoding ("", "identity", "gzip" or "zstd"), at most `limit` bytes.

    TooLargeError (413) beyond the limit, MalformedError (400) for broken data, UnsupportedError (415).
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _DECODERS:
        raise UnsupportedError(
            f"content encoding {name[:40]!r} is not supported; send {', '.join(_DECODERS)} or none"
        )
    return _DECODERS[name](body, limit)


def _gunzip(body: bytes, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    size = 0
    pending = body
    try:
        while not decoder.eof:
            part = decoder.decompress(pending, _STEP)
            pending = decoder.unconsumed_tail
            size += len(part)
            if size > limit:
                raise _bomb(limit)
            parts.append(part)
            if not part and not pending and not decoder.eof:
                raise MalformedError("the gzip body is cut short")
    except zlib.error as error:
        raise MalformedError(f"the body is not gzip: {error}") from error
    if decoder.unused_data:
        raise MalformedError("bytes follow the gzip member; send exactly one")
    return b"".join(parts)


def _unzstd(body: bytes, limit: int) -> bytes:
    buffer = bytearray(_STEP)
    size = 0
    try:
        # A few bytes of zstd may stand for 128 KiB, so the size is measured before anything is kept. The second
        # pass is needed because only it tells a cut frame, or one with bytes behind it, from a whole one.
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(body) as reader:
            while count := reader.readinto(buffer):
                size += count
                if size > limit:
                    raise _bomb(limit)
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
        inflated = decoder.decompress(body)
    except zstandard.ZstdError as error:
        raise MalformedError(f"the body is not zstd: {error}") from error
    if not decoder.eof:
        raise MalformedError("the zstd body is cut short")
    if decoder.unused_data:
        raise MalformedError("bytes follow the zstd frame; send exactly one")
    return inflated


def _bomb(limit: int) -> TooLargeError:
    return TooLargeError(f"the body inflates to more than {limit} bytes; send smaller batches")


_DECODERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {"gzip": _gunzip, "zstd": _unzstd}
