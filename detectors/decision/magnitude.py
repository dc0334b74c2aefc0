"""How large an effect is, apart from how soon it was seen: what an alert's severity goes by.

Thresholds fall with the window's length, and a sudden change is paged by a short window as soon as it passes a high
threshold: against that one every such change looks just large enough. A change that stays fills the long windows in
time, so its statistic is compared with the least threshold that any window has for it.
"""

from detectors.decision.effect import EFFECT_KINDS, EffectKind, Effects
from detectors.decision.verdict import Verdict


def magnitude(found: Effects, verdict: Verdict, column: int) -> float:
    """The verdict's effect over the least threshold of its kind in the column (a position); 1 without an effect.

    At least 1 where the effect holds. `found` are the effects that the verdict was decided from.
    """
    effect = verdict.effect
    if effect is None:
        return 1.0
    kind = -1 if verdict.rule is not None else EFFECT_KINDS.index(EffectKind(effect.detector))
    return effect.statistic / float(found.threshold[kind, :, column].min())
