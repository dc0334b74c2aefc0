"""Windows as an evaluation stored them, for deciding their effects again."""

import numpy as np

from detectors.decision import EventIndex, Windows
from detectors.types import FloatArray, IntArray
from monitor.scores import Scores


def windows_of(index: EventIndex, scores: Scores, wanted: tuple[int, ...]) -> Windows | None:
    """The windows of those lengths; None where one of them was not evaluated.

    The counts hold only what the effect key counts itself: rows missing, infinite and outside the training range,
    recovered from their shares (exactly, up to eight million rows). The distances were stored as float32: they are taken
    one step up, so that a distance that was its threshold to the last bit still is.
    """
    places = {seconds: place for place, seconds in enumerate(scores.windows)}
    if not set(wanted) <= places.keys():
        return None
    chosen = [places[seconds] for seconds in wanted]
    rows = scores.rows[chosen]
    return Windows(
        seconds=np.array(wanted, dtype=np.int64),
        counts=_counts(index, scores, chosen, rows),
        rows=rows,
        ks=np.minimum(_up(scores.of("ks")[chosen]), 1.0),
        psi=_up(scores.of("psi")[chosen]),
    )


def _up(stored: FloatArray) -> FloatArray:
    return np.nextafter(stored.astype(np.float32), np.float32(np.inf)).astype(np.float64)


def _counts(index: EventIndex, scores: Scores, chosen: list[int], rows: IntArray) -> IntArray:
    layout = index.baseline.layout
    counts = np.zeros((len(chosen), layout.length), dtype=np.int64)
    missing, infinite, outside = (
        np.rint(np.nan_to_num(scores.of(name)[chosen]) * rows[:, np.newaxis]).astype(np.int64)
        for name in ("missing", "non_finite", "out_of_range")
    )
    counts[:, layout.missing] = missing
    counts[:, layout.non_finite] = infinite[:, layout.numeric]
    counts[:, layout.cell_start] = outside[:, layout.numeric]
    return counts
