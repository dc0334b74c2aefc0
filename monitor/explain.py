"""What moved, in the column's own units: the words and numbers an on-call engineer is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.counts import Baseline, Profile
from detectors.decision import Verdict
from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import ColumnType, FloatArray, IntArray
from monitor.instants import from_seconds

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: what the baseline or a window holds of one column.

    `quantiles` are those of QUANTILES; a window's that lies beyond the training range is its end, and `beyond` says
    so (-1 below, 1 above, 0 inside). `mean` is exact, whatever the cells.
    """

    rows: int
    present: int
    missing: float
    mean: float | None
    quantiles: tuple[float, ...] | None
    beyond: tuple[int, ...]
    shares: Mapping[str, float]

    def quantile(self, index: int) -> str:
        """One quantile in words, such as "36" or "> 64.4"."""
        if self.quantiles is None:
            return "–"
        sign = {-1: "< ", 0: "", 1: "> "}[self.beyond[index]]
        return sign + number(self.quantiles[index])


def side(baseline: Baseline, column: int, profile: Profile) -> Side:
    """Describe one column of a profile counted on the baseline."""
    layout = baseline.layout
    slots = profile.counts[layout.slices[column]]
    rows, moments = profile.rows, profile.moments[column]
    present = int(layout.present(profile.counts, rows)[column])
    described = baseline.columns[column]
    shares: dict[str, float] = {}
    quantiles, beyond = None, (0, 0, 0)
    if isinstance(described, CategoricalColumn):
        names = [*described.categories, "(rare in training)", "(never in training)"]
        shares = {name: int(slots[i]) / present for i, name in enumerate(names) if present and slots[i]}
    elif present:
        cells = slots[: 2 * described.cuts.size + 1]
        quantiles = tuple(cell_quantile(described.cuts, cells, q) for q in QUANTILES)
        below, above = int(cells[0]) / present, 1 - int(cells[-1]) / present
        low, middle, high = (-1 if q <= below else 1 if q > above else 0 for q in QUANTILES)
        beyond = (low, middle, high)
    return Side(
        rows=rows,
        present=present,
        missing=(rows - present) / rows if rows else 0.0,
        mean=float(moments[1]) if moments[0] else None,
        quantiles=quantiles,
        beyond=beyond,
        shares=shares,
    )


def cell_quantile(cuts: FloatArray, cells: IntArray, q: float) -> float:
    """The q-quantile of counted values: a cut where the rank falls on one, else the middle of its interval.

    Values below the first or above the last cut are reported as that cut: beyond it only their number is known.
    """
    total = int(cells.sum())
    rank = min(max(int(np.ceil(q * total)), 1), total)
    cell = int(np.searchsorted(np.cumsum(cells), rank))
    if cell % 2 == 1:
        return float(cuts[cell // 2])
    below, above = max(cell // 2 - 1, 0), min(cell // 2, cuts.size - 1)
    return float((cuts[below] + cuts[above]) / 2)


def moved(baseline: Baseline, column: int, then: Side, now: Side) -> str:
    """The change in one sentence, such as "median 37.4 → 61.2" or "UA 35 % → 12 %"."""
    described = baseline.columns[column]
    parts = []
    if isinstance(described, NumericColumn) and then.quantiles and now.quantiles:
        boolean = described.type is ColumnType.BOOLEAN
        parts.append(_moved_truth(then, now) if boolean else _moved_numbers(described, then, now))
    elif then.shares or now.shares:
        parts.append(_moved_shares(then, now))
    if abs(now.missing - then.missing) >= 0.01:
        parts.append(f"missing {percent(then.missing)} → {percent(now.missing)}")
    return ", ".join(parts) or "no value to compare"


def detail(baseline: Baseline, verdict: Verdict, column: int, window: Profile) -> dict[str, Any]:
    """What is stored with a transition and shown in messages: plain JSON, finite numbers only."""
    then = side(baseline, column, baseline.profile)
    now = side(baseline, column, window)
    effect = verdict.effect
    assert effect is not None
    return {
        "summary": moved(baseline, column, then, now),
        "effect": effect.statistic / effect.threshold,
        "evidence": {
            "detector": effect.detector,
            "window_seconds": effect.window_seconds,
            "statistic": effect.statistic,
            "threshold": effect.threshold,
            "rows": effect.rows,
            "baseline_rows": then.present,
            "evidence": verdict.evidence,
            "since": None if verdict.since is None else from_seconds(verdict.since).isoformat(),
        },
        "leading": None if verdict.leader is None else str(verdict.leader),
        "reason": verdict.reason,
        "rule": None if verdict.rule is None else str(verdict.rule),
        "columns": len(baseline.columns),
        "baseline": f"{baseline.profile.rows:,} training rows from {baseline.source}",
        "fingerprint": baseline.fingerprint,
        "quantiles": {"baseline": then.quantiles, "window": now.quantiles},
        "mean": {"baseline": then.mean, "window": now.mean},
    }


def percent(share: float) -> str:
    """A share for readers: whole percents from 10 on, one digit more below."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def number(value: float) -> str:
    """Four significant digits, without an exponent where people would not write one."""
    text = f"{value:.4g}"
    return f"{value:,.0f}" if "e" in text and abs(value) < 1e15 and abs(value) >= 1 else text


def _moved_numbers(column: NumericColumn, then: Side, now: Side) -> str:
    assert then.quantiles is not None
    assert now.quantiles is not None
    word = "median length" if column.type is ColumnType.TEXT else "median"
    if then.quantiles[1] == now.quantiles[1] and not now.beyond[1]:
        return f"middle 80 % {then.quantile(0)} … {then.quantile(2)} → {now.quantile(0)} … {now.quantile(2)}"
    said = f"{word} {then.quantile(1)} → {now.quantile(1)}"
    if now.beyond[1] and then.mean is not None and now.mean is not None:
        said += f" (beyond all of training; mean {number(then.mean)} → {number(now.mean)})"
    return said


def _moved_truth(then: Side, now: Side) -> str:
    """The mean of a boolean is its share of true."""
    return f"true {percent(then.mean or 0.0)} → {percent(now.mean or 0.0)}"


def _moved_shares(then: Side, now: Side) -> str:
    names = {*then.shares, *now.shares}
    changes = sorted(names, key=lambda n: (-abs(now.shares.get(n, 0.0) - then.shares.get(n, 0.0)), n))
    return ", ".join(
        f"{_quoted(name)} {percent(then.shares.get(name, 0.0))} → {percent(now.shares.get(name, 0.0))}"
        for name in changes[:2]
    )


def _quoted(name: str) -> str:
    """A category that looks like a number is no number to its reader: "0" 95% → 70%."""
    return f'"{name}"' if name[:1].isdigit() or name[-1:].isdigit() else name
