"""Effects decided from stored scores are those decided from the counts."""

import numpy as np
import pytest

from detectors.decision import EventIndex, effect_holds, effects, unlearned
from detectors.profile import Profile, profile_rows
from monitor.backtest.scored import windows_of
from monitor.scores import Scores, decode, encode_scores, encode_states
from monitor.track import Identity, Rule, Track
from tests.monitor import frames

BASELINE = frames.baseline()
INDEX = EventIndex.of(BASELINE)
WINDOWS = (900, 3600)


def panes(seed: int) -> dict[int, Profile]:
    """An hour of minutes that moves, loses values, and goes to infinity and beyond the training range."""
    rng = np.random.default_rng(seed)
    found = {}
    for minute in range(60):
        rows = frames.rows(1000 * seed + minute, int(rng.integers(0, 40)), shift=float(rng.normal(0, 8)))
        lost = rng.random(rows["temp"].size)
        rows["temp"][lost < 0.2] = np.nan
        rows["temp"][lost > 0.95] = np.inf
        rows["carrier"][lost > 0.8] = None
        if rows["temp"].size:
            found[60 * minute] = profile_rows(BASELINE, rows)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_effects_come_out_as_they_did(seed: int) -> None:
    calibration = unlearned(INDEX, WINDOWS, 60)
    rule = Rule(windows=WINDOWS, shares=np.ones(3) / 3, false_pages_per_year=1.0, ignored=frozenset())
    stored = panes(seed)
    identity = Identity(version_id=1, version="1", baseline_id=1, segment="")
    track = Track(
        identity,
        INDEX,
        rule,
        calibration,
        lambda spans: {s: p for s, p in stored.items() if any(a <= s < b for a, b in spans)},
    )
    decision = track.step(3600, [])
    scores = decode(encode_states(decision.scores), encode_scores(decision.scores))
    windows = windows_of(INDEX, scores, WINDOWS)
    assert windows is not None
    again = effects(INDEX, windows, calibration.thresholds)
    assert np.array_equal(again.holds, decision.found.holds)
    assert np.array_equal(again.valid, decision.found.valid)
    assert np.array_equal(again.rows, decision.found.rows)
    assert effect_holds(again) == decision.holds
    np.testing.assert_array_equal(again.statistic[2:], decision.found.statistic[2:])  # the rates, exactly
    np.testing.assert_allclose(again.statistic[:2], decision.found.statistic[:2], rtol=3e-7)
    assert (again.statistic[:2] >= decision.found.statistic[:2])[again.valid[:2]].all()


def test_windows_are_chosen_by_length_and_refused_where_one_is_missing() -> None:
    scores = _scores()
    one = windows_of(INDEX, scores, (3600,))
    assert one is not None
    assert one.seconds.tolist() == [3600]
    assert windows_of(INDEX, scores, (900, 7200)) is None


def _scores() -> Scores:
    stored = panes(1)
    rule = Rule(windows=WINDOWS, shares=np.ones(3) / 3, false_pages_per_year=1.0, ignored=frozenset())
    identity = Identity(version_id=1, version="1", baseline_id=1, segment="")
    return Track(identity, INDEX, rule, unlearned(INDEX, WINDOWS, 60), lambda _: stored).step(3600, []).scores
