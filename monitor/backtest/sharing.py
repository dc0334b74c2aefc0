"""Which versions shared a model's budget at a boundary: the rule of the live pass, asked of the past."""

from bisect import bisect_left
from collections.abc import Collection, Mapping

from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from storage import models
from storage.engine import Readable

_HOUR = 3_600


class Shares:
    """The share of each version and segment, from the hours in which versions answered."""

    def __init__(
        self,
        reader: Readable,
        model: ModelHandle,
        settings: ModelSettings,
        segments: Mapping[int, Mapping[str, int]],
    ) -> None:
        """`segments`: per version id, when the first block of each of its segments started."""
        self._longest = int(settings.windows[-1].total_seconds())
        self._segments = segments if settings.segments else {}
        self._names = {version.version_id: version.version for version in model.versions.values()}
        self._production = {
            version.version_id
            for version in model.versions.values()
            if version.baseline is not None and version.stage == "production"
        }
        self._hours: dict[int, list[int]] = {}
        with reader.read() as conn:
            for hour in models.list_servings(conn, model.model_id, start=-(2**62), end=2**62):
                self._hours.setdefault(hour.version_id, []).append(hour.start)

    def of(self, version_id: int, segment: str, boundary: int, pane: int, alerted: Collection[str]) -> float:
        """The part of the budget at a boundary; `alerted` are the versions with an open alert."""
        since = boundary - pane - self._longest - _HOUR
        serving = {
            one
            for one in self._production
            if self._names[one] in alerted or self._served(one, since, boundary)
        }
        if version_id not in serving:
            return 0.0
        share = 1.0 / len(serving)
        known = [s for s, start in self._segments.get(version_id, {}).items() if s and start < boundary]
        if not known:
            return share
        return share / 2 / len(known) if segment else share / 2

    def _served(self, version_id: int, since: int, boundary: int) -> bool:
        hours = self._hours.get(version_id, [])
        place = bisect_left(hours, since)
        return place < len(hours) and hours[place] < boundary
