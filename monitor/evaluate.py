"""The live pass: closes every pane boundary of a model once, in order, and stores what was decided.

After downtime, or in a fast replay, the same loop catches up boundary by boundary. Decisions are made in
memory and committed in chunks; people are told of the final state only.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial

import storage.cursors
from detectors.decision import BlockEvents, Calibration
from monitor.basis import Basis, basis, folded_upto
from monitor.budget import TrackKey
from monitor.calibrating import LEARN_EVERY, taught
from monitor.conditions import Seen
from monitor.config import ModelSettings
from monitor.episodes import AlertBook, Detail
from monitor.explain import detail
from monitor.folding import ChangedPane, to_stored
from monitor.grounds import ground_of
from monitor.ingest.schema import ModelHandle
from monitor.observing import observe, retire, rule_for
from monitor.scores import encode_scores, encode_states
from monitor.track import NEVER, Decision, Track
from monitor.tracks import Tracks, closed_blocks
from monitor.watermark import Cursor, last_boundary
from storage import baselines, blocks, evaluations, locks, panes
from storage.engine import Connection, Database
from storage.locks import Occupied

CHUNK = 500
"""Boundaries decided before one commit."""

OCCUPIED_TRIES = 20

log = logging.getLogger("driftd.evaluate")

Announce = Callable[[Connection, set[str], datetime], None]
"""Plans the notifications of changed groups, inside the transaction that changes them."""


@dataclass(slots=True, kw_only=True)
class Chunk:
    """What was decided and is not yet stored, after the boundary `before`; `rests_on` only where others may fold."""

    before: int | None
    rests_on: Basis | None
    rows: list[evaluations.EvaluationRow] = field(default_factory=list)
    boundaries: int = 0


class Evaluator:
    """Evaluates one model. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        database: Database,
        model: ModelHandle,
        settings: ModelSettings,
        tracks: Tracks,
        announce: Announce,
        progressed: Callable[[], None],
    ) -> None:
        self._database = database
        self._model = model
        self._settings = settings
        self._tracks = tracks
        self._announce = announce
        self._progressed = progressed
        self._learned_at: dict[TrackKey, int] = {}
        self._stands_at: int | None = None

    @property
    def model(self) -> ModelHandle:
        return self._model

    def adopt(self, model: ModelHandle, settings: ModelSettings) -> None:
        """Go on with a newer picture of the model; windows and evidence are read again."""
        if model is not self._model or settings is not self._settings:
            self._model, self._settings = model, settings
            self.forget()

    def late(self, pane: ChangedPane) -> None:
        """Take in a fold that changed a pane the windows have already summed."""
        track = self._tracks.get(pane.baseline_id, pane.segment)
        if track is not None:
            track.windows.add_late(pane.start, pane.delta, pane.merged)

    def forget(self) -> None:
        """Drop everything held in memory, after a transaction that may not have been stored."""
        self._tracks.forget()

    def run(self, cursor: Cursor, now: datetime) -> tuple[Cursor, int]:
        """Close every boundary the watermark has passed; the cursor and how many boundaries were evaluated.

        Raises StorageError when nothing can be committed, Overtaken or Occupied among them where another daemon is
        at the same model; the boundaries are then decided again.
        """
        if not self._due(cursor):
            return cursor, 0
        if self._database.shared:
            self._catch_up_with_others(cursor)
        tracks = self._tracks.load(self._model, self._settings, cursor)
        if cursor.watermark_ns is None or not tracks:
            return cursor, 0
        pane = min(track.baseline.pane_seconds for track in tracks)
        upto = last_boundary(cursor.watermark_ns, pane)
        if self._database.shared:
            with self._database.read() as conn:
                upto = folded_upto(conn, self._model, pane, upto)
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

    def _catch_up_with_others(self, cursor: Cursor) -> None:
        if cursor.evaluated_upto != self._stands_at:
            self.forget()
        self._tracks.refresh_segments(self._model)

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
            rests_on = basis(conn, tracks, at=at, upto=upto) if self._database.shared else None
            waiting = {id(track): _waiting(conn, track, upto) for track in tracks}
        chunk = Chunk(before=cursor.evaluated_upto, rests_on=rests_on)
        last, following = at, at + pane
        while at <= upto and chunk.boundaries < CHUNK:
            busy = self._boundary(tracks, at, waiting, book, chunk)
            last, following = at, at + pane
            if not busy and not book.open_episodes():
                following = self._skip(tracks, at, upto, pane)
            at = following
        cursor = replace(cursor, evaluated_upto=min(max(last, following - pane), upto))
        self._commit(tracks, book, chunk, cursor, now, final=following > upto)
        self._learn(tracks)
        return cursor, following, chunk.boundaries

    def _boundary(
        self,
        tracks: Sequence[Track],
        at: int,
        waiting: Mapping[int, deque[tuple[int, BlockEvents]]],
        book: AlertBook,
        chunk: Chunk,
    ) -> bool:
        """Decide one boundary for every track whose panes end there; whether any window held a row."""
        busy = False
        for track in tracks:
            if at % track.baseline.pane_seconds:
                continue
            decision = track.step(at, list(_ended(waiting[id(track)], at - track.baseline.pane_seconds)))
            if decision.stack.empty:
                retire(track, at, book)
                continue
            busy = True
            self._alerts(track, decision, book)
            chunk.rows.append(_row(track, decision))
        chunk.boundaries += 1
        return busy

    def _learn(self, tracks: Sequence[Track]) -> None:
        """Let columns that are still LEARNING learn from what has been stored, every six hours of event time."""
        for track in tracks:
            key = (track.identity.baseline_id, track.identity.segment)
            if not track.learning or track.upto is None:
                continue
            if track.upto - self._learned_at.setdefault(key, track.upto) < LEARN_EVERY:
                continue
            self._learned_at[key] = track.upto
            with self._database.read() as conn:
                calibration = taught(conn, track, self._settings)
            if calibration is not None:
                self._tracks.recalibrate(track, calibration, self._settings)
                log.info(
                    "model %s version %s: learned %s",
                    self._model.name,
                    track.identity.version,
                    _states(calibration),
                )

    def _alerts(self, track: Track, decision: Decision, book: AlertBook) -> None:
        # Its moments are merged anew for all columns: once per boundary, however many of them have something to say.
        profile = cache(track.windows.window_profile)

        def shown(one: Seen) -> Detail:
            effect = one.verdict.effect
            if effect is None:
                found = book.find(one.labels)
                return found.detail if found is not None else {}
            window = decision.stack.seconds.index(effect.window_seconds)
            return detail(track.baseline, one.verdict, one.column, profile(window)) | {
                "learning": track.calibration.states[one.column].value
            }

        observe(
            self._model.name,
            track,
            decision,
            book,
            partial(rule_for, self._settings),
            shown,
            lambda one: ground_of(track, decision, one.column, profile),
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
        evidence = [_evidence(track) for track in tracks if track.upto is not None]
        calibrations = self._tracks.take_unstored()

        def write(conn: Connection) -> None:
            locks.evaluating(conn, self._model.model_id)
            storage.cursors.check_evaluated(conn, self._model.model_id, chunk.before)
            if chunk.rests_on is not None:
                chunk.rests_on.check(conn)
            evaluations.add(conn, chunk.rows)
            for calibration in calibrations:
                baselines.add_calibration(conn, calibration)
            for row in evidence:
                blocks.close(conn, row.baseline_id, row.segment, upto=row.upto)
                storage.cursors.put_evidence(conn, row)
            storage.cursors.put(conn, to_stored(self._model.model_id, cursor))
            groups = book.write(conn, now)
            if final:
                self._announce(conn, groups | {e.group for e in book.open_episodes()}, now)

        self._write_alone(write)
        self._stands_at = cursor.evaluated_upto
        self._progressed()

    def _write_alone(self, write: Callable[[Connection], None]) -> None:
        """Commit; where another daemon's fold is under way, which takes milliseconds, a few times more."""
        for _ in range(OCCUPIED_TRIES - 1):
            try:
                return self._database.write(write).result()
            except Occupied:  # before anything was written, and `write` has changed nothing yet
                continue
        return self._database.write(write).result()

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
                    conn,
                    t.identity.baseline_id,
                    t.identity.segment,
                    t.baseline.pane_seconds,
                    -(2**62) if at is None else at,
                )
                for t in tracks
            ]
        return min((start for start in starts if start is not None), default=None)


