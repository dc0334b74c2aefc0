"""Expected delays: against shares of shifted normal values, and against bets placed on them."""

import numpy as np
import pytest
from scipy import stats

from detectors.decision import Evidence, advance, bands, evidence_mean, spend
from detectors.decision.delay import expected_delay, growth, shifted
from detectors.decision.envelope import trained_shares
from detectors.profile import NumericColumn, profile_rows
from tests.detectors.decision.samples import categorical, index_of, numeric


def test_the_reference_shift_has_its_distance_and_is_a_location_shift() -> None:
    index = index_of(numeric("x", np.random.default_rng(0).normal(size=50_000)))
    column = index.baseline.columns[0]
    assert isinstance(column, NumericColumn)
    cuts = column.cuts[column.evidence_cuts]
    levels = trained_shares(index)[np.newaxis, :16]
    # D = .383 is a shift of 1 sd (effect dictionary of the statistics reference).
    up, down = shifted(index, 0, levels, 0.3829249)
    assert up[0] == pytest.approx(stats.norm.cdf(cuts - 1.0), abs=0.025)
    assert down[0] == pytest.approx(stats.norm.cdf(cuts + 1.0), abs=0.025)


def test_categories_lose_rows_to_the_unseen_or_to_each_other() -> None:
    index = index_of(categorical("c", ["a"] * 60 + ["b"] * 40))
    levels = trained_shares(index)[np.newaxis]
    new, swapped = shifted(index, 0, levels, 0.3)
    assert new[0] == pytest.approx([0.42, 0.28, 0.0, 0.3])
    assert swapped[0] == pytest.approx([0.3, 0.7, 0.0, 0.0])


@pytest.mark.parametrize("rows", [1, 5, 200])
def test_growth_is_the_expectation_over_binomial_shares(rows: int) -> None:
    low, high, share = 0.45, 0.55, 0.8
    hits = np.arange(rows + 1)
    weight = stats.binom.pmf(hits, rows, share)
    best = max(
        float((weight * np.log1p(f * (hits / rows / high - 1.0))).sum()) for f in (0.03, 0.1, 0.3, 0.6, 0.9)
    )
    found = growth(np.array([[[share]]]), rows, np.array([low]), np.array([high]))
    # Two points stand for the binomial: exact for one row.
    assert found[0] == pytest.approx(best, rel=1e-9 if rows == 1 else 0.02)


def test_there_is_no_delay_where_no_bet_can_win() -> None:
    found = growth(np.full((2, 3, 4), 0.9), 50.0, np.zeros(4), np.ones(4))
    assert np.all(np.isneginf(found))
    assert np.all(np.isinf(expected_delay(found, seconds=60, bets=160, budget=1e-6, occupancy=1.0)))


@pytest.mark.parametrize(("rows", "distance"), [(60, 0.3), (5, 0.3), (60, 0.2)])
def test_the_expected_delay_is_what_bets_take(rows: int, distance: float) -> None:
    rng = np.random.default_rng(9)
    index = index_of(numeric("x", rng.normal(size=10_000)))
    band, budget = bands(index), spend(0.1, [1.0], 60.0)
    levels = trained_shares(index)[np.newaxis, :16]
    rate = growth(shifted(index, 0, levels, distance), rows, band.low[:13], band.high[:13])
    expected = expected_delay(rate, seconds=60, bets=160, budget=float(budget[0]), occupancy=1.0)[0] / 60
    shift, taken = 2 * stats.norm.ppf((1 + distance) / 2), []
    for _ in range(8):
        evidence, block = Evidence.zeros(index), 0
        while evidence_mean(evidence)[0] < 1.0:
            events = index.count(profile_rows(index.baseline, {"x": rng.normal(shift, 1.0, rows)}))
            evidence = advance(evidence, events, band, budget, block_start=60 * block)
            block += 1
        taken.append(block)
    assert 0.6 * expected < np.median(taken) < 1.3 * expected
