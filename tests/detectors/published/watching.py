"""The pure core as the daemon runs it: a block of evidence a minute, rolling windows, and the two keys every minute."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors import ks, psi
from detectors.decision import (
    EventIndex,
    Evidence,
    Windows,
    advance,
    decide,
    effects,
    unlearned,
)
from detectors.profile import Baseline, profile_rows
from detectors.types import ColumnState

SECONDS = (900, 3_600, 21_600, 86_400)
Rows = Mapping[str, npt.NDArray[Any]]


def pages(
    baseline: Baseline, minutes: Iterable[Rows], *, false_pages_per_year: float = 0.1
) -> dict[str, int]:
    """The minute at whose end each column first pages, by the default rule before anything is learned."""
    index = EventIndex.of(baseline)
    rule = unlearned(index, SECONDS, 60)
    budget = rule.budget(false_pages_per_year, np.ones(index.starts.size))
    evidence, found = Evidence.zeros(index), dict[str, int]()
    counts, rows = [np.zeros_like(baseline.profile.counts)], [0]
    for minute, values in enumerate(minutes):
        profile = profile_rows(baseline, values)
        counts.append(counts[-1] + profile.counts)
        rows.append(rows[-1] + profile.rows)
        evidence = advance(evidence, index.count(profile), rule.bands, budget, block_start=60 * minute)
        windows = _windows(baseline, counts, rows)
        verdicts = decide(
            index,
            effects(index, windows, rule.thresholds),
            evidence,
            false_pages_per_year=false_pages_per_year,
        )
        for verdict in verdicts:
            if verdict.state is ColumnState.DRIFT:
                found.setdefault(verdict.column, minute)
    return found


def _windows(baseline: Baseline, counts: Sequence[npt.NDArray[np.int64]], rows: Sequence[int]) -> Windows:
    starts = [max(len(counts) - 1 - seconds // 60, 0) for seconds in SECONDS]
    spans = np.stack([counts[-1] - counts[start] for start in starts])
    sizes = np.array([rows[-1] - rows[start] for start in starts])
    return Windows(
        seconds=np.array(SECONDS),
        counts=spans,
        rows=sizes,
        ks=ks.kernel(baseline, spans, sizes).statistic,
        psi=psi.kernel(baseline, spans, sizes).statistic,
    )
