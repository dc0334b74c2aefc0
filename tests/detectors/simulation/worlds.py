"""Simulated traffic that the tests share, and the shipped counting of it."""

import numpy as np

from detectors.counts import Profile
from detectors.simulation.looking import Look
from detectors.simulation.rules import WINDOW_MINUTES
from detectors.simulation.scenarios import Scenario
from detectors.simulation.streams import Chunk, Streams
from detectors.types import IntArray

UNSTEADY = Scenario(
    about="levels that wander within the hour", rows_per_minute=20.0, wander_sd=0.7, wander_minutes=90.0
)


def streams_of(scenario: Scenario, *, columns: int = 2, seed: int = 5) -> Streams:
    return Streams(scenario, columns, np.random.SeedSequence(seed))


def look_at(streams: Streams, *chunks: int) -> Look:
    """The windows of the last of the chunks."""
    for minutes in chunks[:-1]:
        streams.take(minutes)
    return Look(streams.grid, streams.take(chunks[-1]), WINDOW_MINUTES)


def slots(streams: Streams, chunk: Chunk, begin: int, end: int) -> IntArray:
    """The counts [layout.length] of minutes begin..end of a chunk as the shipped profile has them."""
    layout = streams.grid.baseline.layout
    counts = np.zeros(layout.length, dtype=np.int64)
    for column, start in enumerate(layout.cell_start.tolist()):
        cells = chunk.cells[column][chunk.offsets[begin] : chunk.offsets[end]]
        np.add.at(counts, start + 2 * cells.astype(np.int64), chunk.weight)
    return counts


def profile(streams: Streams, chunk: Chunk, begin: int, end: int) -> Profile:
    counts = slots(streams, chunk, begin, end)
    rows = int(chunk.rows[begin:end].sum())
    return Profile(rows=rows, counts=counts, moments=np.zeros((len(streams.grid.baseline.columns), 3)))
