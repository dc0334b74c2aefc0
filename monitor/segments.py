"""Segments: the rows of one tag value, counted by themselves, and never more of them than the daemon can bear."""

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.lifecycle import Condition
from storage import panes
from storage.engine import Readable

SEGMENTS_PER_BASELINE: Final = 50
"""Beyond so many, rows of further values are counted in '' alone: a tag that is an id must not fill the disk."""
LONGEST_VALUE: Final = 200

log = logging.getLogger("driftd.segments")


class Segments:
    """Which segments each baseline has; a value stays known as long as its panes are kept.

    Asked by the fold, by whoever counts before it, and by the web page: from several threads.
    """

    def __init__(self, database: Readable) -> None:
        self._database = database
        self._known: dict[int, set[str]] = {}
        self._refused: set[tuple[int, str]] = set()
        self._lock = threading.RLock()

    def refresh(self, baseline_id: int) -> None:
        """Read the baseline's segments again when they are next asked for: another daemon may have added some."""
        with self._lock:
            self._known.pop(baseline_id, None)

    def of(self, baseline_id: int) -> tuple[str, ...]:
        """The segments of a baseline without '', sorted."""
        with self._lock:
            if baseline_id not in self._known:
                with self._database.read() as conn:
                    self._known[baseline_id] = set(panes.segments_of(conn, baseline_id)) - {""}
            return tuple(sorted(self._known[baseline_id]))

    def refused(self, baseline_id: int) -> Condition:
        """Whether values of a tag were left out; not known where there is no room but none was met since the start."""
        with self._lock:
            if any(known == baseline_id for known, _ in self._refused):
                return Condition.TRUE
        return Condition.UNKNOWN if len(self.of(baseline_id)) >= SEGMENTS_PER_BASELINE else Condition.FALSE

    def rows_of(
        self, baseline_id: int, key: str, values: Sequence[str | None]
    ) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The segments of one tag in a group of rows, each with the indexes of its rows; null has no segment."""
        texts = np.array([(value or "")[:LONGEST_VALUE] for value in values], dtype=object)
        for value in sorted(set(texts.tolist()) - {""}):
            segment = f"{key}={value}"
            if self.admits(baseline_id, segment):
                yield segment, np.flatnonzero(texts == value)

    def admits(self, baseline_id: int, segment: str) -> bool:
        """Whether rows are counted in this segment; one more is taken in while there is room."""
        with self._lock:
            return self._admits(baseline_id, segment)

    def _admits(self, baseline_id: int, segment: str) -> bool:
        self.of(baseline_id)
        known = self._known[baseline_id]
        if segment in known:
            return True
        if len(known) < SEGMENTS_PER_BASELINE:
            known.add(segment)
            return True
        key = segment.partition("=")[0]
        if (baseline_id, key) not in self._refused:
            self._refused.add((baseline_id, key))
            log.warning(
                "tag %s has more values than the %d segments a baseline may have; the rest count in the whole only",
                key,
                SEGMENTS_PER_BASELINE,
            )
        return False
