"""What an explanation holds: plain values, as the API and the command show them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.explain import Side
from monitor.redoing import Check
from storage.alerts import AlertRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectLine:
    """One statistic in one window against its threshold. `source`: `preset A`, `preset C`, `learned`, `configured`,
    `chance` (2.2/sqrt(n)), or `rule` (a classic rule's own threshold).
    """

    detector: str
    window_seconds: int
    statistic: float
    threshold: float
    source: str
    rows: int
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLine:
    """One block of the leading bet: the event's share, the band it may lie in, and the evidence after it.

    `evidence` comes from the evaluation stored at its end, None where that is not kept.
    """

    start: datetime
    rows: int
    share: float
    low: float
    high: float
    evidence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceLine:
    """One detector on the window that paged; the bracket and the p-value where it has them."""

    detector: str
    measures: str
    statistic: float
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceKey:
    """The evidence: `value` (1 pages), what each block may spend, and what the bands rest on.

    `leading` is the event of the strongest bet, in words, with its `direction`; `since` the estimated onset.
    """

    value: float
    leading: str | None
    direction: str | None
    since: datetime | None
    block_seconds: int
    learning: str
    source: str
    learned_from: datetime | None
    learned_to: datetime | None
    blocks: tuple[BlockLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The model's budget of false pages: `spent` is the most that its blocks of that year can have cost."""

    false_pages_per_year: float
    share: float
    per_block: float
    year: int
    watched_days: float
    spent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Which alert is explained, and when it fired."""

    alert: int
    model: str
    version: str
    segment: str
    column: str
    kind: str
    state: str
    fired_at: datetime


def identity(alert: AlertRow) -> dict[str, Any]:
    """What `Explained` says of an alert that stands in its row."""
    names = ("model", "version", "segment", "column", "kind", "state")
    return {"alert": alert.id} | {name: getattr(alert, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Explained):
    """An alert explained; `recomputed` holds every transition that a statistic decided, in order.

    `window_seconds` is the window of the effect that turned the key; `n_effective` its n·m/(n+m) for `rows` and
    `baseline_rows`. `then` and `now` describe the column in training and in that window. `rule` is the classic rule that decided, if any.
    """

    moved: str
    reason: str
    baseline: str
    then: Side
    now: Side
    window_seconds: int
    rows: int
    baseline_rows: int
    rule: str
    n_effective: float
    effects: tuple[EffectLine, ...]
    evidence: EvidenceKey
    distances: tuple[DistanceLine, ...]
    budget: Budget
    recomputed: tuple[Check, ...]

    @property
    def identical(self) -> bool:
        """Whether every verdict came out bit for bit as it was."""
        return all(check.identical for check in self.recomputed)
