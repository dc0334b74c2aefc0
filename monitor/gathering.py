"""A queue that is emptied in groups: what arrives within a few milliseconds is taken out together."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

GROUP_BYTES: Final = 8 * 2**20
"""A group, at most; or one item that is larger alone."""
GATHER_SECONDS: Final = 0.02
"""How long the first of a group waits for company."""
LULL_SECONDS: Final = 0.01
"""Company has come when nobody came for so long, or when as many came as in the largest of the last `REMEMBERED` groups:
senders that wait for their answers send nothing more."""
REMEMBERED: Final = 16


class Sized(Protocol):
    """What waits here takes memory."""

    @property
    def held_bytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Gathering(Generic[T]):
    """Put by any thread, taken by one. Where the last group was one item alone, the next is not waited for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic."""
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[T] = deque()
        self._bytes = 0
        self._taken = 0
        self._sizes: deque[int] = deque([1], REMEMBERED)
        self._gathering = False
        self._closing = False

    def put(self, item: T) -> None:
        """Queue an item."""
        with self._changed:
            self._queue.append(item)
            self._bytes += item.held_bytes
            # Waking the thread for each would cost it more than it saves.
            if not self._gathering or self._full():
                self._changed.notify()

    def put_back(self, items: Sequence[T]) -> None:
        """Items that were taken, and have to be taken again; before `done` is called for them."""
        with self._changed:
            self._queue.extendleft(reversed(items))
            self._bytes += sum(item.held_bytes for item in items)
            self._changed.notify()

    def take(self) -> list[T]:
        """Wait for items; none once everything is done after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or (self._closing and not self._taken))
            if self._sizes[-1] > 1:
                self._gather()
            group: list[T] = []
            size = 0
            while self._queue and (not group or size + self._queue[0].held_bytes <= GROUP_BYTES):
                group.append(self._queue.popleft())
                size += group[-1].held_bytes
            self._bytes -= size
            self._taken += len(group)
            self._sizes.append(len(group))
            return group

    def done(self, items: int) -> None:
        """So many of those taken need nothing more."""
        with self._changed:
            self._taken -= items
            self._changed.notify()

    def close(self) -> None:
        """Nothing more is coming: whoever takes ends with what is there."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _full(self) -> bool:
        return self._closing or self._bytes >= GROUP_BYTES or len(self._queue) >= max(self._sizes)

    def _gather(self) -> None:
        self._gathering = True
        until = self._clock() + GATHER_SECONDS
        before = -1
        while len(self._queue) > before and self._clock() < until and not self._full():
            before = len(self._queue)
            self._changed.wait_for(self._full, LULL_SECONDS)
        self._gathering = False
