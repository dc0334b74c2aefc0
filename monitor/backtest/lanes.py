"""One version on one baseline and segment while it is replayed: its track, its boundaries, its blocks, as stored."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from detectors.decision import BlockEvents, Calibration, EventIndex, Windows
from detectors.decision.closing import Terms
from detectors.paging import ClassicKind
from monitor.backtest.scored import windows_of
from monitor.bases import Bases
from monitor.calibrating import in_force
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.retention import EVALUATIONS_UNTHINNED
from monitor.scores import decode
from monitor.track import NEVER, Identity, Track, rule_of, thresholds_of
from monitor.tracks import begin_learning, closed_blocks, fetcher
from storage import baselines, evaluations, panes
from storage.engine import Readable

READ_BLOCKS: Final = 1_000
"""Base blocks read at once: a snapshot that is kept long lets the WAL grow."""
READ_EVALUATIONS: Final = 200
WARM_UP_SECONDS: Final = 35 * 86_400
WARM_UP_BLOCKS: Final = 200
"""Evidence is bet from so long before the span, and on at least so many of a column's blocks: older bets have faded."""
THINNED_STEP: Final = 3_600

Source = Literal["evaluations", "panes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A boundary of a lane. `windows` None: to be summed from panes; `empty`: no window holds a row there."""

    boundary: int
    windows: Windows | None = None
    empty: bool = False


@dataclass(slots=True, kw_only=True)
class Lane:
    """What is replayed of one track. `known_from` is where its first block starts, `compared_from` from when its windows
    are known whole; `calibrations` are those still to come, by when they came into force; `gone` says that another
    baseline of its version took its place.
    """

    track: Track
    source: Source
    known_from: int
    compared_from: int
    end: int
    gone: bool
    learns: bool
    calibrations: deque[tuple[int, Calibration]]
    read_upto: int
    learned_at: int | None = None
    waiting: deque[tuple[int, BlockEvents]] = field(default_factory=deque)

    @property
    def pane(self) -> int:
        return self.track.baseline.pane_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A version, baseline and segment that has blocks: where they begin; `gone` as in Lane."""

    identity: Identity
    index: EventIndex
    first_block: int
    gone: bool


def open_lane(
    reader: Readable,
    bases: Bases,
    model: ModelHandle,
    settings: ModelSettings,
    found: Found,
    *,
    start: int,
    end: int,
    oldest: bool,
) -> Lane | None:
    """The lane of what was found, ready for its first block; None where nothing of the span can be decided.

    `oldest`: it is what the model began with, so nothing was under way when it was first evaluated.
    """
    identity, index = found.identity, found.index
    windows = tuple(int(window.total_seconds()) for window in settings.windows)
    # Wasserstein is the one distance that the stored scores do not hold.
    counted = settings.rule is not None and settings.rule.kind is ClassicKind.WASSERSTEIN
    source, compared_from = _source(reader, found, windows, start, end, counted=counted)
    if compared_from >= end:
        return None
    begins = warm_up(found.first_block, min(start, compared_from), settings, index)
    with reader.read() as conn:
        opening = in_force(
            conn, bases, model, identity.baseline_id, identity.segment, index, settings, begins
        )
        later = [
            (row.valid_from, Calibration.decode(row.blob))
            for row in baselines.list_calibrations(conn, identity.baseline_id, identity.segment)
            if row.valid_from > begins
        ]
    fitting = [(at, one) for at, one in later if settings.learning and tuple(one.windows.tolist()) == windows]
    track = Track(
        identity,
        index,
        rule_of(index.baseline, settings, share=0.0),
        opening.calibration,
        fetcher(reader, identity, index.baseline),
    )
    # Nothing learned yet: in force from here, or, with nothing before it, from ever.
    from_ever = oldest and opening.valid_from == begins
    track.calibrate(
        opening.calibration,
        thresholds_of(index.baseline, settings, opening.calibration),
        terms=Terms.of(opening.calibration, NEVER if from_ever else opening.valid_from),
        base_blocks=(),
    )
    begin_learning(track)
    return Lane(
        track=track,
        source=source,
        known_from=found.first_block,
        compared_from=compared_from,
        end=end,
        gone=found.gone,
        learns=settings.learning and not fitting,
        calibrations=deque(sorted(fitting, key=lambda pair: pair[0])),
        read_upto=begins,
    )


def warm_up(first_block: int, start: int, settings: ModelSettings, index: EventIndex) -> int:
    """From when on evidence is bet, on the grid of every block length."""
    longest = max(int(settings.evidence_block.total_seconds()), index.baseline.pane_seconds, 7 * 86_400)
    wanted = start - max(WARM_UP_SECONDS, WARM_UP_BLOCKS * int(settings.evidence_block.total_seconds()))
    return max(wanted // longest * longest, first_block)


def moments(reader: Readable, lane: Lane) -> Iterator[Moment]:
    """Every boundary of a lane after `compared_from`, in order, and where its windows ran empty."""
    yield from (_from_panes if lane.source == "panes" else _from_scores)(reader, lane)


def blocks_until(reader: Readable, lane: Lane, boundary: int) -> list[tuple[int, BlockEvents]]:
    """The closed base blocks that end by the boundary and were not handed out yet."""
    last_start = boundary - lane.pane
    while lane.read_upto <= last_start:
        upto = min(lane.read_upto + READ_BLOCKS * lane.pane, lane.end)
        with reader.read() as conn:
            lane.waiting.extend(closed_blocks(conn, lane.track, start=lane.read_upto, end=upto))
        lane.read_upto = upto
    ended = []
    while lane.waiting and lane.waiting[0][0] <= last_start:
        ended.append(lane.waiting.popleft())
    return ended


def _source(
    reader: Readable, found: Found, windows: tuple[int, ...], start: int, end: int, *, counted: bool
) -> tuple[Source, int]:
    """Where effects come from, and from when on they can be decided; `counted`: from counts alone."""
    identity, pane = found.identity, found.index.baseline.pane_seconds
    with reader.read() as conn:
        newest = evaluations.latest(conn, identity.baseline_id, identity.segment)
        kept = panes.span(conn, identity.baseline_id, identity.segment, pane)
    if (
        not counted
        and newest is not None
        and set(windows) <= set(decode(newest.states, newest.scores).windows)
    ):
        return "evaluations", start
    if kept is None:
        return "panes", end
    # A window is whole once panes reach back over all of it, or to the first row there ever was.
    whole = kept[0] if kept[0] <= found.first_block else kept[0] + windows[-1]
    return "panes", max(start, whole)


def _from_scores(reader: Readable, lane: Lane) -> Iterator[Moment]:
    track, at, end = lane.track, lane.compared_from, lane.end
    identity, previous = track.identity, None
    thinned = end - int(EVALUATIONS_UNTHINNED.total_seconds())
    while True:
        with reader.read() as conn:
            rows = evaluations.between(
                conn, identity.baseline_id, identity.segment, start=at, end=end, limit=READ_EVALUATIONS
            )
        for row in rows:
            step = lane.pane if previous is None or previous > thinned else max(lane.pane, THINNED_STEP)
            if previous is not None and row.boundary > previous + step:
                yield Moment(boundary=previous + step, empty=True)
            previous = row.boundary
            windows = windows_of(track.index, decode(row.states, row.scores), track.rule.windows)
            if windows is None:
                lane.compared_from = row.boundary  # another configuration was in force until here
            else:
                yield Moment(boundary=row.boundary, windows=windows)
        if len(rows) < READ_EVALUATIONS:
            break
        at = rows[-1].boundary
    if previous is not None and not lane.gone and previous + lane.pane <= end:
        yield Moment(boundary=previous + lane.pane, empty=True)


def _from_panes(reader: Readable, lane: Lane) -> Iterator[Moment]:
    end, identity, pane, longest = lane.end, lane.track.identity, lane.pane, lane.track.rule.windows[-1]
    boundary = lane.compared_from // pane * pane + pane
    while boundary <= end:
        with reader.read() as conn:
            first = panes.next_start(conn, identity.baseline_id, identity.segment, pane, boundary - longest)
        if first is None or first >= end:
            if not lane.gone:
                yield Moment(boundary=boundary, empty=True)
            return
        if first >= boundary:
            yield Moment(boundary=boundary, empty=True)
            boundary = first + pane
            continue
        yield Moment(boundary=boundary)
        boundary += pane
