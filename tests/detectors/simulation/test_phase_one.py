"""What is learned from is what the daemon would have learned from."""

import numpy as np

from detectors.decision import EventIndex
from detectors.decision.calibration import ColumnLearning
from detectors.decision.peaks import peaks_of
from detectors.simulation.bets import minute_hits
from detectors.simulation.looking import Look
from detectors.simulation.phase_one import PhaseOne
from detectors.simulation.rules import WINDOW_MINUTES
from tests.detectors.simulation.worlds import UNSTEADY, profile, slots, streams_of


def test_peaks_and_blocks_are_the_shipped_ones() -> None:
    streams, twin = streams_of(UNSTEADY, seed=6), streams_of(UNSTEADY, seed=6)
    index = EventIndex.of(streams.grid.baseline)
    phase = PhaseOne(index, 0.1)
    for minutes in (90, 310):
        chunk = streams.take(minutes)
        draws, begin = np.diff(chunk.offsets[chunk.new :]), chunk.offsets[chunk.new]
        hits = [minute_hits(c[begin:], streams.grid.evidence, draws, 1) for c in chunk.cells]
        phase.collect(Look(streams.grid, chunk, WINDOW_MINUTES), np.stack(hits, axis=1))
    whole = twin.take(400)
    panes = [(60 * t, slots(twin, whole, t, t + 1), int(whole.rows[t])) for t in range(400)]
    shipped = peaks_of(index, [60 * minutes for minutes in WINDOW_MINUTES], panes, pane_seconds=60)
    history = phase.history()
    np.testing.assert_allclose(history.peaks.statistic, shipped.statistic, rtol=1e-12)
    assert np.isnan(history.peaks.statistic[:, 3]).all()
    np.testing.assert_array_equal(history.blocks.starts, 60 * np.arange(400))
    for t in (0, 89, 90, 399):
        events = index.count(profile(twin, whole, t, t + 1))
        np.testing.assert_array_equal(history.blocks.events.hits[t], events.hits)
        np.testing.assert_array_equal(history.blocks.events.totals[t], events.totals)
    calibration, changed = phase.ask(None)
    assert set(calibration.states) == {ColumnLearning.LEARNING}
    assert changed.all()
