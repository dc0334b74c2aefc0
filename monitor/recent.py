"""What was committed a moment ago, kept in memory so that the fold need not read it back from disk."""

import threading
from collections.abc import Collection, Mapping
from typing import Final

from storage.batches import StoredBatch

MOST_BYTES: Final = 32 * 2**20
"""A second or two of traffic at full speed; the oldest go first, and are read from the database then."""


class Recent:
    """Batches that this daemon committed and has not folded yet, by id. Written by the writing thread, emptied by the fold.

    What is to be folded, and by whom, the database alone says: an id is never given out twice and a payload never
    changes, so a batch that is here is what a read would give. One that another daemon has taken over is not asked for,
    and goes when there is no room.
    """

    def __init__(self, writer: str, most_bytes: int = MOST_BYTES) -> None:
        self._writer = writer
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._held: dict[int, StoredBatch] = {}
        self._bytes = 0

    def put(self, batch: StoredBatch) -> None:
        """Keep a batch that is on disk, if it is this daemon's; what no longer fits is forgotten, oldest first."""
        if batch.writer != self._writer:
            return
        with self._lock:
            self._held[batch.id] = batch
            self._bytes += len(batch.payload)
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._held)))

    def take(self, ids: Collection[int]) -> Mapping[int, StoredBatch]:
        """Those of the batches that are here, which they are no longer."""
        with self._lock:
            return {batch_id: self._drop(batch_id) for batch_id in ids if batch_id in self._held}

    def _drop(self, batch_id: int) -> StoredBatch:
        batch = self._held.pop(batch_id)
        self._bytes -= len(batch.payload)
        return batch
