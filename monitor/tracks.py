"""Which tracks a model is evaluated by now, each with what it had decided before."""

from collections.abc import Iterator, Mapping, Sequence

import storage.cursors
from detectors.codec import decode_profile
from detectors.decision import (
    BlockEvents,
    Calibration,
    ColumnLearning,
    Evidence,
    Peaks,
    ended_learning,
    first_needed,
)
from detectors.decision.closing import Terms
from detectors.profile import Baseline, Profile
from monitor.bases import Bases
from monitor.budget import TrackKey, serving, shares
from monitor.calibrating import InForce, in_force
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.segments import Segments
from monitor.track import Identity, Track, rule_of, thresholds_of
from monitor.watermark import Cursor
from monitor.windows import FetchPanes
from storage import blocks, panes
from storage.baselines import NewCalibration
from storage.engine import Connection, Readable


class Tracks:
    """The tracks of one model, loaded when they are needed and kept while their version answers."""

    def __init__(self, database: Readable, bases: Bases, segments: Segments) -> None:
        self._database = database
        self._bases = bases
        self._segments = segments
        self._live: dict[TrackKey, Track] = {}
        self._unstored: dict[TrackKey, InForce] = {}

    def forget(self) -> None:
        """Drop everything held in memory."""
        self._live.clear()
        self._unstored.clear()

    def refresh_segments(self, model: ModelHandle) -> None:
        """Look again for segments: another daemon may have folded rows of new ones."""
        for version in model.versions.values():
            if version.baseline_id is not None:
                self._segments.refresh(version.baseline_id)

    def get(self, baseline_id: int, segment: str) -> Track | None:
        """The track if it is loaded."""
        return self._live.get((baseline_id, segment))

    def load(self, model: ModelHandle, settings: ModelSettings, cursor: Cursor) -> list[Track]:
        """The versions that answered within the longest window, each whole and by segment, with their budget."""
        with self._database.read() as conn:
            answering = serving(conn, model, settings, cursor.evaluated_upto)
        wanted = shares(answering, self._segments, settings)
        for gone in [key for key in self._live if key not in wanted]:
            del self._live[gone]
        for key, (version, share) in wanted.items():
            assert version.baseline is not None
            if key not in self._live:
                self._live[key] = self._load(model, settings, version, key[1], cursor)
            track = self._live[key]
            track.rule = rule_of(track.baseline, settings, share=share)
        return list(self._live.values())

    def recalibrate(self, track: Track, calibration: Calibration, settings: ModelSettings) -> None:
        """Judge a track by what it has learned, from its next block on; stored with the next commit."""
        assert track.upto is not None
        key = (track.identity.baseline_id, track.identity.segment)
        with self._database.read() as conn:
            take_over(conn, track, calibration, settings, valid_from=track.upto)
        self._unstored[key] = InForce(calibration=calibration, valid_from=track.upto, new=True)

    def take_unstored(self) -> list[NewCalibration]:
        """Calibrations that came into force and are not in the database yet."""
        taken = [
            NewCalibration(
                version_id=self._live[key].identity.version_id,
                baseline_id=key[0],
                segment=key[1],
                valid_from=found.valid_from,
                source=found.calibration.source.value,
                span_start=found.calibration.span[0],
                span_end=found.calibration.span[1],
                blob=found.calibration.encode(),
            )
            for key, found in self._unstored.items()
            if key in self._live
        ]
        self._unstored.clear()
        return taken

    def _load(
        self,
        model: ModelHandle,
        settings: ModelSettings,
        version: VersionHandle,
        segment: str,
        cursor: Cursor,
    ) -> Track:
        assert version.baseline is not None
        assert version.baseline_id is not None
        index = self._bases.of(version.baseline_id, version.baseline).of(segment)
        identity = Identity(
            version_id=version.version_id,
            version=version.version,
            baseline_id=version.baseline_id,
            segment=segment,
        )
        with self._database.read() as conn:
            stored = storage.cursors.get_evidence(conn, version.baseline_id, segment)
            found = in_force(
                conn,
                self._bases,
                model,
                version.baseline_id,
                segment,
                index,
                settings,
                cursor.evaluated_upto,
            )
            fetch = fetcher(self._database, identity, index.baseline)
            rule = rule_of(index.baseline, settings, share=0.0)
            track = Track(identity, index, rule, found.calibration, fetch)
            if stored is not None:
                track.evidence, track.upto = Evidence.decode(stored.state), stored.upto
                track.terms = Terms.decode(stored.terms)
                track.peaks_since = stored.peaks_since
                track.peaks = None if stored.peaks is None else Peaks.decode(stored.peaks)
            under_way = [] if track.upto is None else list(_under_way(conn, track))
        terms = (
            Terms.of(found.calibration, found.valid_from)
            if track.upto is None
            else track.terms.under(found.calibration, track.upto)
        )
        if found.new:
            self._unstored[version.baseline_id, segment] = found
        track.calibrate(
            found.calibration,
            thresholds_of(index.baseline, settings, found.calibration),
            terms=terms,
            base_blocks=under_way,
        )
        begin_learning(track)
        return track


