"""The rules at work decide as the shipped decision and the shipped lifecycle do, minute by minute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from alerts.lifecycle import INACTIVE, Condition, Phase, drift_rule
from alerts.lifecycle import advance as live
from detectors import ks, psi
from detectors.decision import (
    BlockEvents,
    EventIndex,
    Evidence,
    Windows,
    advance,
    bands,
    decide,
    effect_holds,
    effects,
    reset,
    resolve_thresholds,
    spend,
)
from detectors.simulation.bets import EVENTS, Bets, minute_hits
from detectors.simulation.deciding import EvidenceAlone, TwoKey
from detectors.simulation.looking import BoolArray, Look
from detectors.simulation.rules import WINDOW_MINUTES
from detectors.simulation.scenarios import SCENARIOS, Scenario
from detectors.simulation.streams import Chunk, Streams
from detectors.types import ColumnState, IntArray
from tests.detectors.simulation.worlds import UNSTEADY, profile, slots, streams_of

SECONDS = tuple(60 * minutes for minutes in WINDOW_MINUTES)


def hits_of(streams: Streams, chunk: Chunk) -> IntArray:
    begin = chunk.offsets[chunk.new]
    draws = np.diff(chunk.offsets[chunk.new :])
    return np.stack(
        [minute_hits(cells[begin:], streams.grid.evidence, draws, chunk.weight) for cells in chunk.cells],
        axis=1,
    )


@pytest.mark.parametrize("name", ["iid_60", "batches_2"])
def test_hits_are_those_of_the_shipped_index(name: str) -> None:
    streams = streams_of(SCENARIOS[name])
    chunk = streams.take(40)
    index = EventIndex.of(streams.grid.baseline)
    found = hits_of(streams, chunk).reshape(40, -1)
    for minute in range(40):
        shipped = index.count(profile(streams, chunk, minute, minute + 1))
        np.testing.assert_array_equal(found[minute], shipped.hits)
        assert set(shipped.totals) == {int(chunk.rows[minute])}


@pytest.mark.parametrize("block_minutes", [1, 15])
def test_bets_are_the_shipped_ones_bit_for_bit(block_minutes: int) -> None:
    streams = streams_of(SCENARIOS["strong_60"], columns=3)
    index = EventIndex.of(streams.grid.baseline)
    band = bands(index)
    budget = spend(10.0, [0.5, 0.3, 0.2], 60.0 * block_minutes)
    bets = Bets(np.arange(3), band, budget, block_minutes)
    evidence = Evidence.zeros(index)
    start = 0
    for minutes in (100, 3, 204):
        chunk = streams.take(minutes)
        _, payoffs = bets.payoffs(start, hits_of(streams, chunk), chunk.rows[chunk.new :])
        for payoff in payoffs:
            bets.place(payoff)
        start += minutes
    for block in range(start // block_minutes):
        events = index.count(profile(streams, chunk, block * block_minutes, (block + 1) * block_minutes))
        evidence = advance(evidence, events, band, budget, block_start=block)
    np.testing.assert_array_equal(bets.r.transpose(2, 1, 0), evidence.r)


def test_bets_are_capped_and_restart_at_nothing() -> None:
    streams = streams_of(SCENARIOS["iid_60"])
    index = EventIndex.of(streams.grid.baseline)
    bets = Bets(np.arange(2), bands(index), spend(1.0, [0.5, 0.5], 60.0), 1)
    hits = np.zeros((3_000, 2, EVENTS), dtype=np.int64)
    hits[:, 0, :13] = 60
    _, payoffs = bets.payoffs(0, hits, np.full(3_000, 60))
    assert max(bets.place(payoff) for payoff in payoffs) > 1e250
    assert bets.r.max() == 1e250
    bets.reset(np.array([True, False]))
    assert (bets.means()[0] == 0.0, bets.means()[1] > 1.0) == (True, True)


def shipped_replay(streams: Streams, chunk: Chunk, pages: float) -> BoolArray:
    """Which alerts fire at every minute by the shipped decision, on shipped counts, with the shipped lifecycle."""
    index = EventIndex.of(streams.grid.baseline)
    columns = len(streams.grid.baseline.columns)
    band, budget = bands(index), spend(pages, [1.0 / columns] * columns, 60.0)
    limits = resolve_thresholds(SECONDS, [c.name for c in streams.grid.baseline.columns])
    rule, epoch = drift_rule(timedelta(minutes=1)), datetime(2026, 1, 1, tzinfo=UTC)
    states, evidence = [INACTIVE] * columns, Evidence.zeros(index)
    panes = np.stack([slots(streams, chunk, t, t + 1) for t in range(chunk.stop)])
    running = np.concatenate([np.zeros((1, panes.shape[1]), dtype=np.int64), np.cumsum(panes, axis=0)])
    total = np.concatenate([[0], np.cumsum(chunk.rows)])
    fired = np.zeros((chunk.stop, columns), dtype=np.bool_)
    for t in range(chunk.stop):
        if chunk.rows[t]:
            events: BlockEvents = index.count_stack(panes[t], chunk.rows[t])
            evidence = advance(evidence, events, band, budget, block_start=60 * t)
        first = [max(t + 1 - w, 0) for w in WINDOW_MINUTES]
        counts, rows = running[t + 1] - running[first], total[t + 1] - total[first]
        windows = Windows(
            seconds=np.array(SECONDS),
            counts=counts,
            rows=rows,
            ks=ks.kernel(streams.grid.baseline, counts, rows).statistic,
            psi=psi.kernel(streams.grid.baseline, counts, rows).statistic,
        )
        found = effects(index, windows, limits)
        verdicts = decide(index, found, evidence, false_pages_per_year=pages)
        over = np.zeros(columns, dtype=np.bool_)
        for c, (verdict, holds) in enumerate(zip(verdicts, effect_holds(found), strict=True)):
            drift = verdict.state is ColumnState.DRIFT
            told = Condition.UNKNOWN if holds is None else Condition.TRUE if holds else Condition.FALSE
            if not states[c].open:
                told = Condition.TRUE if drift else Condition.FALSE
            step = live(states[c], told, rule, epoch + timedelta(minutes=t))
            if step is not None:
                over[c] = step.after.phase is Phase.RESOLVED
                states[c] = step.after
            fired[t, c] = states[c].phase is Phase.FIRING
        if over.any():
            evidence = reset(evidence, over)
    return fired


@pytest.mark.parametrize(
    "scenario",
    [UNSTEADY, replace(UNSTEADY, rows_per_minute=0.6), replace(UNSTEADY, rows_per_minute=0.05)],
    ids=["busy", "thin", "hardly any"],
)
def test_two_keys_open_and_close_when_the_shipped_ones_do(scenario: Scenario) -> None:
    streams, twin = streams_of(scenario, seed=8), streams_of(scenario, seed=8)
    pages = 20_000.0
    judge = TwoKey(EventIndex.of(streams.grid.baseline), pages, learns=False)
    found = []
    for minutes in (150, 300, 250):
        chunk = streams.take(minutes)
        found.append(judge.judge(Look(streams.grid, chunk, WINDOW_MINUTES), hits_of(streams, chunk)))
    expected = shipped_replay(twin, twin.take(700), pages)
    np.testing.assert_array_equal(np.concatenate(found), expected)
    if scenario is UNSTEADY:
        opened = (expected[1:] & ~expected[:-1]).sum()
        closed = (expected[:-1] & ~expected[1:]).sum()
        assert opened >= 2
        assert closed >= 1


def test_the_evidence_key_alone_restarts_at_every_crossing() -> None:
    streams = streams_of(UNSTEADY, seed=8)
    index = EventIndex.of(streams.grid.baseline)
    judge = EvidenceAlone(index, 20_000.0)
    chunk = streams.take(600)
    hits = hits_of(streams, chunk)
    firing = judge.judge(Look(streams.grid, chunk, WINDOW_MINUTES), hits)
    band, budget, evidence = bands(index), spend(20_000.0, [0.5, 0.5], 60.0), Evidence.zeros(index)
    last, expected = np.full(2, -1_000), np.zeros((600, 2), dtype=np.bool_)
    for t in range(600):
        events = index.count(profile(streams, chunk, t, t + 1))
        evidence = advance(evidence, events, band, budget, block_start=60 * t)
        means = np.array([evidence.r[c * EVENTS : (c + 1) * EVENTS].mean() for c in range(2)])
        last[means >= 1.0] = t
        evidence = reset(evidence, means >= 1.0)
        expected[t] = t - last <= 60
    assert expected.any()
    np.testing.assert_array_equal(firing, expected)
