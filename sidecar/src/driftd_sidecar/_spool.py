"""The spool: batches that wait on disk for a daemon that does not answer.

One file per batch, one folder per process, locked while the process lives. A process that starts takes over the
folders of the dead. Layout of a file: the magic, the lengths of what follows, a CRC-32 over it, a JSON object
`{id, kind, rows, header_bytes}`, the body; without `kind` they are predictions. A file that does not read back is set aside as `*.corrupt` and blocks nobody.
"""

import contextlib
import json
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from driftd_sidecar._kind import Kind
from driftd_sidecar._notices import Notices

try:
    import fcntl
except ImportError:  # pragma: no cover  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_HEAD = struct.Struct("<8sIQI")  # magic, bytes of JSON, bytes of body, CRC-32 of both
_MAGIC = b"DRIFTSP1"
_BATCH = ".batch"
_CORRUPT = ".corrupt"
_LOCK = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a file holds: a batch as it was encoded, to be sent byte by byte as it is.

    `header_bytes` is the length of the JSON header before the tensors, 0 for a body of counts.
    """

    id: str
    rows: int
    header_bytes: int
    body: bytes
    kind: Kind = Kind.PREDICTIONS


class Adopted(NamedTuple):
    """A file that a dead process left, now ours."""

    path: Path
    kind: Kind
    rows: int


class Spool:
    """The files of one process under `folder`, at most `limit_bytes` of them. Only one thread may use it.

    Nothing is touched before the first `write` or `adopt`. No method raises OSError: what the disk refuses is said
    once, and the batch stays in memory.
    """

    def __init__(self, folder: Path, limit_bytes: int, notices: Notices) -> None:
        if fcntl is None:
            raise ValueError("spool_dir needs a POSIX system, for its file locks")
        self._folder = folder
        self._limit = limit_bytes
        self._notices = notices
        self._own: Path | None = None
        self._lock = -1
        self._used = 0

    def write(self, frame: Frame) -> Path | None:
        """The file that now holds the batch, synced; None when there is no room or the disk refuses."""
        meta = json.dumps(
            {"id": frame.id, "kind": frame.kind, "rows": frame.rows, "header_bytes": frame.header_bytes}
        ).encode()
        size = _HEAD.size + len(meta) + len(frame.body)
        if self._used + size > self._limit:
            return None
        checksum = zlib.crc32(frame.body, zlib.crc32(meta))
        head = _HEAD.pack(_MAGIC, len(meta), len(frame.body), checksum)
        try:
            path = self._home() / (frame.id + _BATCH)
            _write_synced(path, (head, meta, frame.body))
        except OSError as error:
            self._refused("write to", error)
            return None
        self._used += size
        return path

    def read(self, path: Path) -> Frame | None:
        """The batch of a file; None when it is not what was written, which sets it aside."""
        try:
            return _parse(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            self._notices.once("spool corrupt", "the spool file %s is set aside: %s", path, error)
            with contextlib.suppress(OSError):  # gone already, or a disk that takes no rename
                path.rename(path.with_suffix(_CORRUPT))
            return None

    def remove(self, path: Path) -> None:
        """Forgets a batch: it was delivered or given up."""
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            if path.exists():  # it will be sent again by the next process, under the same id
                self._refused("remove from", error)
            return
        self._used -= size

    def adopt(self) -> list[Adopted]:
        """Takes over the batches of dead processes, the oldest first."""
        try:
            if not self._folder.is_dir():
                return []
            paths = [path for dead in self._dead() for path in self._take(dead)]
        except OSError as error:
            self._refused("adopt from", error)
            return []
        frames = [(path, self.read(path)) for path in sorted(paths) if path.suffix == _BATCH]
        return [Adopted(path, frame.kind, frame.rows) for path, frame in frames if frame is not None]

    def _dead(self) -> Iterator[Path]:
        """Folders of other processes that nobody holds, each locked by us while it is handed out."""
        for folder in sorted(self._folder.iterdir()):
            if folder == self._own or folder.name.startswith(".") or not folder.is_dir():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                yield folder
            finally:
                os.close(lock)

    def _take(self, dead: Path) -> Iterator[Path]:
        home = self._home()
        for path in sorted(dead.iterdir()):
            if path.suffix in {_BATCH, _CORRUPT}:
                mine = path.rename(home / path.name)
                self._used += mine.stat().st_size
                yield mine
        shutil.rmtree(dead, ignore_errors=True)  # the lock, and what was being written when it died

    def _home(self) -> Path:
        """Our folder, made and locked on first use: under a hidden name first, which nobody adopts."""
        if self._own is None:
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            hidden = self._folder / f".{name}"
            hidden.mkdir(parents=True, mode=0o700)
            self._lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._own = hidden.rename(self._folder / name)
        return self._own

    def close(self) -> None:
        """Leaves what is there to the next process, and no folder when nothing is."""
        if self._own is not None:
            with contextlib.suppress(OSError):
                if all(path.name == _LOCK for path in self._own.iterdir()):
                    shutil.rmtree(self._own, ignore_errors=True)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """The folder is the parent's. Closing our copy of its lock leaves the lock with the parent."""
        if self._lock >= 0:
            os.close(self._lock)
        self._own, self._lock, self._used = None, -1, 0

    def _refused(self, what: str, error: OSError) -> None:
        self._notices.once(f"spool {what}", "cannot %s the spool, rows stay in memory: %s", what, error)


def _write_synced(path: Path, pieces: tuple[bytes, ...]) -> None:
    """Whole or not at all, whenever the machine stops."""
    unfinished = path.with_suffix(".part")
    try:
        with unfinished.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parse(raw: bytes) -> Frame:
    magic, meta_bytes, body_bytes, checksum = _HEAD.unpack_from(raw)
    meta, body = raw[_HEAD.size : _HEAD.size + meta_bytes], raw[_HEAD.size + meta_bytes :]
    if magic != _MAGIC or len(body) != body_bytes:
        raise ValueError("it is not whole")
    if zlib.crc32(body, zlib.crc32(meta)) != checksum:
        raise ValueError("its checksum is wrong")
    told = json.loads(meta)
    return Frame(
        id=told["id"],
        kind=Kind(told.get("kind", Kind.PREDICTIONS)),
        rows=told["rows"],
        header_bytes=told["header_bytes"],
        body=body,
    )
