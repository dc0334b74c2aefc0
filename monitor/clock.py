"""Where time comes from: every room is handed a clock, so that tests and replays never sleep."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from monitor.instants import from_ns, to_ns


class Clock(Protocol):
    """What the daemon asks the time of."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        ...

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until told otherwise.

    `advance` moves the wall clock and the monotonic clock together, as the passing of time does; `step` moves
    the wall clock alone, in either direction, as NTP, an operator or a resumed virtual machine does.
    Nanoseconds are kept as an integer: a float of today's epoch seconds resolves no better than 200 ns.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._wall_ns = to_ns(start)
        self._monotonic_ns = 0

    def now(self) -> datetime:
        return from_ns(self._wall_ns)

    def now_ns(self) -> int:
        return self._wall_ns

    def monotonic(self) -> float:
        return self._monotonic_ns / 1e9

    def advance(self, by: timedelta) -> None:
        """Let time pass; `by` may not be negative."""
        if by < timedelta(0):
            raise ValueError(f"time passes forwards, not by {by}; use step() to set the wall clock back")
        self._wall_ns += by // timedelta(microseconds=1) * 1_000
        self._monotonic_ns += by // timedelta(microseconds=1) * 1_000

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until `moment`, which may not be in the past."""
        self.advance(moment - self.now())

    def step(self, by: timedelta) -> None:
        """Set the wall clock forwards or back without any time passing."""
        self._wall_ns += by // timedelta(microseconds=1) * 1_000
