"""Columns whose level wanders by nature: event counts drawn straight from the law, without a row in between."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.decision import (
    BlockEvents,
    BlockStack,
    Calibration,
    CalibrationSource,
    ColumnLearning,
    EventIndex,
    Evidence,
    History,
    Peaks,
    advance,
    closing,
    evidence_mean,
    learn,
    reset,
)
from detectors.profile import NumericColumn
from detectors.types import FloatArray, IntArray
from tests.detectors.decision.samples import index_of, numeric

WINDOWS = (900, 3_600, 21_600, 86_400)
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """A Gaussian level of deviation `level_sd` that forgets in `days`, seen through unit-deviation values."""

    days: float
    level_sd: float
    rows: int
    step: int = 3_600
    copies: int = 12

    def index(self, rng: np.random.Generator, rows: int = 5_000) -> EventIndex:
        """Training rows drawn over all levels, independently."""
        spread = np.hypot(1.0, self.level_sd)
        return index_of(*(numeric(f"x{i}", rng.normal(scale=spread, size=rows)) for i in range(self.copies)))

    def levels(self, rng: np.random.Generator, blocks: int) -> FloatArray:
        """First-order autoregressive levels [N, C], stationary from the start."""
        keep = np.exp(-self.step / (self.days * DAY))
        noise = rng.normal(size=(blocks, self.copies)) * self.level_sd
        noise[1:] *= np.sqrt(1.0 - keep * keep)
        for block in range(1, blocks):
            noise[block] += keep * noise[block - 1]
        return noise

    def stack(self, rng: np.random.Generator, index: EventIndex, levels: FloatArray) -> BlockStack:
        """Blocks of `rows` values each around the levels [N, C]; nothing missing, beyond the extremes as the law has it."""
        hits = np.zeros((levels.shape[0], index.column.size), dtype=np.int64)
        for column, spec in enumerate(index.baseline.columns):
            assert isinstance(spec, NumericColumn)
            edges = np.concatenate([spec.cuts[:1], spec.cuts[spec.evidence_cuts], spec.cuts[-1:]])
            below = special.ndtr(edges - levels[:, column : column + 1])
            steps = np.diff(below, axis=1, prepend=0.0, append=1.0)
            drawn = rng.multinomial(self.rows, np.maximum(steps, 0.0))
            first = int(index.starts[column])
            hits[:, first : first + 13] = np.cumsum(drawn, axis=1)[:, 1:14]
            hits[:, first + 15] = drawn[:, 0] + drawn[:, -1]
        starts = np.arange(levels.shape[0], dtype=np.int64) * self.step
        totals = np.full_like(hits, self.rows)
        return BlockStack(seconds=self.step, starts=starts, events=BlockEvents(hits=hits, totals=totals))


def part(stack: BlockStack, first: int, last: int) -> BlockStack:
    """Blocks [first, last) of a stack."""
    kept = slice(first, last)
    events = BlockEvents(hits=stack.events.hits[kept], totals=stack.events.totals[kept])
    return BlockStack(seconds=stack.seconds, starts=stack.starts[kept], events=events)


def learned_from(index: EventIndex, phase: BlockStack, pages: float) -> Calibration:
    return learn(
        index,
        WINDOWS,
        History(blocks=phase, peaks=Peaks.none(len(WINDOWS), index.starts.size)),
        source=CalibrationSource.TRAFFIC,
        block_seconds=phase.seconds,
        false_pages_per_year=pages,
    )


def pages_of(
    calibration: Calibration,
    stack: BlockStack,
    budget_per_year: float,
    marked: npt.NDArray[np.bool_],
    valid_from: int,
) -> IntArray:
    """Pages by evidence alone of every column [C], restarted after each; only columns `marked` spend."""
    columns = calibration.starts.size
    weights = np.where(marked, 1.0 / columns, 0.0)
    budget = calibration.budget(budget_per_year * columns, weights)
    size = calibration.bands.low.size
    evidence = Evidence(
        r=np.zeros((size, 2, 5)), starts=calibration.starts, since=np.full(columns, -1, dtype=np.int64)
    )
    pages = np.zeros(columns, dtype=np.int64)
    pairs = (
        (int(start), BlockEvents(hits=h, totals=t))
        for start, h, t in zip(stack.starts, stack.events.hits, stack.events.totals, strict=True)
    )
    end = stack.span[1]
    for closed in closing(
        calibration, stack.seconds, pairs, after=valid_from, upto=end, valid_from=valid_from
    ):
        evidence = advance(
            evidence,
            closed.events,
            calibration.bands,
            budget,
            block_start=closed.starts,
            columns=closed.columns,
        )
        paged = evidence_mean(evidence) >= 1.0
        pages += paged
        evidence = reset(evidence, paged)
    return pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Pages and column-years after learning, how many columns ended in which state, and when."""

    pages: int
    years: float
    states: dict[str, int]
    days: list[int]
    seconds: list[int]


def live_through(
    wander: Wander,
    seed: int,
    *,
    looks: tuple[int, ...] = (14, 30, 60, 90),
    after: int = 365,
    per_year: float = 1.0,
) -> Outcome:
    """Learn as a daemon would, looking after so many days, then watch every column for `after` days more."""
    rng = np.random.default_rng(seed)
    index = wander.index(rng)
    per_day = DAY // wander.step
    stack = wander.stack(rng, index, wander.levels(rng, (looks[-1] + after) * per_day))
    open_columns = np.ones(wander.copies, dtype=np.bool_)
    pages, years, states, days, seconds = 0, 0.0, dict.fromkeys((s.value for s in ColumnLearning), 0), [], []
    for look in looks:
        found = learned_from(index, part(stack, 0, look * per_day), per_year * wander.copies)
        ended = np.array([s is not ColumnLearning.LEARNING for s in found.states]) & open_columns
        if not ended.any():
            continue
        open_columns &= ~ended
        until = part(stack, look * per_day, (look + after) * per_day)
        pages += int(pages_of(found, until, per_year, ended, look * DAY).sum())
        years += float(ended.sum()) * after / 365.25
        for column in np.flatnonzero(ended):
            states[found.states[column].value] += 1
            days.append(look)
            seconds.append(int(found.block_seconds[column]))
    return Outcome(pages=pages, years=years, states=states, days=days, seconds=seconds)