def _waiting(conn: Connection, track: Track, upto: int) -> deque[tuple[int, BlockEvents]]:
    """Base blocks that no boundary has closed yet, oldest first."""
    after = NEVER if track.upto is None else track.upto
    return deque(closed_blocks(conn, track, start=after, end=upto))


def _ended(waiting: deque[tuple[int, BlockEvents]], last_start: int) -> Iterator[tuple[int, BlockEvents]]:
    while waiting and waiting[0][0] <= last_start:
        yield waiting.popleft()


def _evidence(track: Track) -> storage.cursors.EvidenceRow:
    assert track.upto is not None
    return storage.cursors.EvidenceRow(
        baseline_id=track.identity.baseline_id,
        segment=track.identity.segment,
        version_id=track.identity.version_id,
        upto=track.upto,
        state=track.evidence.encode(),
        terms=track.terms.encode(),
        peaks=None if track.peaks is None else track.peaks.encode(),
        peaks_since=track.peaks_since,
    )


def _row(track: Track, decision: Decision) -> evaluations.EvaluationRow:
    return evaluations.EvaluationRow(
        version_id=track.identity.version_id,
        baseline_id=track.identity.baseline_id,
        segment=track.identity.segment,
        boundary=decision.boundary,
        rows=int(decision.stack.rows[-1]),
        states=encode_states(decision.scores),
        scores=encode_scores(decision.scores),
    )


def _states(calibration: Calibration) -> str:
    found = Counter(state.value for state in calibration.states)
    return ", ".join(f"{count} columns {state}" for state, count in sorted(found.items()))
