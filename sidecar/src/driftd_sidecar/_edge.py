"""Edge mode: rows are counted here, on the baseline's cells, and only the counts leave.

Rows wait in the buffer until the daemon has said what the cells are, which it need do only once. From then on they are
added to the panes of their event times; a pane leaves when its time is over.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._cells import Cells
from driftd_sidecar._count import Counter, Pane, merged
from driftd_sidecar._fetch import CellsSource
from driftd_sidecar._frame import RefusedError, frame
from driftd_sidecar._kind import Kind
from driftd_sidecar._lane import Lane, Slice
from driftd_sidecar._notices import Notices
from driftd_sidecar._outbox import REPLACED, Outbox
from driftd_sidecar._slices import tables_of
from driftd_sidecar._wire import Table, join

_SECOND = 1_000_000_000
_LONGEST_OPEN_SECONDS = 3600.0  # longer panes leave in parts: a crash must not cost a day
_TABLE_OVERHEAD_BYTES = 2048
_BATCH_SLOTS = 2_000_000  # the daemon looks at all slots of a batch at once, filled or not


@dataclass(slots=True, kw_only=True)
class _Raw:
    """Rows that wait to be counted; `rate` is the share of those served that was kept."""

    table: Table
    rate: float
    cost: int


@dataclass(slots=True, kw_only=True)
class _Open:
    """A pane that takes rows; it was opened at `since` in monotonic seconds."""

    pane: Pane
    since: float


class Edge:
    """Between the buffer and the outbox of one logger. Only its thread may use it.

    The rows here are admitted and not sent: to the books they are pending.
    """

    def __init__(
        self,
        *,
        buffer: Buffer,
        outbox: Outbox,
        source: CellsSource,
        batch_bytes: int,
        grace_seconds: float,
        notices: Notices,
        wall_ns: Callable[[], int],
        lost: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._outbox = outbox
        self._source = source
        self._batch_bytes = batch_bytes
        self._notices = notices
        # A row on its way into the buffer belongs to its pane, too.
        self._grace_ns = int(grace_seconds * _SECOND)
        self._wall_ns = wall_ns
        self._lost = lost  # told of rows that will never be sent
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Rows and panes are the parent's. Cells are the same for both."""
        self._raw: deque[_Raw] = deque()
        self._open: dict[tuple[str, int], _Open] = {}
        self._counter: Counter | None = None
        self._ended = 0
        self._source.reset_after_fork()

    @property
    def uncounted(self) -> bool:
        """Whether rows wait for cells."""
        return bool(self._raw)

    def over(self) -> bool:
        """Whether the time of a pane is over since this was last asked."""
        if self._counter is None:
            return False
        before = self._ended
        self._ended = (self._wall_ns() - self._grace_ns) // (self._counter.cells.pane_seconds * _SECOND)
        return before != self._ended

    def take(self, ready: Iterable[tuple[Lane, Slice]]) -> None:
        """Rows cut from the buffer."""
        for lane, piece in ready:
            size = 0
            for table in tables_of(lane.recipe, piece.entries, piece.rows, self._buffer, self._notices):
                for part in table.split(self._batch_bytes):
                    raw = _Raw(table=part, rate=lane.rate, cost=part.size + _TABLE_OVERHEAD_BYTES)
                    size += raw.cost
                    self._raw.append(raw)
            self._buffer.recharge(size - piece.cost)

    def step(self, now: float, *, everything: bool) -> None:
        """Asks for cells if it is time, counts what waits, and hands over what is due. `now` is monotonic seconds."""
        self._renew(self._source.cells(now, urgent=everything))
        if self._counter is None:
            return
        while self._raw:
            rate = self._raw[0].rate
            self._count(self._counter, self._group(), rate, now)
        self._ship(self._counter.cells, self._due(now, everything=everything))

    def replaced(self, fingerprint: str | None) -> None:
        """The daemon goes by another baseline than a batch of counts did."""
        if self._counter is not None and fingerprint != self._counter.cells.fingerprint:
            self._source.forget()
            self._renew(None)

    def make_room(self) -> bool:
        """Lets the oldest rows that wait for cells go. False: there are none."""
        if not self._raw:
            return False
        raw = self._raw.popleft()
        self._buffer.recharge(-raw.cost)
        self._drop(raw.table.rows, "the buffer is full and the daemon has not said how to count")
        return True

    def abandon(self) -> None:
        """Closed: what could not be counted is dropped and counted as that."""
        for raw in self._raw:
            self._buffer.recharge(-raw.cost)
            self._drop(raw.table.rows, "the logger is closed and the daemon never said how to count")
        self._raw.clear()

    def _renew(self, cells: Cells | None) -> None:
        """Goes on with these cells. What is open on those of another baseline adds up with nothing any more."""
        known = None if self._counter is None else self._counter.cells
        if cells is known:
            return
        if known is not None and (cells is None or cells.fingerprint != known.fingerprint):
            self._outbox.outdated(known.fingerprint)
            opened = [each.pane for each in self._open.values()]
            self._open.clear()
            self._buffer.recharge(-sum(pane.size for pane in opened))
            self._drop(sum(pane.rows for pane in opened if not pane.segment), REPLACED)
        self._counter = None if cells is None else Counter(cells)

    def _group(self) -> list[Table]:
        """Tables that can be counted as one, the oldest first: many rows at once cost little more than few."""
        first = self._raw[0]
        signature, size = first.table.signature, 0
        tables: list[Table] = []
        while self._raw:
            raw = self._raw[0]
            size += raw.cost
            alike = raw.rate == first.rate and raw.table.signature == signature
            if tables and not (alike and size <= self._batch_bytes):
                break
            self._raw.popleft()
            self._buffer.recharge(-raw.cost)
            tables.append(raw.table)
        return tables

    def _count(self, counter: Counter, tables: Sequence[Table], rate: float, now: float) -> None:
        rows = sum(table.rows for table in tables)
        try:
            read = frame(join(tables), counter.cells)
            found = counter.count(read, rate)
            bad = rows - int(read.good.sum())
        except RefusedError as refusal:
            self._drop(rows, f"the daemon would refuse them: {refusal}")
            return
        except Exception as error:  # whatever the application handed in: these rows, and no others
            if len(tables) > 1:
                for table in tables:
                    self._count(counter, [table], rate, now)
                return
            self._buffer.count_error(rows, admitted=True)
            self._lost()
            self._notices.once(f"count {type(error).__name__}", "rows are dropped, not countable: %r", error)
            return
        self._drop(bad, "their text is not UTF-8 or holds NUL")
        for pane in found:
            self._add(pane, now)

    def _add(self, pane: Pane, now: float) -> None:
        key = pane.segment, pane.start
        into = self._open.get(key)
        if into is None:
            self._open[key] = _Open(pane=pane, since=now)
            self._buffer.recharge(pane.size)
            return
        before = into.pane.size
        merged(into.pane, pane)
        self._buffer.recharge(into.pane.size - before)

    def _due(self, now: float, *, everything: bool) -> list[Pane]:
        """Panes whose time is over, or that have been open for an hour; a segment's leave with those of all rows."""
        assert self._counter is not None
        ended = self._wall_ns() - self._grace_ns - self._counter.cells.pane_seconds * _SECOND
        starts = {
            start
            for (segment, start), each in self._open.items()
            if not segment
            and (everything or start * _SECOND <= ended or now - each.since >= _LONGEST_OPEN_SECONDS)
        }
        keys = sorted((start, segment) for segment, start in self._open if start in starts)
        return [self._open.pop((segment, start)).pane for start, segment in keys]

    def _ship(self, cells: Cells, due: Sequence[Pane]) -> None:
        """Batches of about `batch_bytes` of panes, and not too many slots; each start with its segments in one."""
        most = max(1, _BATCH_SLOTS // cells.length)  # of panes of all rows
        group: list[Pane] = []
        size = wholes = 0
        for pane in due:
            full = size + pane.size > self._batch_bytes or wholes == most
            if group and full and not pane.segment:
                self._outbox.add_counts(cells, group)
                group, size, wholes = [], 0, 0
            group.append(pane)
            size += pane.size
            wholes += not pane.segment
            self._buffer.recharge(-pane.size)
        if group:
            self._outbox.add_counts(cells, group)

    def _drop(self, rows: int, reason: str) -> None:
        if rows:
            self._buffer.count_given_up(Kind.PREDICTIONS, rows)
            self._lost()
            self._notices.once(f"edge {reason}", "%d rows are dropped: %s", rows, reason)
