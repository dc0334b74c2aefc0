"""Which calibration a track is judged by: stored, inherited from the version before, or yet to be learned."""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.decision import (
    BlockEvents,
    BlockStack,
    Calibration,
    CalibrationSource,
    EventIndex,
    History,
    Peaks,
    ended_learning,
    inherit,
    learn,
    taking,
    unlearned,
)
from detectors.decision.learning import BLOCK_LENGTHS, LEAST_SPAN
from detectors.profile import Baseline
from monitor.bases import Bases
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.track import NEVER, Rule, Track
from storage import baselines, blocks
from storage.engine import Connection

LEARN_EVERY: Final = 6 * 3600
"""Event time between two attempts to learn."""
MOST_NUMBERS: Final = 14_000_000
"""Blocks times events held while learning, twice eight bytes each: a daemon's memory is bounded. Two weeks of minutes
fit for 36 columns; beyond it Phase I is learned from longer blocks."""

log = logging.getLogger("driftd.learning")


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A calibration and since when it holds (epoch seconds); `new` says that it is still to be stored."""

    calibration: Calibration
    valid_from: int
    new: bool


def block_seconds(baseline: Baseline, settings: ModelSettings) -> int:
    """The configured block length, in whole panes of the baseline: for columns of which nothing is learned."""
    wanted = int(settings.evidence_block.total_seconds())
    return max(wanted // baseline.pane_seconds, 1) * baseline.pane_seconds


def in_force(
    conn: Connection,
    bases: Bases,
    model: ModelHandle,
    baseline_id: int,
    segment: str,
    index: EventIndex,
    settings: ModelSettings,
    upto: int | None,
) -> InForce:
    """The calibration to begin with after `upto`, the last evaluated boundary; of those that came later nothing is known."""
    windows = [int(window.total_seconds()) for window in settings.windows]
    length = block_seconds(index.baseline, settings)
    if not settings.learning:
        return InForce(calibration=unlearned(index, windows, length), valid_from=NEVER, new=False)
    known = 2**62 if upto is None else upto
    stored = baselines.calibration_at(conn, baseline_id, segment, known)
    if stored is not None:
        found = Calibration.decode(stored.blob)
        if found.windows.tolist() == windows and np.array_equal(found.starts, index.starts):
            return InForce(calibration=found, valid_from=stored.valid_from, new=False)
    start = NEVER if upto is None else upto
    heir = _inherited(conn, bases, model, baseline_id, segment, index, windows, length, known)
    if heir is not None:
        return InForce(calibration=heir, valid_from=start, new=True)
    return InForce(calibration=_untaught(index, windows, length), valid_from=start, new=False)


def taught(conn: Connection, track: Track, settings: ModelSettings) -> Calibration | None:
    """What the track's traffic teaches by now, for columns still LEARNING; None where that is nothing new."""
    if track.peaks is None or track.peaks_since is None or track.upto is None:
        return None
    if track.upto - track.peaks_since < LEAST_SPAN:
        return None
    history = History(blocks=_stack(conn, track), peaks=track.peaks)
    if history.blocks.starts.size == 0:
        return None
    fresh = learn(
        track.index,
        list(track.rule.windows),
        history,
        source=CalibrationSource.TRAFFIC,
        block_seconds=block_seconds(track.baseline, settings),
        false_pages_per_year=settings.false_pages_per_year,
        weights=_weights(track.rule),
    )
    ended = ended_learning(track.calibration, fresh)
    return taking(track.calibration, fresh, ended) if ended.any() else None


def _untaught(index: EventIndex, windows: list[int], length: int) -> Calibration:
    """Every column LEARNING: what `learn` says of a Phase I without one block."""
    nothing = BlockEvents(
        hits=np.zeros((0, index.column.size), dtype=np.int64),
        totals=np.zeros((0, index.column.size), dtype=np.int64),
    )
    empty = History(
        blocks=BlockStack(
            seconds=index.baseline.pane_seconds, starts=np.zeros(0, dtype=np.int64), events=nothing
        ),
        peaks=Peaks.none(len(windows), index.starts.size),
    )
    return learn(index, windows, empty, source=CalibrationSource.TRAFFIC, block_seconds=length)


def _inherited(
    conn: Connection,
    bases: Bases,
    model: ModelHandle,
    baseline_id: int,
    segment: str,
    index: EventIndex,
    windows: list[int],
    length: int,
    known: int,
) -> Calibration | None:
    """From the latest other version that has one for the same windows."""
    for version in reversed(list(model.versions.values())):
        if version.baseline is None or version.baseline_id in (None, baseline_id):
            continue
        assert version.baseline_id is not None
        stored = baselines.calibration_at(conn, version.baseline_id, segment, known)
        if stored is None:
            continue
        old = Calibration.decode(stored.blob)
        if old.windows.tolist() != windows:
            continue
        before = bases.of(version.baseline_id, version.baseline).of(segment).baseline
        return inherit(old, before, index, block_seconds=length)
    return None


def _stack(conn: Connection, track: Track) -> BlockStack:
    """Phase I in the shortest blocks that memory allows, one of the lengths that may be chosen."""
    assert track.peaks_since is not None
    assert track.upto is not None
    pane, events = track.baseline.pane_seconds, track.index.column.size
    span = track.upto - track.peaks_since
    lengths = [pane, *(length for length in BLOCK_LENGTHS if length > pane and length % pane == 0)]
    seconds = next((s for s in lengths if span // s * events <= MOST_NUMBERS), lengths[-1])
    sums: dict[int, BlockEvents] = {}
    rows = blocks.list_blocks(
        conn,
        track.identity.baseline_id,
        track.identity.segment,
        start=-(-track.peaks_since // seconds) * seconds,
        end=track.upto // seconds * seconds,
        length=pane,
        closed=True,
    )
    for row in rows:
        start, found = row.start // seconds * seconds, BlockEvents.decode(row.events)
        sums[start] = found + sums[start] if start in sums else found
    starts = np.array(sorted(sums), dtype=np.int64)
    shape = (0, events)
    return BlockStack(
        seconds=seconds,
        starts=starts,
        events=BlockEvents(
            hits=np.stack([sums[s].hits for s in starts.tolist()])
            if sums
            else np.zeros(shape, dtype=np.int64),
            totals=np.stack([sums[s].totals for s in starts.tolist()])
            if sums
            else np.zeros(shape, dtype=np.int64),
        ),
    )


def _weights(rule: Rule) -> list[float]:
    return [float(share) for share in rule.shares]
