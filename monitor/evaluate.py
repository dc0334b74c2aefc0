"""The live pass: closes every pane boundary of a model once, in order, and stores what was decided.

After downtime, or in a fast replay, the same loop catches up boundary by boundary. Decisions are made in
memory and committed in chunks; people are told of the final state only.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import storage.cursors
from alerts.lifecycle import Cause, Event, LifecycleRule, drift_rule
from detectors.codec import decode_profile
from detectors.decision import BlockEvents, Evidence
from detectors.profile import Baseline, Profile
from monitor.conditions import seen
from monitor.config import ModelSettings
from monitor.episodes import AlertBook
from monitor.explain import detail
from monitor.folding import to_stored
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_seconds
from monitor.scores import encode_scores, encode_states
from monitor.track import Decision, Track, rule_of
from monitor.watermark import Cursor, last_boundary
from monitor.windows import FetchPanes
from storage import alerts, blocks, evaluations, models, panes
from storage.engine import Connection, Database

CHUNK = 500
"""Boundaries decided before one commit."""

log = logging.getLogger("driftd.evaluate")

Announce = Callable[[Connection, set[str], datetime], None]
"""Plans the notifications of changed groups, inside the transaction that changes them."""


@dataclass(slots=True, kw_only=True)
class Chunk:
    """What was decided and is not yet stored."""

    rows: list[evaluations.EvaluationRow] = field(default_factory=list)
    boundaries: int = 0


class Evaluator:
    """Evaluates one model. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        database: Database,
        model: ModelHandle,
        settings: ModelSettings,
        announce: Announce,
        progressed: Callable[[], None],
    ) -> None:
        self._database = database
        self._model = model
        self._settings = settings
        self._announce = announce
        self._progressed = progressed
        self._tracks: dict[int, Track] = {}

    @property
    def model(self) -> ModelHandle:
        return self._model

    @property
    def settings(self) -> ModelSettings:
        return self._settings

    def adopt(self, model: ModelHandle, settings: ModelSettings) -> None:
        """Go on with a newer picture of the model; windows and evidence are read again."""
        if model is not self._model or settings is not self._settings:
            self._model, self._settings = model, settings
            self._tracks.clear()

    def late(self, baseline_id: int, start: int, delta: Profile, merged: Profile) -> None:
        """Take in a fold that changed a pane the windows have already summed."""
        track = self._tracks.get(baseline_id)
        if track is not None:
            track.windows.add_late(start, delta, merged)

    def forget(self) -> None:
        """Drop everything held in memory, after a transaction that may not have been stored."""
        self._tracks.clear()

    def run(self, cursor: Cursor, now: datetime) -> tuple[Cursor, int]:
        """Close every boundary the watermark has passed; the cursor and how many boundaries were evaluated.

        Raises StorageError when nothing can be committed; the boundaries are then decided again.
        """
        if not self._due(cursor):
            return cursor, 0
        tracks = self._load_tracks(cursor)
        if cursor.watermark_ns is None or not tracks:
            return cursor, 0
        pane = min(track.baseline.pane_seconds for track in tracks)
        upto = last_boundary(cursor.watermark_ns, pane)
        at = self._first_boundary(cursor, tracks, pane)
        total = 0
        try:
            while at is not None and at <= upto:
                cursor, at, done = self._chunk(tracks, cursor, at, upto, pane, now)
                total += done
        except BaseException:
            self.forget()
            raise
        return cursor, total

    def _due(self, cursor: Cursor) -> bool:
        """Whether the watermark has passed a boundary: asked every few seconds, so it reads nothing."""
        panes_of = [v.baseline.pane_seconds for v in self._model.versions.values() if v.baseline is not None]
        if cursor.watermark_ns is None or not panes_of:
            return False
        upto = last_boundary(cursor.watermark_ns, min(panes_of))
        return cursor.evaluated_upto is None or upto > cursor.evaluated_upto

    def _chunk(
        self, tracks: Sequence[Track], cursor: Cursor, at: int, upto: int, pane: int, now: datetime
    ) -> tuple[Cursor, int | None, int]:
        with self._database.read() as conn:
            book = AlertBook.load(conn, self._model.name)
            closing = {t.baseline_id: _closing(conn, t, upto) for t in tracks}
        chunk = Chunk()
        last, following = at, at + pane
        while at <= upto and chunk.boundaries < CHUNK:
            busy = self._boundary(tracks, at, closing, book, chunk)
            last, following = at, at + pane
            if not busy and not book.open_episodes():
                following = self._skip(tracks, at, upto, pane)
            at = following
        evaluated = min(max(last, following - pane), upto)
        cursor = replace(cursor, evaluated_upto=evaluated)
        self._commit(tracks, book, chunk, cursor, now, final=following > upto)
        return cursor, following, chunk.boundaries

    def _boundary(
        self,
        tracks: Sequence[Track],
        at: int,
        closing: Mapping[int, Mapping[int, BlockEvents]],
        book: AlertBook,
        chunk: Chunk,
    ) -> bool:
        """Decide one boundary for every track whose panes end there; whether any window held a row."""
        busy = False
        for track in tracks:
            if at % track.baseline.pane_seconds:
                continue
            due = {
                start: events
                for start, events in closing[track.baseline_id].items()
                if start + track.block_seconds <= at
                and (track.evidence_upto is None or start + track.block_seconds > track.evidence_upto)
            }
            decision = track.step(at, due)
            if decision.stack.empty:
                self._retire(track, at, book)
                continue
            busy = True
            self._alerts(track, decision, book)
            chunk.rows.append(_row(track, decision))
        chunk.boundaries += 1
        return busy

    def _alerts(self, track: Track, decision: Decision, book: AlertBook) -> None:
        at = from_seconds(decision.boundary)
        resolved = []
        for one in seen(self._model.name, track, decision, book):
            effect = one.verdict.effect
            found = book.find(one.labels)
            shown = dict(found.detail) if found is not None else {}
            if effect is not None:
                window = decision.stack.seconds.index(effect.window_seconds)
                shown = detail(
                    track.baseline,
                    one.verdict,
                    one.column,
                    track.windows.window_profile(window),
                )
            step = book.observe(one.labels, one.condition, self._rule(), at, shown)
            if step is not None and step.event is Event.RESOLVED:
                resolved.append(track.baseline.columns[one.column].name)
        if resolved:
            track.forget(resolved)

    def _retire(self, track: Track, at: int, book: AlertBook) -> None:
        """A version without one row in its longest window has nothing left to be in drift."""
        for episode in book.open_episodes():
            if episode.column and episode.labels.get("version") == track.version:
                book.close(episode, Cause.RETIRED, from_seconds(at))
                track.forget([episode.column])

    def _rule(self) -> LifecycleRule:
        block = self._settings.evidence_block
        base = drift_rule(block)
        return LifecycleRule(
            for_=self._settings.for_duration,
            keep_firing_for=max(self._settings.keep_firing_for, 2 * block),
            severity=base.severity,
        )

    def _commit(
        self,
        tracks: Sequence[Track],
        book: AlertBook,
        chunk: Chunk,
        cursor: Cursor,
        now: datetime,
        *,
        final: bool,
    ) -> None:
        evidence = [
            storage.cursors.EvidenceRow(
                baseline_id=track.baseline_id,
                segment="",
                version_id=track.version_id,
                upto=track.evidence_upto,
                state=track.evidence.encode(),
            )
            for track in tracks
            if track.evidence_upto is not None
        ]

        def write(conn: Connection) -> None:
            evaluations.add(conn, chunk.rows)
            for row in evidence:
                blocks.close(conn, row.baseline_id, row.segment, upto=row.upto)
                storage.cursors.put_evidence(conn, row)
            storage.cursors.put(conn, to_stored(self._model.model_id, cursor))
            groups = book.write(conn, now)
            if final:
                self._announce(conn, groups | {e.group for e in book.open_episodes()}, now)

        self._database.write(write).result()
        self._progressed()

    def _load_tracks(self, cursor: Cursor) -> list[Track]:
        """The versions that answered within the longest window: the budget is theirs, in equal parts."""
        serving = self._serving(cursor)
        paging = [v for v in serving if v.stage == "production"]
        wanted = {
            v.baseline_id: (v, 1.0 / len(paging) if v in paging else 0.0)
            for v in serving
            if v.baseline_id is not None
        }
        for gone in [b for b in self._tracks if b not in wanted]:
            del self._tracks[gone]
        for baseline_id, (version, share) in wanted.items():
            assert version.baseline is not None
            if baseline_id not in self._tracks:
                self._load(version)
            self._tracks[baseline_id].rule = rule_of(version.baseline, self._settings, share=share)
        return list(self._tracks.values())

    def _serving(self, cursor: Cursor) -> list[VersionHandle]:
        longest = int(self._settings.windows[-1].total_seconds())
        with self._database.read() as conn:
            since = -(2**62) if cursor.evaluated_upto is None else cursor.evaluated_upto - longest - 3600
            served = {
                s.version_id for s in models.list_servings(conn, self._model.model_id, start=since, end=2**62)
            }
            served |= {
                v.version_id for v in self._model.versions.values() if _has_open_alert(conn, self._model, v)
            }
        return [v for v in self._model.versions.values() if v.baseline is not None and v.version_id in served]

    def _load(self, version: VersionHandle) -> None:
        assert version.baseline is not None
        assert version.baseline_id is not None
        with self._database.read() as conn:
            stored = storage.cursors.get_evidence(conn, version.baseline_id, "")
        self._tracks[version.baseline_id] = Track(
            version_id=version.version_id,
            version=version.version,
            baseline_id=version.baseline_id,
            baseline=version.baseline,
            rule=rule_of(version.baseline, self._settings, share=0.0),
            block_seconds=block_seconds(version.baseline, self._settings),
            evidence=None if stored is None else Evidence.decode(stored.state),
            evidence_upto=None if stored is None else stored.upto,
            fetch=_fetcher(self._database, version.baseline_id, version.baseline),
        )

    def _first_boundary(self, cursor: Cursor, tracks: Sequence[Track], pane: int) -> int | None:
        if cursor.evaluated_upto is not None:
            return cursor.evaluated_upto // pane * pane + pane
        start = self._next_pane(tracks, None)
        return None if start is None else start // pane * pane + pane

    def _skip(self, tracks: Sequence[Track], at: int, upto: int, pane: int) -> int:
        """The boundary after the next pane that holds rows: what lies between has nothing to decide."""
        start = self._next_pane(tracks, at)
        return upto + pane if start is None else min(start // pane * pane + pane, upto + pane)

    def _next_pane(self, tracks: Sequence[Track], at: int | None) -> int | None:
        with self._database.read() as conn:
            starts = [
                panes.next_start(
                    conn, t.baseline_id, "", t.baseline.pane_seconds, -(2**62) if at is None else at
                )
                for t in tracks
            ]
        return min((start for start in starts if start is not None), default=None)


def block_seconds(baseline: Baseline, settings: ModelSettings) -> int:
    """The block length in force: the configured one, in whole panes of the baseline."""
    wanted = int(settings.evidence_block.total_seconds())
    return max(wanted // baseline.pane_seconds, 1) * baseline.pane_seconds


def _has_open_alert(conn: Connection, model: ModelHandle, version: VersionHandle) -> bool:
    return any(row.version == version.version for row in alerts.active(conn, model.name))


def _closing(conn: Connection, track: Track, upto: int) -> dict[int, BlockEvents]:
    """Open blocks that end by `upto`, over all writers, by start."""
    found: dict[int, BlockEvents] = {}
    rows = blocks.list_blocks(
        conn, track.baseline_id, "", start=-(2**62), end=upto, length=track.block_seconds, closed=False
    )
    for row in rows:
        events = BlockEvents.decode(row.events)
        found[row.start] = events + found[row.start] if row.start in found else events
    return found


def _row(track: Track, decision: Decision) -> evaluations.EvaluationRow:
    return evaluations.EvaluationRow(
        version_id=track.version_id,
        baseline_id=track.baseline_id,
        segment="",
        boundary=decision.boundary,
        rows=int(decision.stack.rows[-1]),
        states=encode_states(decision.scores),
        scores=encode_scores(decision.scores),
    )


def _fetcher(database: Database, baseline_id: int, baseline: Baseline) -> FetchPanes:
    def fetch(spans: Sequence[tuple[int, int]]) -> Mapping[int, Profile]:
        found: dict[int, Profile] = {}
        with database.read() as conn:
            for start, end in _joined(spans):
                for row in panes.window(conn, baseline_id, "", baseline.pane_seconds, start, end):
                    profile = decode_profile(baseline.layout, row.profile)
                    same = found.get(row.start)
                    found[row.start] = profile if same is None else Profile.merge([same, profile])
        return found

    return fetch


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same instants as disjoint spans: a pane asked for twice must not count twice."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
