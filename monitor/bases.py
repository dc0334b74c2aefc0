"""What rows are counted on: each baseline, its coarse view for segments, and the index of their events."""

from dataclasses import dataclass

from detectors.coarse import coarsen
from detectors.decision import EventIndex
from detectors.profile import Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One baseline, prepared: `whole` for all rows, `coarse` for a segment's."""

    whole: EventIndex
    coarse: EventIndex

    def of(self, segment: str) -> EventIndex:
        """The index that a segment's rows are counted with; `''` is every row."""
        return self.coarse if segment else self.whole


class Bases:
    """Prepared baselines by id; they are immutable, and preparing one costs milliseconds."""

    def __init__(self) -> None:
        self._known: dict[int, Base] = {}

    def of(self, baseline_id: int, baseline: Baseline) -> Base:
        """The prepared baseline."""
        if baseline_id not in self._known:
            self._known[baseline_id] = Base(
                whole=EventIndex.of(baseline), coarse=EventIndex.of(coarsen(baseline))
            )
        return self._known[baseline_id]
