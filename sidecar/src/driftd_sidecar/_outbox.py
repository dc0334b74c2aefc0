"""The outbox: rows and labels that were cut from the buffer, as batches, a queue of each kind in the order to send."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._cells import Cells
from driftd_sidecar._count import Pane
from driftd_sidecar._counted import encode_counts
from driftd_sidecar._ids import uuid7
from driftd_sidecar._kind import Kind
from driftd_sidecar._lane import Lane, Slice
from driftd_sidecar._notices import Notices
from driftd_sidecar._slices import tables_of
from driftd_sidecar._spool import Frame, Spool
from driftd_sidecar._wire import Envelope, Table, Told, encode

REPLACED = "counted on a baseline that was replaced"
_BATCH_OVERHEAD_BYTES = 2048  # header, ids, objects
_COUNTS_OVERHEAD_BYTES = 1024
_ON_DISK_BYTES = 512  # what a batch in the spool still holds in memory


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """Waiting rows. Encoded at the first attempt (counts: at once) and never again: a repeated id must carry the same bytes.

    `rows` are of this process, `adopted` of a dead one whose spool was taken over: they are in no books of ours.
    Counts are of the baseline `fingerprint`. `tried`: it may have been received, though nobody said so.
    """

    number: int
    rows: int
    cost: int
    kind: Kind = Kind.PREDICTIONS
    rate: float = 1.0
    table: Table | None = None
    id: str = ""
    body: bytes = b""
    header_bytes: int = 0
    dropped: int = 0
    failed: int = 0
    path: Path | None = None
    adopted: int = 0
    fingerprint: str = ""
    tried: bool = False


class Outbox:
    """Batches and what becomes of them, but for the sending. Of each kind the spooled ones are older than those in memory."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        model_version: str,
        batch_bytes: int,
        spool: Spool | None,
        notices: Notices,
        wall_ns: Callable[[], int],
        lost: Callable[[int], None],
    ) -> None:
        self._buffer = buffer
        self._model_version = model_version
        self._batch_bytes = batch_bytes
        self._spool = spool
        self._notices = notices
        self._wall_ns = wall_ns
        self._lost = lost  # told the number of each batch that nobody will acknowledge to this process
        self._restart()

    def _restart(self) -> None:
        self._queues: dict[Kind, deque[Batch]] = {kind: deque() for kind in Kind}
        self._adopted = False
        self._told_drops = 0  # in the headers of batches that were sent or still wait
        self._told_failures = 0
        self.number = 0  # of the youngest batch

    @property
    def heads(self) -> list[Batch]:
        """The batch of each kind to send next."""
        return [queue[0] for queue in self._queues.values() if queue]

    def untried(self, kinds: Iterable[Kind]) -> Batch | None:
        """The oldest batch of these that was surely never received: not one at a head, whose answer may have been lost."""
        seconds = [queue[1] for kind in kinds if len(queue := self._queues[kind]) > 1]
        return min(seconds, key=lambda batch: batch.number, default=None)

    def add(self, ready: Sequence[tuple[Lane, Slice]]) -> None:
        """Turns slices of lanes into batches."""
        for lane, piece in ready:
            size, kind = 0, lane.recipe.kind
            for table in tables_of(lane.recipe, piece.entries, piece.rows, self._buffer, self._notices):
                for part in table.split(self._batch_bytes):
                    self.number += 1
                    cost = part.size + _BATCH_OVERHEAD_BYTES
                    size += cost
                    self._queues[kind].append(
                        Batch(
                            number=self.number,
                            kind=kind,
                            rows=part.rows,
                            rate=lane.rate,
                            cost=cost,
                            table=part,
                        )
                    )
            self._buffer.recharge(size - piece.cost)

    def add_counts(self, cells: Cells, panes: Sequence[Pane]) -> None:
        """Makes a batch of panes. It is written at once: compressed, they take the least room while they wait."""
        self.number += 1
        rows = sum(pane.rows for pane in panes if not pane.segment)
        batch = Batch(number=self.number, rows=rows, cost=0, fingerprint=cells.fingerprint)
        self._queues[batch.kind].append(batch)
        if self._encode(batch, lambda envelope: (encode_counts(cells, panes, envelope), 0)):
            batch.cost = len(batch.body) + _COUNTS_OVERHEAD_BYTES
            self._buffer.recharge(batch.cost)

    def outdated(self, fingerprint: str) -> None:
        """The daemon goes by another baseline now: gives up counts of this one, but for what it may have taken before."""
        for batch in list(self._queues[Kind.PREDICTIONS]):
            if batch.fingerprint == fingerprint and not batch.tried:
                self.give_up(batch, REPLACED)

    def frame(self, batch: Batch) -> Frame | None:
        """The bytes of the oldest batch of its kind, the same ones each time. None: it was given up instead."""
        batch.tried = True
        if batch.path is None:
            return self._encoded(batch)
        assert self._spool is not None
        frame = self._spool.read(batch.path)
        if frame is None:
            self.give_up(batch, "its file in the spool is corrupt")
        return frame

    def _encoded(self, batch: Batch) -> Frame | None:
        table = batch.table
        if table is not None and not self._encode(batch, lambda envelope: encode(table, envelope)):
            return None
        return Frame(
            id=batch.id, kind=batch.kind, rows=batch.rows, header_bytes=batch.header_bytes, body=batch.body
        )

    def _encode(self, batch: Batch, write: Callable[[Envelope], tuple[bytes, int]]) -> bool:
        wall = self._wall_ns()
        batch.id = uuid7(wall)
        envelope = Envelope(
            id=batch.id, model_version=self._model_version, sent_at_ns=wall, books=self._told(batch)
        )
        try:
            batch.body, batch.header_bytes = write(envelope)
        except Exception as error:  # a batch that cannot be written must not stop the ones behind it
            batch.dropped = batch.failed = 0
            self.give_up(batch, f"it cannot be encoded: {error}")
            return False
        self._told_drops += batch.dropped
        self._told_failures += batch.failed
        batch.table = None
        return True

    def _told(self, batch: Batch) -> Told | None:
        """What no batch has told so far, for this one to tell. Labels tell nothing: they are no predictions."""
        if batch.kind is Kind.LABELS:
            return None
        dropped, failed = self._buffer.told
        batch.dropped, batch.failed = dropped - self._told_drops, failed - self._told_failures
        return Told(
            kept=batch.rows,
            dropped=batch.dropped,
            failed_inferences=batch.failed,
            sample_rate=batch.rate,
        )

    def delivered(self, batch: Batch, rejected: int) -> None:
        """The daemon has the oldest batch of its kind."""
        self._buffer.count_sent(batch.kind, batch.rows, recovered=batch.adopted, rejected=rejected)
        self._remove(batch)

    def give_up(self, batch: Batch, reason: str, detail: str = "") -> None:
        """Lets a batch go, with what its header would have told: the next one tells it."""
        self._told_drops -= batch.dropped
        self._told_failures -= batch.failed
        self._buffer.count_given_up(batch.kind, batch.rows)
        if batch.rows:
            self._lost(batch.number)
        rows = batch.rows + batch.adopted
        self._notices.once(
            f"give up {batch.kind} {reason}",
            "a batch of %d %s is given up: %s",
            rows,
            batch.kind.unit,
            f"{reason}: {detail}" if detail else reason,
        )
        self._remove(batch)

    def _remove(self, batch: Batch) -> None:
        self._queues[batch.kind].remove(batch)
        self._buffer.recharge(-batch.cost)
        if batch.path is not None and self._spool is not None:
            self._spool.remove(batch.path)
            self._buffer.count_spooled(batch.kind, -batch.rows)

    def spill(self, kinds: Iterable[Kind]) -> bool:
        """Moves what waits of these in memory to the spool, as far as there is one and it has room. Whether anything moved."""
        if self._spool is None:
            return False
        moved = [self._spill(self._spool, self._queues[kind]) for kind in kinds]
        return any(moved)

    def _spill(self, spool: Spool, queue: deque[Batch]) -> bool:
        in_memory: list[Batch] = []
        for batch in reversed(queue):
            if batch.path is not None:
                break
            in_memory.append(batch)
        moved = False
        for batch in reversed(in_memory):
            frame = self._encoded(batch)
            if frame is None:
                continue
            batch.path = spool.write(frame)
            if batch.path is None:
                break
            moved = True
            self._buffer.count_spooled(batch.kind, batch.rows)
            self._buffer.recharge(_ON_DISK_BYTES - batch.cost)
            batch.cost, batch.body = _ON_DISK_BYTES, b""
        return moved

    def adopt(self) -> None:
        """Once: what a dead process left in the spool goes first."""
        if self._adopted or self._spool is None:
            return
        self._adopted = True
        for path, kind, rows in reversed(self._spool.adopt()):
            self._buffer.recharge(_ON_DISK_BYTES)
            self._queues[kind].appendleft(
                Batch(number=0, kind=kind, rows=0, adopted=rows, cost=_ON_DISK_BYTES, path=path)
            )

    def abandon(self) -> None:
        """Closed: what the spool does not take is dropped and counted."""
        self.spill(Kind)
        for queue in self._queues.values():
            for batch in list(queue):
                if batch.path is None:
                    self.give_up(batch, "the logger is closed")
                elif batch.rows:
                    self._lost(batch.number)
            queue.clear()
        if self._spool is not None:
            self._spool.close()

    def reset_after_fork(self) -> None:
        """The batches, on disk and in memory, are the parent's."""
        self._restart()
        if self._spool is not None:
            self._spool.reset_after_fork()
