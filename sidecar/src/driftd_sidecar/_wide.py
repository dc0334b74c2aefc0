"""Wide tensors, such as images and long texts: too many bytes a row to ship them all.

Which rows take their wide tensors along is drawn uniformly, without a look at them, as the bandwidth set aside for
them allows. Every row ships everything else.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WideLimits:
    """`row_bytes`: tensors with more per row are wide. `bytes_per_second`: what all wide ones together may ship."""

    row_bytes: int
    bytes_per_second: int


class Allowance:
    """A bucket that fills with `bytes_per_second`, up to ten seconds of it; the row that empties it may overdraw it.

    It has no lock: threads that draw at once may overdraw it by one draw each, which it then waits for.
    """

    def __init__(self, limits: WideLimits, *, rng: random.Random, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self._rng = rng
        self._monotonic = monotonic
        self._bytes = float(limits.bytes_per_second)
        self._filled_at = monotonic()

    def draw(self, rows: int, row_bytes: float) -> Sequence[int]:
        """The rows, in order, that may ship `row_bytes` each."""
        now = self._monotonic()
        gained = (now - self._filled_at) * self.limits.bytes_per_second
        self._bytes = min(self._bytes + gained, _SECONDS * self.limits.bytes_per_second)
        self._filled_at = now
        if self._bytes <= 0:
            return ()
        count = min(rows, max(1, int(self._bytes // row_bytes)))
        self._bytes -= count * row_bytes
        return range(rows) if count == rows else sorted(self._rng.sample(range(rows), count))
