r"""Shares of rows that are missing, infinite, out of range or of an unseen category, against the baseline's.

Detects broken feeds: a column that turns null, NaN or infinite, leaves the range of its training values, or brings
categories that training never saw. Blind to anything within the range. Each statistic is a difference of
shares over all rows of the window (missing ones included) and of the baseline,

    share_w − share_b  in [−1, 1],

positive when it got worse, negative when better. Out of range are values below the smallest or above the largest
finite training value, infinities included; unseen are categories absent from training (none where training had
too many to remember).

Shapes: counts int64 [..., L], rows int64 [...], results float64 [..., C]. NaN rule: NaN and null are missing, ±inf
non-finite, never both. VALID from the first row on, since a share is exact for its window; INSUFFICIENT_DATA
without rows; NOT_APPLICABLE where a column's type has no such event.

False alarms: one row in a window of one is a share of 1, so no page rests on these shares alone: `decision` bets
on the same events, with tolerance. The p-value is Fisher's exact one, one-sided (more than in training).

>>> import numpy as np
>>> from detectors.profile import ColumnData, build_baseline, profile_rows
>>> from detectors.types import ColumnRole, ColumnType
>>> training = ColumnData(name="x", role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float64",
...                       values=np.arange(1000.0))
>>> baseline = build_baseline([training], 60, (), None, "docs")
>>> window = profile_rows(baseline, {"x": np.array([1.0, np.nan, 5000.0, np.inf])})
>>> [MISSING.score(baseline, window, "x").statistic, NON_FINITE.score(baseline, window, "x").statistic,
...  OUT_OF_RANGE.score(baseline, window, "x").statistic, UNSEEN.score(baseline, window, "x").status.value]
[0.25, 0.25, 0.5, 'not_applicable']

Reference: Fisher (1935).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.counts import Baseline, Layout, Profile
from detectors.scoring import as_score, check_window, masked
from detectors.types import IntArray, Score, Scores

MIN_ROWS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RateShift:
    """One kind of bad row: `hits(layout, counts [..., L])` are its rows per column [..., C], −1 where there is no such."""

    name: str
    hits: Callable[[Layout, IntArray], IntArray]

    def kernel(self, baseline: Baseline, counts: IntArray, rows: IntArray | int) -> Scores:
        """Share now − share in training, of every column, for a stack of windows."""
        total = np.asarray(rows, dtype=np.int64)[..., np.newaxis]
        now, then = self.hits(baseline.layout, counts), self.hits(baseline.layout, baseline.profile.counts)
        shift = now / np.maximum(total, 1) - then / max(baseline.profile.rows, 1)
        return masked(shift, np.broadcast_to(total < MIN_ROWS, shift.shape), then < 0)

    def score(self, baseline: Baseline, window: Profile, column: str) -> Score:
        """The score of one column, over all rows."""
        check_window(baseline, window, column)
        scores = self.kernel(baseline, window.counts, window.rows)
        rows, trained = window.rows, baseline.profile.rows
        return as_score(self.name, baseline, column, scores, rows=rows, baseline_rows=trained)

    def p_value(self, baseline: Baseline, window: Profile, column: str) -> float | None:
        """P(at least as many such rows in the window), given those of both together; None where not VALID."""
        if self.score(baseline, window, column).statistic is None:
            return None
        position = baseline.layout.position(column)
        now = int(self.hits(baseline.layout, window.counts)[position])
        then = int(self.hits(baseline.layout, baseline.profile.counts)[position])
        total = window.rows + baseline.profile.rows
        # Imported when a reader asks: scipy.stats is half of a daemon's start-up time.
        from scipy.stats import hypergeom

        return float(hypergeom.sf(now - 1, total, now + then, window.rows))


def _missing(layout: Layout, counts: IntArray) -> IntArray:
    return counts[..., layout.missing]


def _non_finite(layout: Layout, counts: IntArray) -> IntArray:
    return _of(layout, layout.numeric, counts[..., layout.non_finite])


def _out_of_range(layout: Layout, counts: IntArray) -> IntArray:
    return _of(layout, layout.numeric, counts[..., layout.cell_start] + counts[..., layout.cell_stop - 1])


def _unseen(layout: Layout, counts: IntArray) -> IntArray:
    return _of(layout, layout.categorical, counts[..., layout.category_stop - 1])


def _of(layout: Layout, positions: IntArray, hits: IntArray) -> IntArray:
    spread = np.full((*hits.shape[:-1], len(layout.columns)), -1, dtype=np.int64)
    spread[..., positions] = hits
    return spread


MISSING: Final = RateShift(name="missing_rate", hits=_missing)
NON_FINITE: Final = RateShift(name="non_finite_rate", hits=_non_finite)
OUT_OF_RANGE: Final = RateShift(name="out_of_range_rate", hits=_out_of_range)
UNSEEN: Final = RateShift(name="unseen_rate", hits=_unseen)
