"""Effect thresholds by preset: from what was learned, or from one table for good.

A preset chooses thresholds alone. Bands and block lengths, hence evidence, and the promise with it, stay as they are, and
a window that learning took away (infinite thresholds: those of a column that is TOO_VARIABLE) stays away. While a column is
LEARNING no window's threshold is below an hour's, under any preset.

- AUTO: table A before a column has learned; after it table C, raised to 1.5 times the largest D and 2.25 times the largest
  PSI of Phase I.
- A: table A, before and after: at 15 minutes and an hour only large shifts, and at a day no allowance for how the
  column moves by nature. Learned bands then guard against pages alone.
- C: table C from the first day; after learning the same as AUTO. Before it nothing is known of how the column moves, so
  natural movement turns the effect key sooner.
"""

import numpy as np

from detectors.decision.calibration import Calibration, ColumnLearning
from detectors.decision.effect import PRESET_A, PRESET_C, RATES, Thresholds
from detectors.paging import Preset

_LEARNED = frozenset({ColumnLearning.LEARNED, ColumnLearning.TOO_VARIABLE})


def preset_thresholds(calibration: Calibration, preset: Preset) -> Thresholds:
    """The thresholds of a calibration under a preset, shapes as in `Thresholds`."""
    found = calibration.thresholds
    assert found.rates is not None
    if preset is Preset.AUTO:
        return found
    table = PRESET_A if preset is Preset.A else PRESET_C
    learning = np.array([state is ColumnLearning.LEARNING for state in calibration.states])
    theta, psi = (
        np.where(learning, cautious[:, np.newaxis], plain[:, np.newaxis])
        for cautious, plain in zip(
            table.cautious(calibration.windows), table.at(calibration.windows), strict=True
        )
    )
    learned = np.array([state in _LEARNED for state in calibration.states])
    replaced = ~learned if preset is Preset.C else np.ones_like(learned)
    tables = (
        np.where(replaced & np.isfinite(old), new, old)
        for old, new in ((found.theta, theta), (found.psi, psi))
    )
    rates = np.where(replaced & np.isfinite(found.rates), np.stack([psi] * RATES), found.rates)
    return Thresholds(theta=next(tables), psi=next(tables), rates=rates)


def threshold_origin(learning: ColumnLearning, preset: Preset) -> str:
    """Where a column's thresholds come from under a preset: `learned`, `preset A` or `preset C`."""
    if learning in _LEARNED and preset is not Preset.A:
        return "learned"
    return "preset C" if preset is Preset.C else "preset A"
