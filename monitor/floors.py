"""Floors: whether the last mature day of a prediction column is surely worse than it must be, and why an alert said so."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from alerts.lifecycle import Condition, Event
from alerts.times import for_readers
from detectors.performance import MIN_LABELLED, accuracy_p_value, error_p_value
from monitor.config import ModelSettings
from monitor.config_schema import PerformanceLimits
from monitor.explained import Explained, identity
from storage.alerts import AlertRow, TransitionRow
from storage.performances import PerformanceRow

LOOKS_PER_YEAR: Final = 8766
"""The last 24 hours are judged once an hour."""
_WORDS: Final = {
    "accuracy": "accuracy {:.4g} where {:g} is the least",
    "mean_absolute_error": "mean absolute error {:.4g} where {:g} is the most",
}
_SUMS: Final = ("rows", "labelled", "correct", "absolute_error", "squared_error")
_TAKEN: Final = (Event.OPENED, Event.FIRED, Event.RETURNED)
"""Steps with which an alert takes what was seen then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTest:
    """One limit held against a day: `value` of `measure` beside `limit`, surely worse where `p_value` is at most `level`."""

    measure: str
    value: float
    limit: float
    p_value: float
    level: float

    @property
    def condition(self) -> Condition:
        """UNKNOWN where the limit is missed, but not surely."""
        if self.p_value <= self.level:
            return Condition.TRUE
        met = self.value >= self.limit if self.measure == "accuracy" else self.value <= self.limit
        return Condition.FALSE if met else Condition.UNKNOWN

    def __str__(self) -> str:
        return _WORDS[self.measure].format(self.value, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One column's last mature day, which ended at `end`, against its limits at this level of the test.

    `number`: it is one, which can be near its label.
    """

    limits: PerformanceLimits
    day: PerformanceRow
    end: datetime
    level: float
    number: bool

    @property
    def tests(self) -> tuple[LimitTest, ...]:
        """One per limit that can be held against it; none where too few predictions are labelled."""
        return tuple(
            limit_test(measure, limit, asdict(self.day), self.level)
            for measure, limit in limits_of(self.limits).items()
            if self.day.labelled >= MIN_LABELLED and (self.number or measure == "accuracy")
        )

    @property
    def condition(self) -> Condition:
        """TRUE where one limit is surely missed, FALSE where all are met, or there is none."""
        found = {test.condition for test in self.tests}
        if not found and limits_of(self.limits):
            return Condition.UNKNOWN
        return next((c for c in (Condition.TRUE, Condition.UNKNOWN) if c in found), Condition.FALSE)

    @property
    def detail(self) -> Mapping[str, Any]:
        """What is stored with a transition and shown in messages: what was seen beside what is wanted, and its sums."""
        day = self.day
        seen = f"{day.labelled:,} of {day.rows:,} labelled, 24 h up to {for_readers(self.end)}"
        few = limits_of(self.limits) and day.labelled < MIN_LABELLED
        sums = {name: getattr(day, name) for name in _SUMS}
        return {
            "summary": "; ".join(
                [*map(str, self.tests), *(["too few labels to judge"] if few else []), seen]
            ),
            "day": {"end": self.end.isoformat(), **sums},
            "tests": [asdict(test) for test in self.tests],
        }


def limits_of(limits: PerformanceLimits) -> dict[str, float]:
    """The limits that are set, by measure."""
    both = {"accuracy": limits.accuracy, "mean_absolute_error": limits.mean_absolute_error}
    return {measure: limit for measure, limit in both.items() if limit is not None}


def level_of(settings: ModelSettings, versions: int) -> float:
    """The level of each test: the budget of false pages, shared by all looks of a year, all limits and the versions that answer."""
    limits = versions * sum(len(limits_of(found)) for found in settings.performance.values())
    return float(settings.false_pages_per_year / (LOOKS_PER_YEAR * max(1, limits)))


def limit_test(measure: str, limit: float, day: Mapping[str, Any], level: float) -> LimitTest:
    """The test of one limit on the sums of a day (`labelled` ≥ 2)."""
    n = day["labelled"]
    if measure == "accuracy":
        value, p_value = day["correct"] / n, accuracy_p_value(day["correct"], n, limit)
    else:
        value = day["absolute_error"] / n
        p_value = error_p_value(day["absolute_error"], day["squared_error"], n, limit)
    return LimitTest(measure=measure, value=value, limit=limit, p_value=p_value, level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitCheck:
    """One transition whose tests were made again from its sums; `differences` names those that come out otherwise."""

    at: datetime
    reason: str
    identical: bool
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitExplanation(Explained):
    """A performance alert explained: the tests that fired it, on which day, and `recomputed` for every transition."""

    summary: str
    upto: datetime
    rows: int
    labelled: int
    tests: tuple[LimitTest, ...]
    recomputed: tuple[LimitCheck, ...]


def explain_limits(alert: AlertRow, history: Sequence[TransitionRow]) -> LimitExplanation:
    """Make the tests of a performance alert again from what was stored with its transitions."""
    taken = [step for step in history if step.reason in _TAKEN]
    opening = taken[-1]
    day = opening.evidence["day"]
    return LimitExplanation(
        **identity(alert),
        fired_at=opening.at,
        summary=str(opening.evidence["summary"]),
        upto=datetime.fromisoformat(day["end"]),
        rows=day["rows"],
        labelled=day["labelled"],
        tests=tuple(LimitTest(**test) for test in opening.evidence["tests"]),
        recomputed=tuple(map(_again, taken)),
    )


def _again(step: TransitionRow) -> LimitCheck:
    stored = [LimitTest(**test) for test in step.evidence["tests"]]
    made = [limit_test(test.measure, test.limit, step.evidence["day"], test.level) for test in stored]
    differences = tuple(
        f"{before.measure}: stored {before.value!r}, p {before.p_value!r}; now {after.value!r}, p {after.p_value!r}"
        for before, after in zip(stored, made, strict=True)
        if before != after
    )
    return LimitCheck(at=step.at, reason=step.reason, identical=not differences, differences=differences)
