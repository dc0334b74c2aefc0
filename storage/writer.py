"""The one thread that writes: queued functions are grouped into one transaction and answered after its COMMIT."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, RootTransaction

from storage.errors import (
    OutcomeUnknown,
    StorageBroken,
    StorageClosed,
    StorageError,
    StorageFull,
    StorageReadOnly,
)
from storage.store import Link

T = TypeVar("T")

GROUP_LIMIT = 16
GROUP_SECONDS = 0.05
COMPANY_SECONDS = 0.005


@dataclass(slots=True, kw_only=True)
class _Write(Generic[T]):
    function: Callable[[Connection], T]
    future: Future[T]
    urgent: bool
    begun: bool = False

    def begin(self) -> bool:
        """Whether it is to be run, again perhaps; False where nobody wants it any more."""
        if self.begun:
            return not self.future.cancelled()
        self.begun = True
        return self.future.set_running_or_notify_cancel()


_Outcome = tuple[list[tuple[_Write[Any], Any]], list[tuple[_Write[Any], BaseException]]]


class Writer:
    """Runs functions on the only writing connection, in groups of up to `GROUP_LIMIT` per COMMIT.

    Whatever was queued while the last group was committed forms the next one. Where that were several urgent functions
    (ingest), so that others are likely to be on their way, the next group waits up to `COMPANY_SECONDS` for them: a
    COMMIT costs as much as the writes of several batches. A client alone never waits. Urgent functions go before the
    others, and may be run twice: at first all together, and where one of them raises, the transaction begins anew. In that,
    and always for the others, each function has a savepoint of its own, so one that raises undoes its own writes
    alone; a savepoint makes SQLite copy every page that is changed after it. No future is answered before the COMMIT, and a
    COMMIT that fails fails them all; where the engine says afterwards that it did not fail, they are answered as if nothing
    had been.
    """

    def __init__(self, link: Link, *, clock: Callable[[], float]) -> None:
        """`link` opens the writing connection, and opens it again after it broke; `clock` is monotonic."""
        self._link = link
        self._clock = clock
        self._connection: Connection | None = link.engine.connect()
        self._changed = threading.Condition()
        self._urgent: deque[_Write[Any]] = deque()
        self._ordinary: deque[_Write[Any]] = deque()
        self._running = 0
        self._crowded = False
        self._gathering = False
        self._closing = False
        self._last_error: str | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="driftd-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many writes are queued or in the group at work."""
        with self._changed:
            return len(self._urgent) + len(self._ordinary) + self._running

    @property
    def last_error(self) -> str | None:
        """Why the last transaction could not be written; None again after the next one that wrote something."""
        return self._last_error

    @property
    def failures(self) -> int:
        """How many transactions and writes the disk has failed so far."""
        return self._failures

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def submit(self, function: Callable[[Connection], T], *, urgent: bool) -> Future[T]:
        """Queue `function`; its future has the result once it is on disk."""
        if threading.current_thread() is self._thread:
            raise StorageError("a write was submitted from inside a write, which would wait for itself")
        write = _Write(function=function, future=Future(), urgent=urgent)
        with self._changed:
            if self._closing:
                raise StorageClosed("the database is closed; nothing was written")
            (self._urgent if urgent else self._ordinary).append(write)
            # Waking the thread for each would cost it more than the writes do.
            if not self._gathering or len(self._urgent) >= GROUP_LIMIT:
                self._changed.notify()
        return write.future

    def close(self) -> None:
        """Write what is queued, then close the connection; writes submitted from now on are refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._write(group)
            except BaseException as error:  # the thread must outlive whatever happens in it
                self._discard_connection()
                self._fail(group, error)
            with self._changed:
                self._running = 0
        if self._connection is not None:
            self._connection.close()

    def _next_group(self) -> list[_Write[Any]]:
        """Wait for writes; empty once the queues are drained after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._urgent or self._ordinary)
            if self._crowded:
                self._gathering = True
                self._changed.wait_for(
                    lambda: self._closing or len(self._urgent) >= GROUP_LIMIT, COMPANY_SECONDS
                )
                self._gathering = False
            self._crowded = len(self._urgent) > 1
            group: list[_Write[Any]] = []
            for queue in (self._urgent, self._ordinary):
                while queue and len(group) < GROUP_LIMIT:
                    group.append(queue.popleft())
            self._running = len(group)
            return group

    def _put_back(self, group: list[_Write[Any]], at: int) -> None:
        """Return the writes of the group from `at` on to the head of their queues."""
        with self._changed:
            for write in reversed(group[at:]):
                (self._urgent if write.urgent else self._ordinary).appendleft(write)
            del group[at:]
            self._running = len(group)

    def _write(self, group: list[_Write[Any]]) -> None:
        conn, transaction = self._begin()
        together = self._run_together(conn, group)
        if together is None:
            conn, transaction = self._begin_anew(transaction)
            done, failed = self._run_group(conn, group, 0)
        else:
            urgent = sum(write.urgent for write in group)
            done, failed = self._run_group(conn, group, urgent)
            done = together + done
        if failed and self._lost(conn, failed[-1][1]):
            # The whole transaction is gone (disk full, I/O error, lost connection): the others went with the one.
            self._discard_connection()
            self._fail([write for write, _ in done], failed[-1][1])
            done = []
        elif done:
            self._commit(conn, transaction)
        else:
            transaction.rollback()
        for write, error in failed:
            self._note(error)
            write.future.set_exception(error)
        for write, result in done:
            write.future.set_result(result)

    def _begin(self) -> tuple[Connection, RootTransaction]:
        """Begin a transaction; where the connection has died while it was idle, on a new one."""
        if self._connection is not None:
            try:
                return self._connection, self._connection.begin()
            except StorageBroken:
                self._discard_connection()
        self._connection = self._link.engine.connect()
        return self._connection, self._connection.begin()

    def _begin_anew(self, transaction: RootTransaction) -> tuple[Connection, RootTransaction]:
        try:
            transaction.rollback()
        except Exception:  # it is undone with its connection
            self._discard_connection()
        return self._begin()

    def _commit(self, conn: Connection, transaction: RootTransaction) -> None:
        receipt = self._link.receipt(conn)
        try:
            transaction.commit()
        except BaseException as error:
            self._discard_connection()
            if not self._link.committed(receipt, error):
                raise
        if receipt is not None:  # a transaction that only read shows nothing of the disk
            self._last_error = None

    def _lost(self, conn: Connection, error: BaseException) -> bool:
        """Whether nothing of the group can be committed on this connection any more."""
        return isinstance(error, StorageReadOnly) or not self._link.stands(conn)

    def _run_together(
        self, conn: Connection, group: list[_Write[Any]]
    ) -> list[tuple[_Write[Any], Any]] | None:
        """Run the urgent functions, which come first; None where one raised, and the transaction is to be undone.

        What did not get its turn in time is back in its queue.
        """
        done: list[tuple[_Write[Any], Any]] = []
        until = self._clock() + GROUP_SECONDS
        for at, write in enumerate(group):
            if not write.urgent:
                break
            if at and self._clock() > until:
                self._put_back(group, at)
                break
            if not write.begin():
                continue
            try:
                done.append((write, write.function(conn)))
            except BaseException:  # it is run again, by itself
                return None
        return done

    def _run_group(self, conn: Connection, group: list[_Write[Any]], start: int) -> _Outcome:
        """Run each function from `start` on in its savepoint; what did not get its turn in time is back in its queue."""
        done: list[tuple[_Write[Any], Any]] = []
        failed: list[tuple[_Write[Any], BaseException]] = []
        until = self._clock() + GROUP_SECONDS
        raw: Any = conn.connection.driver_connection
        driver = conn.dialect.loaded_dbapi.Error
        for at, write in enumerate(group[start:], start):
            if at and self._clock() > until:
                self._put_back(group, at)
                break
            if not write.begin():
                continue
            raw.execute("SAVEPOINT one_write")
            try:
                result = write.function(conn)
                raw.execute("RELEASE one_write")
            except BaseException as error:  # it belongs to whoever waits for the future
                cause = self._link.translate(error) if isinstance(error, driver) else error
                failed.append((write, cause))
                if self._lost(conn, cause):
                    self._put_back(group, at + 1)
                    break
                raw.execute("ROLLBACK TO one_write")
                raw.execute("RELEASE one_write")
            else:
                done.append((write, result))
        return done, failed

    def _fail(self, writes: Sequence[_Write[Any]], cause: BaseException) -> None:
        """Answer every write that has no answer yet: nothing of it was written, and why."""
        reason = self._link.translate(cause)
        self._last_error = str(reason)
        self._failures += 1
        for write in writes:
            future = write.future
            if future.done() or not (future.running() or future.set_running_or_notify_cancel()):
                continue
            unknown = isinstance(reason, OutcomeUnknown)
            error = type(reason)(str(reason) if unknown else f"nothing was written: {reason}")
            error.__cause__ = cause
            future.set_exception(error)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, (StorageBroken, StorageFull)):
            self._last_error = str(error)
            self._failures += 1

    def _discard_connection(self) -> None:
        # After a failed fsync nobody knows what the kernel kept; a fresh connection reads what is really there.
        conn, self._connection = self._connection, None
        if conn is None:
            return
        try:
            conn.invalidate()
            conn.close()
        except Exception as error:  # it is thrown away because it does not work
            self._last_error = str(self._link.translate(error))
