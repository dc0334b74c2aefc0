"""Effect thresholds by preset: before learning, after it, and where learning took a window away."""

from dataclasses import replace

import numpy as np

from detectors.decision import PRESET_A, PRESET_C, ColumnLearning, Thresholds, preset_thresholds, unlearned
from detectors.paging import Preset
from tests.detectors.decision.samples import SECONDS, mixed_index

BEFORE = (ColumnLearning.UNLEARNED, ColumnLearning.LEARNING, ColumnLearning.MISMATCH)


def test_auto_is_what_the_calibration_says() -> None:
    found = unlearned(mixed_index(), SECONDS, 60)
    assert preset_thresholds(found, Preset.AUTO) is found.thresholds


def test_before_learning_a_changes_nothing_and_c_is_its_table() -> None:
    found = replace(unlearned(mixed_index(), SECONDS, 60), states=BEFORE)
    a, c = (preset_thresholds(found, preset) for preset in (Preset.A, Preset.C))
    for preset, table in ((a, PRESET_A), (c, PRESET_C)):
        plain, cautious = table.at(SECONDS), table.cautious(SECONDS)
        for kept, usual, learning in zip((preset.theta, preset.psi), plain, cautious, strict=True):
            assert np.array_equal(kept, np.stack([usual, learning, usual], axis=-1))
    assert np.array_equal(a.theta[:, ::2], found.thresholds.theta[:, ::2])
    assert c.rates is not None
    assert np.array_equal(c.rates, np.stack([c.psi] * 3))


def test_after_learning_c_keeps_the_allowance_and_a_drops_it() -> None:
    start = unlearned(mixed_index(), SECONDS, 60)
    learned = Thresholds(
        theta=np.full((4, 3), 0.44), psi=np.full((4, 3), 0.77), rates=np.full((3, 4, 3), 0.88)
    )
    found = replace(start, thresholds=learned, states=(ColumnLearning.LEARNED,) * 3)
    c, a = (preset_thresholds(found, preset) for preset in (Preset.C, Preset.A))
    assert np.array_equal(c.theta, learned.theta)
    assert np.array_equal(c.psi, learned.psi)
    assert np.array_equal(a.theta, np.stack([PRESET_A.at(SECONDS)[0]] * 3, axis=-1))
    assert a.rates is not None
    assert np.array_equal(a.rates[0], a.psi)


def test_no_preset_brings_back_a_window_that_was_taken_away() -> None:
    start = unlearned(mixed_index(), SECONDS, 60)
    theta, psi = start.thresholds.theta.copy(), start.thresholds.psi.copy()
    theta[2:, 0], psi[2:, 0], theta[:, 1], psi[:, 1] = np.inf, np.inf, np.inf, np.inf
    states = (ColumnLearning.LEARNING, ColumnLearning.TOO_VARIABLE, ColumnLearning.LEARNED)
    gone = Thresholds(theta=theta, psi=psi, rates=start.thresholds.rates)
    found = replace(start, thresholds=gone, states=states)
    for preset in Preset:
        chosen = preset_thresholds(found, preset)
        assert np.array_equal(np.isinf(chosen.theta), np.isinf(theta)), preset
        assert np.array_equal(np.isinf(chosen.psi), np.isinf(psi)), preset
        assert np.isfinite(chosen.rates if chosen.rates is not None else np.inf).all()
