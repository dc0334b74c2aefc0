"""Bytes of decision state: a sealed frame, and integers of varying length. The same values give the same bytes."""

import zlib
from typing import Final

import numpy as np

from detectors.types import DetectorError, IntArray

_MAGIC_BYTES: Final = 4
_SUM_BYTES: Final = 4
_MAX_GROUPS: Final = 10  # 64 bits in groups of 7


def seal(magic: bytes, body: bytes) -> bytes:
    """`magic` (4 bytes, the last one the version), `body`, and their CRC-32, little-endian."""
    framed = magic + body
    return framed + zlib.crc32(framed).to_bytes(_SUM_BYTES, "little")


def unseal(magic: bytes, data: bytes, what: str) -> bytes:
    """The body of a sealed frame; another kind, another version or damage raises DetectorError naming `what`."""
    if len(data) < _MAGIC_BYTES + _SUM_BYTES or data[:3] != magic[:3]:
        raise DetectorError(f"{what}: these {len(data)} bytes are not stored {what}")
    if data[3:4] != magic[3:4]:
        raise DetectorError(f"{what}: version {data[3]} is not {magic[3]}; run the daemon that wrote it")
    framed, total = data[:-_SUM_BYTES], int.from_bytes(data[-_SUM_BYTES:], "little")
    if zlib.crc32(framed) != total:
        raise DetectorError(f"{what}: the stored bytes are damaged (CRC-32); restore the row from a backup")
    return framed[_MAGIC_BYTES:]


def pack_integers(values: IntArray) -> bytes:
    """Signed integers int64 [N] as zigzag LEB128: 1 byte within ±63, 2 within ±8191, at most 10.

    >>> pack_integers(np.array([0, -1, 1, 64])).hex(" ")
    '00 01 02 80 01'
    """
    signed = values.astype(np.int64)
    folded = (signed.view(np.uint64) << np.uint64(1)) ^ (signed >> 63).view(np.uint64)
    shifts = np.arange(_MAX_GROUPS, dtype=np.uint64) * np.uint64(7)
    rest = folded[:, np.newaxis] >> shifts
    used = rest > 0
    used[:, 0] = True
    more = np.zeros_like(used)
    more[:, :-1] = used[:, 1:]
    groups = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << np.uint8(7))
    return groups[used].tobytes()


def unpack_integers(data: bytes, what: str) -> IntArray:
    """Every integer in `data`, int64 [N]; a torn or overlong one raises DetectorError naming `what`."""
    groups = np.frombuffer(data, dtype=np.uint8)
    if groups.size == 0:
        return np.zeros(0, dtype=np.int64)
    last = groups < 0x80
    if not last[-1]:
        raise DetectorError(f"{what}: the stored bytes end inside an integer; restore the row from a backup")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if int((ends - starts).max()) >= _MAX_GROUPS:
        raise DetectorError(
            f"{what}: an integer of more than 64 bits is stored; restore the row from a backup"
        )
    place = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    bits = (groups & np.uint8(0x7F)).astype(np.uint64) << (place.astype(np.uint64) * np.uint64(7))
    folded = np.bitwise_or.reduceat(bits, starts)
    negative = (folded & np.uint64(1)).astype(np.int64)
    unfolded: IntArray = (folded >> np.uint64(1)).view(np.int64) ^ -negative
    return unfolded
