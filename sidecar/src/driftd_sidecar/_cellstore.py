"""The cells on disk, beside the spool: a device that starts without a connection counts on those it had."""

import contextlib
import hashlib
import os
import secrets
import struct
import zlib
from pathlib import Path

_HEAD = struct.Struct("<8sI")
_MAGIC = b"DRIFTCL1"


class CellStore:
    """One file per model version. No method raises OSError: without the file the daemon is asked.

    Processes may share it: a file is replaced as a whole.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._path = folder / f".cells-{hashlib.sha256(version.encode()).hexdigest()[:32]}"

    def read(self) -> bytes | None:
        """The document that was last written; None when there is none, or not all of it."""
        with contextlib.suppress(OSError, struct.error):
            raw = self._path.read_bytes()
            magic, checksum = _HEAD.unpack_from(raw)
            document = raw[_HEAD.size :]
            if magic == _MAGIC and zlib.crc32(document) == checksum:
                return document
        return None

    def write(self, document: bytes) -> None:
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
            unfinished.write_bytes(_HEAD.pack(_MAGIC, zlib.crc32(document)) + document)
            unfinished.replace(self._path)

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
