"""Learning: what Phase I teaches, when it ends, and that slow wander does not page once it has ended."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from detectors.decision import (
    PRESET_A,
    Bands,
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
    bands,
    evidence_mean,
    inherit,
    learn,
    peaks_of,
    reset,
    taking,
    unlearned,
)
from detectors.profile import profile_rows
from detectors.types import DetectorError, FloatArray, IntArray
from tests.detectors.decision.samples import index_of, numeric
from tests.detectors.decision.wandering import (
    DAY,
    WINDOWS,
    Wander,
    learned_from,
    live_through,
    pages_of,
    part,
)

LEARNED, LEARNING = ColumnLearning.LEARNED, ColumnLearning.LEARNING


def still(rows: int = 600, copies: int = 2) -> Wander:
    """Columns that do not wander at all."""
    return Wander(days=1.0, level_sd=0.0, rows=rows, copies=copies)


def stream(wander: Wander, days: int, seed: int = 1, shift: float = 0.0) -> tuple[EventIndex, BlockStack]:
    rng = np.random.default_rng(seed)
    index = wander.index(rng)
    return index, wander.stack(rng, index, wander.levels(rng, days * DAY // wander.step) + shift)


def test_a_still_column_is_learned_after_two_weeks_at_the_shortest_block() -> None:
    wander = Wander(days=1.0, level_sd=0.0, rows=150, copies=2, step=900)
    index, stack = stream(wander, 14)
    found = learned_from(index, stack, 0.1)
    assert found.states == (LEARNED, LEARNED)
    assert found.block_seconds.tolist() == [900] * 2
    assert found.span == (0, 14 * DAY)
    assert np.all(found.tau_seconds < 13 * 3_600)
    assert np.all(found.delay_seconds < 12 * 3_600)
    assert np.all((found.detectable > 0.1) & (found.detectable < 0.6))
    assert learned_from(index, part(stack, 0, 13 * 96), 0.1).states == (LEARNING, LEARNING)


def test_bands_hold_the_envelope_and_are_never_narrower_than_tolerance() -> None:
    index, stack = stream(Wander(days=0.2, level_sd=0.5, rows=600, copies=3), 40)
    found = learned_from(index, stack, 0.1)
    floor = bands(index)
    assert set(found.states) == {LEARNED}
    assert np.all(found.bands.low <= floor.low)
    assert np.all(found.bands.high >= floor.high)
    for column, seconds in enumerate(found.block_seconds.tolist()):
        blocks = part(stack, 0, found.span[1] // stack.seconds).longer(max(seconds, 3_600)).events
        first = int(index.starts[column])
        shares = blocks.hits[:, first : first + 13] / blocks.totals[:, first : first + 13]
        assert np.all(shares.max(axis=0) <= found.bands.high[first : first + 13])
        assert np.all(shares.min(axis=0) >= found.bands.low[first : first + 13])


def test_while_learning_no_window_has_thresholds_below_those_of_an_hour() -> None:
    index, stack = stream(still(), 3)
    found = learned_from(index, stack, 0.1)
    theta, psi = PRESET_A.at(WINDOWS)
    assert found.states == (LEARNING, LEARNING)
    assert found.thresholds.theta[:, 0].tolist() == [theta[0], theta[1], theta[1], theta[1]]
    assert found.thresholds.psi[:, 1].tolist() == [psi[0], psi[1], psi[1], psi[1]]
    assert found.bands.low.tobytes() == bands(index).low.tobytes()
    assert Calibration.decode(found.encode()).encode() == found.encode()


def test_asking_often_is_asking_at_the_looks() -> None:
    """Live traffic is read up to 14, 28, 56 and 90 days: between them the answer does not change, gaps or not."""
    index, stack = stream(Wander(days=0.1, level_sd=0.3, rows=600, copies=1), 28)
    quiet = part(stack, 0, 27 * 24)
    open_at_14 = np.r_[0 : 14 * 24 - 5, 14 * 24 : 27 * 24]
    gappy = BlockStack(
        seconds=quiet.seconds,
        starts=quiet.starts[open_at_14],
        events=BlockEvents(hits=quiet.events.hits[open_at_14], totals=quiet.events.totals[open_at_14]),
    )
    first = learned_from(index, part(stack, 0, 14 * 24), 0.1)
    assert learned_from(index, quiet, 0.1).encode() == first.encode()
    assert first.span == learned_from(index, gappy, 0.1).span == (0, 14 * DAY)
    assert learned_from(index, stack, 0.1).span == (0, 28 * DAY)


def test_no_block_at_all_is_learning() -> None:
    index, stack = stream(still(), 1)
    assert learned_from(index, part(stack, 0, 0), 0.1).states == (LEARNING, LEARNING)


def test_thresholds_stand_above_the_peaks() -> None:
    index, stack = stream(still(copies=1), 20)
    peaks = np.full((5, 4, 1), np.nan)
    peaks[0, 1:, 0], peaks[1, 1:, 0], peaks[2, 3, 0] = [0.5, 0.9, 1.0], [0.1, 0.4, 2.0], 0.6
    found = learn(
        index,
        WINDOWS,
        History(blocks=stack, peaks=Peaks(statistic=peaks)),
        source=CalibrationSource.TRAINING,
        block_seconds=3_600,
    )
    # 15 min never seen: preset A. 1.5 * .5; half way from .9 to 1; never, where D = 1 is nature.
    assert found.thresholds.theta[:, 0] == pytest.approx([0.6, 0.75, 0.95, np.inf])
    assert found.thresholds.psi[:, 0] == pytest.approx([1.0, 0.225, 0.9, 4.5])
    assert found.thresholds.rates is not None
    assert found.thresholds.rates[0, 3, 0] == pytest.approx(2.25 * 0.6)
    assert found.thresholds.rates[1, 3, 0] == PRESET_A.at(WINDOWS)[1][3]


def test_a_phase_that_is_not_what_the_model_was_trained_on_is_refused_per_column() -> None:
    rng = np.random.default_rng(1)
    wander = still(copies=3)
    index = wander.index(rng)
    levels = wander.levels(rng, 20 * 24)
    levels[:, 1] += 0.7  # D = .27
    levels[:, 2] += 0.3  # D = .12: off, but no mismatch
    found = learned_from(index, wander.stack(rng, index, levels), 0.1)
    assert found.states == (LEARNED, ColumnLearning.MISMATCH, LEARNED)
    plain = unlearned(index, WINDOWS, wander.step)
    own = slice(16, 32)
    assert np.array_equal(found.bands.high[own], plain.bands.high[own])
    assert np.array_equal(found.thresholds.theta[:, 1], plain.thresholds.theta[:, 1])


def test_a_column_that_is_often_missing_in_traffic_only_is_a_mismatch() -> None:
    index, stack = stream(still(copies=1), 20)
    hits, totals = stack.events.hits.copy(), stack.events.totals.copy()
    hits[:, 13], totals[:, :13] = 300, 300
    hits[:, :13] //= 2
    broken = replace(stack, events=BlockEvents(hits=hits, totals=totals))
    assert learned_from(index, broken, 0.1).states == (ColumnLearning.MISMATCH,)


def test_a_change_inside_phase_one_keeps_the_column_learning() -> None:
    rng = np.random.default_rng(1)
    wander = still(copies=1)
    index = wander.index(rng)
    levels = wander.levels(rng, 14 * 24)
    levels[12 * 24 :] += 1.0
    assert learned_from(index, wander.stack(rng, index, levels), 0.1).states == (LEARNING,)


def test_thin_traffic_learns_longer_and_in_the_end_goes_without() -> None:
    index, stack = stream(replace(still(rows=6, copies=1), step=DAY // 2), 90)
    assert learned_from(index, part(stack, 0, 60 * 2), 0.1).states == (LEARNING,)
    assert learned_from(index, stack, 0.1).states == (ColumnLearning.UNLEARNED,)


def test_a_column_that_jumps_from_end_to_end_is_too_variable_but_its_missing_rate_is_not() -> None:
    rng = np.random.default_rng(1)
    wander = Wander(days=0.01, level_sd=0.0, rows=600, copies=1, step=DAY)
    index = index_of(numeric("x0", rng.uniform(-40, 40, 5_000)))
    # Every day is somewhere else: days below the first cut, days above the last, and all between.
    found = learned_from(index, wander.stack(rng, index, rng.uniform(-45, 45, (60, 1))), 0.1)
    assert found.states == (ColumnLearning.TOO_VARIABLE,)
    assert found.bands.low[:13].tolist() == [0.0] * 13
    assert found.bands.high[:13].tolist() == [1.0] * 13
    assert found.bands.high[13] < 0.05
    assert np.all(np.isinf(found.thresholds.theta))
    lost = BlockEvents(hits=np.array([0] * 13 + [300, 0, 0]), totals=np.array([300] * 13 + [600] * 3))
    evidence, budget = Evidence.zeros(index), found.budget(0.1, [1.0])
    for day in range(20):
        evidence = advance(evidence, lost, found.bands, budget, block_start=day * DAY)
    assert evidence_mean(evidence)[0] >= 1.0


def test_peaks_are_those_of_whole_windows_inside_the_phase() -> None:
    rng = np.random.default_rng(2)
    index = index_of(numeric("x", rng.normal(size=10_000)))

    def panes(shift_at: int) -> Iterator[tuple[int, IntArray, int]]:
        for pane in range(4 * 36):
            shift = 1.0 if pane == shift_at else 0.0
            found = profile_rows(index.baseline, {"x": rng.normal(shift, 1.0, 100)})
            yield pane * 900, found.counts, found.rows

    found = peaks_of(index, WINDOWS, panes(100), pane_seconds=900).statistic[0, :, 0]
    # A quarter of an hour at 1 sd (D = .383): diluted 1, 4, 24 and 96 times, over noise of 1.36/sqrt(n).
    assert found[0] == pytest.approx(0.383, abs=0.1)
    assert found[1] == pytest.approx(0.096, abs=0.06)
    assert found[3] < 0.03
    early = peaks_of(index, WINDOWS, list(panes(-1))[:20], pane_seconds=900)
    assert np.isnan(early.statistic[0, 2:, 0]).all()
    assert Peaks.decode(early.encode()).statistic.tobytes() == early.statistic.tobytes()


def test_other_windows_or_another_baseline_are_refused() -> None:
    index, stack = stream(still(), 2)
    history = History(blocks=stack, peaks=Peaks.none(4, 2))
    with pytest.raises(DetectorError, match="other windows"):
        learn(index, WINDOWS[:2], history, source=CalibrationSource.TRAFFIC, block_seconds=60)
    with pytest.raises(DetectorError, match="another baseline"):
        learn(
            index_of(numeric("a", np.arange(200.0))),
            WINDOWS,
            History(blocks=stack, peaks=Peaks.none(4, 1)),
            source=CalibrationSource.TRAFFIC,
            block_seconds=60,
        )


@pytest.mark.parametrize("days", [1.0, 3.0, 7.0])
def test_slow_wander_pages_no_more_than_its_budget(days: float) -> None:
    """Six columns, one page a year allowed to each; without learning they page far more often.

    The smallest of the simulations behind the rule; larger ones are in the slow test below.
    """
    wander = Wander(days=days, level_sd=1.0, rows=600, copies=6, step=21_600)
    found = live_through(wander, 5, looks=(14, 30, 60, 90), after=180)
    assert found.years == pytest.approx(6 * 180 / 365.25)
    assert found.pages <= found.years
    if days == 1.0:
        assert found.states["learned"] == 6
    if days == 7.0:
        # 90 days are 13 correlation times.
        assert found.states["too_variable"] >= 4
    index, stack = stream(wander, 60, seed=5)
    plain = unlearned(index, WINDOWS, wander.step)
    assert pages_of(plain, stack, 1.0, np.ones(6, dtype=np.bool_), 0).sum() > 5 * 6 * 60 / 365.25


def test_batches_of_repeated_rows_neither_page_nor_keep_the_column_learning() -> None:
    """Rows in batches of 10 equal ones: hourly shares are ten times as noisy, the learned band is wider, nothing pages."""
    rng = np.random.default_rng(6)
    thin = still(rows=60, copies=2)
    index = thin.index(rng)
    drawn = thin.stack(rng, index, thin.levels(rng, 24 * 100))
    events = BlockEvents(hits=10 * drawn.events.hits, totals=10 * drawn.events.totals)
    stack = replace(drawn, events=events)
    found = learned_from(index, part(stack, 0, 20 * 24), 2.0)
    assert set(found.states) == {LEARNED}
    assert found.bands.high[6] > bands(index).high[6] + 0.02
    pages = pages_of(found, part(stack, 20 * 24, 100 * 24), 1.0, np.ones(2, dtype=np.bool_), 20 * DAY)
    assert pages.sum() <= 2 * 80 / 365.25


def test_the_promise_holds_while_weights_budget_versions_and_columns_change() -> None:
    """Columns at the upper edge of their bands; B, weights and the version change on what evidence shows.

    Every 120 blocks the model gets a new version: a retrained baseline, one column more, its calibration inherited, its
    evidence from 0. Sum of `a` over all blocks is the expectation of pages that the theorem allows.
    """
    rng = np.random.default_rng(12)
    spent, pages = 0.0, 0
    calibration: Calibration | None = None
    index: EventIndex | None = None
    for version in range(4):
        old, before = index, calibration
        index = index_of(*(numeric(f"x{i}", rng.normal(size=5_000)) for i in range(8 + version)))
        calibration = unlearned(index, WINDOWS, 3_600)
        if old is not None and before is not None:
            known = replace(before, states=(LEARNED,) * old.starts.size)
            calibration = inherit(known, old.baseline, index, block_seconds=3_600)
            assert list(calibration.states) == [LEARNED] * (7 + version) + [LEARNING]
        evidence, columns = Evidence.zeros(index), index.starts.size
        for block in range(120):
            hopeful = evidence_mean(evidence) >= np.median(evidence_mean(evidence))
            weights = np.where(hopeful, 2.0, 0.5) if block % 2 else np.ones(columns)
            pages_a_year = (2_000.0, 400.0)[block // 40 % 2]
            budget = calibration.budget(pages_a_year, weights)
            spent += float(budget.sum())
            events = at_the_edge(rng, index, calibration.bands, 200)
            evidence = advance(evidence, events, calibration.bands, budget, block_start=3_600 * block)
            paged = evidence_mean(evidence) >= 1.0
            pages += int(paged.sum())
            evidence = reset(evidence, paged)
    assert spent > 50
    assert 0.02 * spent < pages <= spent


def at_the_edge(rng: np.random.Generator, index: EventIndex, band: Bands, rows: int) -> BlockEvents:
    """One block whose every expected share is the upper end of its band."""
    hits = np.zeros(index.column.size, dtype=np.int64)
    for first in index.starts.tolist():
        below = np.maximum.accumulate(band.high[first : first + 13])
        drawn = rng.multinomial(rows, np.maximum(np.diff(below, prepend=0.0, append=1.0), 0.0))
        hits[first : first + 13] = np.minimum(np.cumsum(drawn)[:13], rows)
        hits[first + 13 : first + 16] = rng.binomial(rows, band.high[first + 13 : first + 16])
    return BlockEvents(hits=hits, totals=np.full(hits.size, rows))


def test_a_later_look_takes_only_the_columns_that_have_ended() -> None:
    index, stack = stream(still(), 20)
    first, second = (learned_from(index, part(stack, 0, days * 24), 0.1) for days in (10, 20))
    joined = taking(first, second, np.array([True, False]))
    assert joined.states == (LEARNED, LEARNING)
    assert np.array_equal(joined.bands.high[:16], second.bands.high[:16])
    assert np.array_equal(joined.bands.high[16:], first.bands.high[16:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "level_sd", "step"), [(1.0, 1.0, 21_600), (3.0, 1.0, 21_600), (7.0, 0.3, 3_600)]
)
def test_slow_wander_stays_within_its_budget_when_learning_is_asked_every_day(
    days: float, level_sd: float, step: int
) -> None:
    """A look a day stops where luck is best; 24 columns, a year each after learning, one page a year allowed."""
    found = [
        live_through(
            Wander(days=days, level_sd=level_sd, rows=600, copies=12, step=step),
            seed,
            looks=tuple(range(14, 91)),
        )
        for seed in (1, 2)
    ]
    assert sum(outcome.pages for outcome in found) <= sum(outcome.years for outcome in found)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("edge", ["high", "low", "training"])
def test_200_model_years_of_the_worst_null_stay_within_the_budget(edge: str) -> None:
    """36 columns, blocks of 6 h, B = 1 a year: at most 200 pages are allowed in 200 model-years.

    The budget per block is that of the real rule (c = 36 * 1461 blocks a year), not a magnified one: 100 models of 36
    columns live side by side for two years.
    """
    rng = np.random.default_rng(17)
    index = index_of(numeric("x", rng.normal(size=10_000)))
    band, models, columns = bands(index), 100, 36
    copies = models * columns
    wide = Bands(low=np.tile(band.low, copies), high=np.tile(band.high, copies))
    evidence = Evidence(
        r=np.zeros((16 * copies, 2, 5)), starts=16 * np.arange(copies), since=np.full(copies, -1)
    )
    blocks = 2 * 1_461
    budget = np.full(copies, 1.0 / (columns * 1_461))
    trained = index.trained.hits / index.trained.totals
    shares: FloatArray = {"high": band.high, "low": band.low, "training": trained}[edge].astype(np.float64)
    steps = np.maximum(np.diff(np.maximum.accumulate(shares[:13]), prepend=0.0, append=1.0), 0.0)
    pages = 0
    for block in range(blocks):
        below = np.cumsum(rng.multinomial(60, steps, copies), axis=1)[:, :13]
        rates = rng.binomial(60, shares[13:], (copies, 3))
        events = BlockEvents(
            hits=np.concatenate([below, rates], axis=1).ravel().astype(np.int64),
            totals=np.full(16 * copies, 60),
        )
        evidence = advance(evidence, events, wide, budget, block_start=21_600 * block)
        paged = evidence_mean(evidence) >= 1.0
        if paged.any():
            pages += int(paged.sum())
            evidence = reset(evidence, paged)
    assert pages <= 200
