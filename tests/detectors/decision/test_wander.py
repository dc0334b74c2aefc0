"""The correlation time, against processes whose correlation time is known."""

import numpy as np
import pytest

from detectors.decision.wander import correlation_seconds, correlation_time, wanders
from detectors.types import FloatArray
from tests.detectors.decision.wandering import Wander


def autoregressive(rng: np.random.Generator, tau: float, steps: int) -> FloatArray:
    keep, level = np.exp(-1.0 / tau), rng.normal(size=steps)
    for step in range(1, steps):
        level[step] = keep * level[step - 1] + np.sqrt(1.0 - keep * keep) * level[step]
    return level


@pytest.mark.parametrize("tau", [6.0, 24.0, 72.0])
@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
def test_the_estimate_is_near_the_truth_whatever_the_sampling_noise(tau: float, noise: float) -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(20):
        level = autoregressive(rng, tau, 3_000)
        found.append(correlation_time(np.arange(3_000), level + noise * rng.normal(size=3_000)))
    # lag-6 autocorrelation alone would say 2.6 h for the last of these.
    assert 0.75 * tau < np.median(found) < 1.5 * tau


def test_white_levels_daily_cycles_and_constants_have_the_shortest_time() -> None:
    at = np.arange(1_000)
    cycle = np.sin(2 * np.pi * at / 24)
    white = [correlation_time(at, np.random.default_rng(s).normal(size=1_000)) for s in range(20)]
    assert np.median(white) < 3.0
    assert correlation_time(at, cycle) == 1.0
    assert correlation_time(at, np.full(1_000, 0.3)) == 1.0


def test_a_step_inside_the_span_looks_like_a_long_memory() -> None:
    """So learning does not end on traffic that changed while it was learned from."""
    rng = np.random.default_rng(3)
    level = np.where(np.arange(336) < 300, 0.5, 0.8) + 0.02 * rng.normal(size=336)
    assert correlation_time(np.arange(336), level) > 336 / 25


def test_gaps_are_left_out_and_a_short_series_tells_nothing() -> None:
    rng = np.random.default_rng(5)
    level = autoregressive(rng, 24.0, 4_000)
    kept = np.flatnonzero(np.arange(4_000) // 12 % 2 == 0)
    assert 12 < correlation_time(kept, level[kept]) < 48
    assert np.isnan(correlation_time(np.arange(20), level[:20]))
    assert np.isnan(correlation_time(np.arange(0), level[:0]))
    assert np.isnan(correlation_time(np.arange(100) * 7, level[:100]))


def test_columns_that_wander_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(2)
    for days, sd, expected in ((1.0, 0.3, True), (1.0, 0.0, False)):
        wander = Wander(days=days, level_sd=sd, rows=100, copies=3)
        index = wander.index(rng)
        stack = wander.stack(rng, index, wander.levels(rng, 24 * 40))
        tau = correlation_seconds(index, stack)
        assert [wanders(index, stack, column) for column in range(3)] == [expected] * 3
        # The upper end of the estimate: above the truth, mostly.
        assert np.all(tau > 0.6 * days * 86_400) if expected else np.all(tau < 6 * 3_600)
