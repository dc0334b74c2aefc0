"""One version of a model, whole or one segment of it, as of its last evaluation: what every page and summary begins with."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from alerts.identity import AlertKind, is_of_distribution
from detectors.decision import ColumnLearning, EventIndex
from detectors.types import ColumnState
from monitor.app import Service
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.judging import mismatched
from monitor.scores import Scores, decode, decode_states
from storage import alerts, cursors, evaluations, models
from storage.alerts import AlertRow
from storage.engine import Connection

WORST: Final = (ColumnState.DRIFT, ColumnState.WATCH, ColumnState.STABLE, ColumnState.INSUFFICIENT_DATA)
MISMATCH: Final = "mismatch"
"""What a column is called whose values never were those of training: that is not drift, though it pages."""
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`scores` is None before the first evaluation. `mismatched` is known where a column alert fires, else empty.

    `index` describes the columns as this segment counts them: with the cells of the baseline, or coarser ones.
    """

    model: ModelHandle
    version: VersionHandle | None
    segment: str
    index: EventIndex | None
    boundary: int | None
    scores: Scores | None
    open_alerts: Sequence[AlertRow]
    mismatched: frozenset[str]

    @property
    def state(self) -> str:
        """The word on the badge: facts first, then the worst column. The whole speaks for its segments too."""
        kinds = {row.kind for row in self.open_alerts}
        if "no_traffic" in kinds:
            return "no_traffic"
        if "evaluation_failing" in kinds:
            return "error"
        own = self.firing()
        every = [row for row in self.open_alerts if row.column and row.state == "firing"]
        if own and (self.segment or len(own) == len(every)):
            return _told({row.column for row in own}, self.mismatched)
        if every and not self.segment:
            return ColumnState.DRIFT
        if self.scores is None:
            return (
                "pending_baseline"
                if self.version is None or self.version.baseline is None
                else "insufficient_data"
            )
        return next((state for state in WORST if state in self.scores.states), "insufficient_data")

    def firing(self) -> list[AlertRow]:
        """The column alerts that fire on this version and segment."""
        version = "" if self.version is None else self.version.version
        return [
            row
            for row in self.open_alerts
            if row.column
            and row.state == "firing"
            and row.version in ("", version)
            and row.segment == self.segment
        ]

    def state_of(self, column: int, learning: str) -> str:
        """The word on a column's badge: an open alert speaks before the last look."""
        assert self.scores is not None
        assert self.index is not None
        name = self.index.baseline.columns[column].name
        firing = any(row.column == name and is_of_distribution(AlertKind(row.kind)) for row in self.firing())
        return named(ColumnState.DRIFT if firing else self.scores.states[column], learning)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSummary:
    """One tag value of a version: its state, its rows in the longest window, and how many of its columns have an open alert."""

    segment: str
    state: str
    evaluated_at: datetime
    rows: int
    firing: int


def picture(
    service: Service, conn: Connection, model: ModelHandle, version: str | None = None, segment: str = ""
) -> Picture:
    """The version asked for, else the one that answered last."""
    chosen = model.versions.get(version) if version else answering(conn, model)
    opened = alerts.active(conn, model.name)
    row, index, strangers = None, None, frozenset[str]()
    if chosen is not None and chosen.baseline_id is not None and chosen.baseline is not None:
        index = service.pipeline.bases.of(chosen.baseline_id, chosen.baseline).of(segment)
        row = evaluations.latest(conn, chosen.baseline_id, segment)
        if any(alert.column and alert.state == "firing" for alert in opened):
            strangers = mismatched(service, conn, model, chosen, segment)
    return Picture(
        model=model,
        version=chosen,
        segment=segment,
        index=index,
        boundary=None if row is None else row.boundary,
        scores=None if row is None else decode(row.states, row.scores),
        open_alerts=opened,
        mismatched=strangers,
    )


def segments(
    service: Service, conn: Connection, model: ModelHandle, version: VersionHandle | None
) -> tuple[SegmentSummary, ...]:
    """The segments of a version that were evaluated, worst first; at most 50 of them are ever counted."""
    if version is None or version.baseline_id is None or not service.config.settings(model.name).segments:
        return ()
    opened = [
        row
        for row in alerts.active(conn, model.name)
        if row.column and row.state == "firing" and row.version in ("", version.version)
    ]
    found = []
    for segment in service.pipeline.segments.of(version.baseline_id):
        row = evaluations.latest(conn, version.baseline_id, segment)
        if row is None:
            continue
        firing = {alert.column for alert in opened if alert.segment == segment}
        states = decode_states(row.states)[0]
        state = next((state for state in WORST if state in states), ColumnState.INSUFFICIENT_DATA)
        found.append(
            SegmentSummary(
                segment=segment,
                state=_told(firing, mismatched(service, conn, model, version, segment)) if firing else state,
                evaluated_at=from_seconds(row.boundary),
                rows=row.rows,
                firing=len(firing),
            )
        )
    order = [*WORST, MISMATCH]
    return tuple(sorted(found, key=lambda s: (-s.firing, order.index(s.state), s.segment)))


def named(state: str, learning: str) -> str:
    """A column's state, by what it has learned: `learning` is a `ColumnLearning`."""
    stranger = state == ColumnState.DRIFT and learning == ColumnLearning.MISMATCH
    return MISMATCH if stranger else state


def _told(firing: Set[str], strangers: Set[str]) -> str:
    return MISMATCH if firing <= strangers else ColumnState.DRIFT


def answering(conn: Connection, model: ModelHandle) -> VersionHandle | None:
    """The version that answered last; before the first row, the newest with a baseline."""
    newest = cursors.get(conn, model.model_id).newest_event_ns
    if newest is not None:
        # A year holds nine thousand hours: only those around the newest row are asked for.
        hours = models.list_servings(conn, model.model_id, start=newest // 10**9 - _HOUR, end=2**62)
        by_id = {version.version_id: version for version in model.versions.values()}
        if hours and hours[-1].version_id in by_id:
            return by_id[hours[-1].version_id]
    known = list(model.versions.values())[::-1]
    return next((v for v in known if v.baseline is not None), known[0] if known else None)
