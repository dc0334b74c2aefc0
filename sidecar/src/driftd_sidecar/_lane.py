"""Lanes: where captured calls wait. One lane holds calls that are shipped by one recipe at one sample rate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from driftd_sidecar._kind import Kind
from driftd_sidecar._wire import Table

IntArray = npt.NDArray[np.int64]
Entry = tuple[Any, ...]  # one call; only the recipe of its lane knows what is in it


class Recipe(Protocol):
    """How the calls of a lane are counted and turned into tables."""

    @property
    def kind(self) -> Kind:
        """Whose books the calls are in, and where they are sent."""
        ...

    @property
    def unit_cost(self) -> int:
        """Buffer bytes that one unit of `Lane.left` stands for; 0 when calls of this recipe may not be leased room."""
        ...

    def measure(self, entries: Sequence[Entry]) -> tuple[IntArray, IntArray]:
        """Rows and buffer bytes of every call, [calls] each. Never raises."""
        ...

    def measure_one(self, entry: Entry) -> tuple[int, int]:
        """As `measure`, without arrays: this one runs in the caller's thread."""
        ...

    def tables(self, entries: Sequence[Entry]) -> Iterable[Table]:
        """The calls, joined into as few tables as their signatures allow. Raises on a call that cannot travel."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Calls cut off a lane, to become a batch."""

    entries: list[Entry]
    rows: int
    cost: int


class Lane:
    """Calls of one recipe and rate.

    The hot path appends to `entries` and takes from `left` without a lock. Both are safe under the interpreter lock:
    an append is one step, and between the load and the store of `left` there is no point where threads switch.
    Where that does not hold (free-threaded builds) `left` may be off by a few calls until the next drain, which
    counts afresh; the rows themselves are counted when they are drained and are exact everywhere.
    """

    __slots__ = ("_costs", "_held", "_rows", "entries", "granted", "left", "opened_at", "rate", "recipe")

    def __init__(self, recipe: Recipe, rate: float) -> None:
        self.recipe = recipe
        self.rate = rate
        self.left = 0  # units the hot path may still take
        self.granted = 0  # buffer bytes charged for `left` and for `entries`
        self.entries: list[Entry] = []
        self.opened_at: float | None = None  # monotonic seconds; no held call is older
        self._held: list[Entry] = []
        self._rows: IntArray = np.empty(0, np.int64)
        self._costs: IntArray = np.empty(0, np.int64)

    def drain(self) -> tuple[int, int]:
        """Moves the calls appended so far to the held ones. Returns their rows and the change in charged bytes."""
        count = len(self.entries)
        fresh = self.entries[:count]
        del self.entries[:count]
        remaining = self.left * self.recipe.unit_cost
        change = remaining - self.granted
        self.granted = remaining
        if not fresh:
            return 0, change
        rows, costs = self.recipe.measure(fresh)
        self._held += fresh
        self._rows = np.concatenate([self._rows, rows])
        self._costs = np.concatenate([self._costs, costs])
        return int(rows.sum()), change + int(costs.sum())

    def cut(self, max_rows: int, max_bytes: int, *, everything: bool) -> list[Slice]:
        """Takes all held calls when they reach `max_rows` or `max_bytes`, or when told to; else none.

        They come in slices that just reach `max_bytes`. Rows that came in the meantime travel with the thousand that
        made the batch due: under load fewer, larger requests cost both sides less.
        """
        if not self._held:
            return []
        total_rows, total_costs = np.cumsum(self._rows), np.cumsum(self._costs)
        if not (everything or total_rows[-1] >= max_rows or total_costs[-1] >= max_bytes):
            return []
        slices: list[Slice] = []
        start, rows_before, cost_before = 0, 0, 0
        while start < len(self._held):
            end = min(int(np.searchsorted(total_costs, cost_before + max_bytes)) + 1, len(self._held))
            rows, cost = int(total_rows[end - 1]), int(total_costs[end - 1])
            entries = self._held[start:end]
            slices.append(Slice(entries=entries, rows=rows - rows_before, cost=cost - cost_before))
            start, rows_before, cost_before = end, rows, cost
        self._held = []
        self._rows = self._costs = np.empty(0, np.int64)
        return slices

    @property
    def waiting(self) -> bool:
        """Whether drained calls wait to be cut."""
        return bool(self._held)

    def clear(self) -> None:
        """Forgets every call, in place: the hot path keeps its reference to `entries`."""
        self.left = self.granted = 0
        self.opened_at = None
        self.entries.clear()
        self._held = []
        self._rows = self._costs = np.empty(0, np.int64)
