"""Figures and states as a reader sees them on the pages."""

import math
from collections.abc import Sequence

import numpy as np

from alerts.times import for_readers, span
from detectors.decision import ColumnLearning
from monitor.config import ModelSettings
from monitor.explain import number, percent
from monitor.judging import ColumnRule, LeadingBet, WindowThreshold
from monitor.scores import Scores
from monitor.traffic import Traffic

SOURCES = {"training": "timestamped training data", "traffic": "live traffic"}
"""What a column was learned from, in words."""


def figure(value: float, digits: int = 3) -> str:
    """A statistic; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.1e}"


def evidence_figure(value: float) -> str:
    """Evidence spans fifty powers of ten; beyond a thousand the size says nothing more."""
    return "> 1000" if value > 1000 else f"{value:.2g}" if value >= 1e-3 else "< 0.001"


def share(value: float) -> str:
    """A share in percent; a dash where there is none."""
    return percent(float(value)) if math.isfinite(value) else "–"


def about(seconds: float) -> str:
    """An estimated length of time: two figures are more than it is worth."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def hourly(found: Traffic) -> bool:
    """Whether traffic reads better by the hour than by the minute, as where a minute has less than one row."""
    told = [found.rate, found.high, *(rate for hour in found.hours for rate in (hour.rate, hour.usual))]
    return max(value or 0.0 for value in told) < 1


def rates(found: Traffic, per_minute: Sequence[float]) -> list[str]:
    """Rows a minute as figures in the unit of `found`, the first of them with its name."""
    by_hour = hourly(found)
    first, *others = (_whole(value * 60 if by_hour else value) for value in per_minute)
    return [f"{first} rows {'an hour' if by_hour else 'a minute'}", *others]


def telling(scores: Scores, column: int) -> int:
    """The window to show first of a column: the longest with a valid distance."""
    valid = np.flatnonzero(np.isfinite(scores.of("ks")[:, column]))
    return int(valid[-1]) if valid.size else len(scores.windows) - 1


def learning_cell(rule: ColumnRule) -> str:
    """What a column has learned, for a table."""
    if rule.learning == ColumnLearning.MISMATCH:
        return "baseline mismatch"
    if rule.learning != ColumnLearning.LEARNED:
        return rule.learning.replace("_", " ")
    return "learned" if rule.detectable is None else f"D ≥ {rule.detectable:.2f}"


def learning_sentence(rule: ColumnRule) -> str:
    """What a column has learned and what follows from it."""
    source = SOURCES.get(rule.source, "")
    when = ""
    if rule.learned_from is not None and rule.learned_until is not None:
        when = f" ({for_readers(rule.learned_from)} to {for_readers(rule.learned_until)})"
    since = "" if rule.learning_since is None else f" since {for_readers(rule.learning_since)}"
    return {
        ColumnLearning.LEARNED: f"Learned from {source}{when}: how much this moves by nature is in its bands and thresholds.",
        ColumnLearning.LEARNING: f"Learning from {source or 'live traffic'}{since}: until two weeks and 25 correlation times "
        "are seen only large shifts page, and the budget of false pages does not cover it.",
        ColumnLearning.UNLEARNED: "Nothing is learned: it is judged by training and tolerance alone.",
        ColumnLearning.MISMATCH: f"Baseline mismatch, not drift: production{when} never was what this version was trained on. "
        "Nothing is learned from it, and it pages. Is this the right baseline?",
        ColumnLearning.TOO_VARIABLE: f"Too variable{when}: it moves so much, or so slowly, by nature that no bet on its values "
        "tells anything. Its values never page; missing and infinite ones do.",
    }[ColumnLearning(rule.learning)]


def amount(found: LeadingBet, value: float) -> str:
    """A share of the bet's event, or a mean."""
    return number(value) if found.kind == "mean" else percent(value)


def bet(found: LeadingBet) -> str:
    """The leading event and its band, such as "x ≤ 4: 50% in training, 43% to 57% is nothing new"."""
    trained, low, high = (amount(found, value) for value in (found.trained, found.low, found.high))
    return f"{found.event}: {trained} in training, {low} to {high} is nothing new"


def budget(rule: ColumnRule) -> str:
    """The column's part of the false pages a year that the model may have."""
    if not rule.budget:
        return "none now: it is ignored, or this version does not answer in production"
    return f"{rule.budget:.2g} false pages a year, {percent(rule.budget_share)} of the model's"


def delay(rule: ColumnRule) -> str:
    """How soon a shift of D = 0.3 pages."""
    if rule.delay_seconds is not None:
        return f"about {about(rule.delay_seconds)} after a shift of D = 0.3"
    return _never(rule, "a shift of D = 0.3 would not page")


def detectable(rule: ColumnRule) -> str:
    """The smallest shift that pages within six hours."""
    return (
        f"D = {rule.detectable:.2f}"
        if rule.detectable is not None
        else _never(rule, "no shift pages so soon")
    )


def classic_rule(settings: ModelSettings) -> str:
    """The classic rule that pages for a model; empty for driftd's two keys."""
    return "" if settings.rule is None else str(settings.rule)


def thresholds_from(rule: ColumnRule) -> str:
    """Where thresholds come from, in a sentence."""
    words = {
        "configuration": "from the configuration",
        "learned": "learned",
        "preset A": "those of preset A",
        "preset C": "those of preset C",
    }
    if rule.ks_from == rule.psi_from:
        return f"Thresholds: {words[rule.ks_from]}."
    return f"KS D: {words[rule.ks_from]}; PSI: {words[rule.psi_from]}."


def threshold_rows(thresholds: Sequence[WindowThreshold]) -> list[dict[str, str]]:
    """Per window the least effect that pages."""
    return [{"window": span(t.seconds), "ks": _limit(t.ks), "psi": _limit(t.psi)} for t in thresholds]


def _whole(value: float) -> str:
    """Three figures, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _limit(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"


def _never(rule: ColumnRule, words: str) -> str:
    known = rule.learning in (ColumnLearning.LEARNED, ColumnLearning.TOO_VARIABLE)
    return words if known else "not known yet" if rule.learning == ColumnLearning.LEARNING else "not known"