def take_over(
    conn: Connection, track: Track, calibration: Calibration, settings: ModelSettings, *, valid_from: int
) -> None:
    """Judge a track that has been evaluated by another calibration from now on.

    What a column earned while it was LEARNING was bet against bands that are not its own: it starts again at 0, with the
    first block that begins now.
    """
    assert track.upto is not None
    base = list(closed_blocks(conn, track, start=first_needed(calibration, track.upto), end=track.upto))
    ended = ended_learning(track.calibration, calibration)
    track.forget(c.name for c, over in zip(track.baseline.columns, ended.tolist(), strict=True) if over)
    track.calibrate(
        calibration,
        thresholds_of(track.baseline, settings, calibration),
        terms=track.terms.under(calibration, valid_from, anew=ended),
        base_blocks=base,
    )
    begin_learning(track)


def begin_learning(track: Track) -> None:
    """Collect peaks while a column is LEARNING, and no longer."""
    shape = (len(track.rule.windows), track.index.starts.size)
    if ColumnLearning.LEARNING not in track.calibration.states:
        track.peaks, track.peaks_since = None, None
    elif track.peaks is None or track.peaks.statistic.shape[1:] != shape:
        track.peaks, track.peaks_since = Peaks.none(*shape), None


def closed_blocks(
    conn: Connection, track: Track, *, start: int, end: int
) -> Iterator[tuple[int, BlockEvents]]:
    """Base blocks with start ≤ block start < end, over all writers, in order."""
    identity = track.identity
    rows = blocks.list_blocks(
        conn, identity.baseline_id, identity.segment, start=start, end=end, length=track.baseline.pane_seconds
    )
    at, whole = None, None
    for row in rows:
        events = BlockEvents.decode(row.events)
        if at is not None and whole is not None and row.start != at:
            yield at, whole
            whole = None
        at, whole = row.start, events if whole is None else whole + events
    if at is not None and whole is not None:
        yield at, whole


def _under_way(conn: Connection, track: Track) -> Iterator[tuple[int, BlockEvents]]:
    """Closed base blocks of the longer blocks that are still open after the last evaluated boundary."""
    assert track.upto is not None
    yield from closed_blocks(conn, track, start=first_needed(track.calibration, track.upto), end=track.upto)


def fetcher(database: Readable, identity: Identity, baseline: Baseline) -> FetchPanes:
    """Reads a track's panes, writers added up."""

    def fetch(spans: Sequence[tuple[int, int]]) -> Mapping[int, Profile]:
        found: dict[int, Profile] = {}
        with database.read() as conn:
            for start, end in _joined(spans):
                for row in panes.window(
                    conn, identity.baseline_id, identity.segment, baseline.pane_seconds, start, end
                ):
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
