"""The effect key: is the change large enough to matter, in any window that has the rows to tell?

A window of n rows with a value counts
- KS from n >= 30, as an effect where D >= max(theta(w), 2.2/sqrt(n)): below that D is what chance gives;
- PSI from n >= 200, where PSI >= psi(w).
Neither sees a column that loses its values (D and PSI are of those present), so each of the shares missing, non-finite
and outside the training range is an effect of its own: PSI of the two cells {event, not event} against training, with
half a row added to each cell, >= psi(w), from 200 rows in all. Against a baseline of 10 000
rows with none missing, 13 % missing is an effect in 15 minutes and 2 % in 24 hours. Unseen categories are a bin of the categorical PSI.

theta and psi fall with the window's length: linear in its logarithm between the points of a table, constant outside.
A threshold of infinity takes a window away from a column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.decision.bands import psi_two_cells
from detectors.decision.events import EventIndex
from detectors.types import DetectorError, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

MIN_ROWS_KS: Final = 30
MIN_ROWS_PSI: Final = 200
CHANCE_KS: Final = 2.2
"""D below 2.2/sqrt(n) is noise: P(D >= 2.2/sqrt(n)) is 1.3e-4 against a large baseline."""
WATCH_EFFECT: Final = 0.10


class EffectKind(StrEnum):
    """Which statistic turned the effect key; the order is that of the arrays' first axis."""

    KS = "ks"
    PSI = "psi"
    MISSING = "missing"
    NON_FINITE = "non_finite"
    OUT_OF_RANGE = "out_of_range"


EFFECT_KINDS: Final = tuple(EffectKind)
VALUE_KINDS: Final = 2
"""The first so many are statistics of the values present, the rest are rates."""
RATES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectThresholds:
    """Smallest D (`theta`) and PSI (`psi`) that matter, at window lengths `seconds`, in rising order."""

    seconds: tuple[float, ...]
    theta: tuple[float, ...]
    psi: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0.0, *self.seconds), self.seconds, strict=False))
        if not self.seconds or not rising or not len(self.seconds) == len(self.theta) == len(self.psi):
            raise DetectorError(
                "effect thresholds need rising window lengths, each with one theta and one psi"
            )
        if not all(value > 0.0 for value in (*self.theta, *self.psi)):
            raise DetectorError("theta and psi must be more than 0 in every window")

    @classmethod
    def constant(cls, *, theta: float, psi: float) -> "EffectThresholds":
        """The same thresholds in every window."""
        return cls(seconds=(1.0,), theta=(theta,), psi=(psi,))

    def at(self, seconds: Sequence[float] | IntArray | FloatArray) -> tuple[FloatArray, FloatArray]:
        """Theta and psi, float64 [W] each, for windows of these lengths.

        >>> theta, psi = PRESET_A.at([60, 900, 1800, 86_400, 604_800])
        >>> theta.round(9), psi.round(9)
        (array([0.6  , 0.6  , 0.475, 0.1  , 0.1  ]), array([1.  , 1.  , 0.75, 0.1 , 0.1 ]))
        """
        at, points = np.log(np.asarray(seconds, dtype=np.float64)), np.log(self.seconds)
        return np.interp(at, points, self.theta), np.interp(at, points, self.psi)

    def cautious(self, seconds: Sequence[float] | IntArray | FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same, but for no window less than for an hour: for a column of which it is unknown how it moves by nature.

        D and PSI are convex in what they compare with training, so those of a longer window are at most the largest
        among its hours: it pages for no daily cycle for which an hour would not have, and it has the rows that an
        hour of thin traffic lacks.

        >>> theta, psi = PRESET_A.cautious([900, 3600, 86_400])
        >>> theta, psi
        (array([0.6 , 0.35, 0.35]), array([1. , 0.5, 0.5]))
        """
        hour = self.at([3_600.0])
        theta, psi = (np.maximum(own, least) for own, least in zip(self.at(seconds), hour, strict=True))
        return theta, psi


PRESET_A: Final = EffectThresholds(
    seconds=(900.0, 3_600.0, 21_600.0, 86_400.0), theta=(0.60, 0.35, 0.20, 0.10), psi=(1.0, 0.50, 0.25, 0.10)
)
"""For traffic that nothing has been learned about."""
PRESET_C: Final = EffectThresholds(
    seconds=(900.0, 3_600.0, 21_600.0, 86_400.0), theta=(0.35, 0.18, 0.12, 0.10), psi=(0.35, 0.18, 0.12, 0.10)
)
"""The least that matters once it is known how much a column moves by nature; see `learning`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds:
    """`theta` and `psi` float64 [W, C]; `rates` [3, W, C] for the shares missing, non-finite and out of range, in the
    order of `EFFECT_KINDS`, where they have their own (None: `psi`)."""

    theta: FloatArray
    psi: FloatArray
    rates: FloatArray | None = None


def resolve_thresholds(
    seconds: Sequence[float] | IntArray,
    columns: Sequence[str],
    preset: EffectThresholds = PRESET_A,
    overrides: Mapping[str, EffectThresholds] | None = None,
) -> Thresholds:
    """Thresholds of every window (lengths `seconds` [W]) and column, an override where the column has one."""
    by_name = dict(overrides or {})
    unknown = sorted(by_name.keys() - set(columns))
    if unknown:
        raise DetectorError(
            f"thresholds for unknown columns {', '.join(unknown)}; there are {', '.join(columns)}"
        )
    tables = [by_name.get(name, preset).at(seconds) for name in columns]
    return Thresholds(
        theta=np.stack([theta for theta, _ in tables], axis=-1),
        psi=np.stack([psi for _, psi in tables], axis=-1),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Everything about the windows that end at a boundary.

    `seconds` int64 [W]; `counts` int64 [W, layout.length]; `rows` int64 [W]; `ks` (the certified lower end of D)
    and `psi` float64 [W, C], NaN where there is none.
    """

    seconds: IntArray
    counts: IntArray
    rows: IntArray
    ks: FloatArray
    psi: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effects:
    """What the windows show, on axes [5 kinds, W, C] in the order of `EFFECT_KINDS`; a classic rule adds a sixth, its own.

    `statistic`, `threshold` float64; `rows` int64, what each statistic was computed from; `valid` bool: enough rows and
    not NaN; `holds` bool: valid and at or above the threshold. `known` bool [W, C]: the window can tell that nothing has
    changed, because it holds a valid statistic of the values, or because by training hardly a value was due.
    """

    windows: Windows
    statistic: FloatArray
    threshold: FloatArray
    rows: IntArray
    valid: BoolArray
    holds: BoolArray
    known: BoolArray


def effects(index: EventIndex, windows: Windows, thresholds: Thresholds) -> Effects:
    """Compare every statistic with its threshold. Negative or infinite statistics are bugs: DetectorError."""
    layout = index.baseline.layout
    shape = (windows.seconds.size, len(layout.columns))
    for name, array in (
        ("ks", windows.ks),
        ("psi", windows.psi),
        ("theta", thresholds.theta),
        ("thresholds' psi", thresholds.psi),
    ):
        if array.shape != shape:
            raise DetectorError(f"{name} has shape {array.shape} where windows and columns are {shape}")
    if np.any((windows.ks < 0) | (windows.ks > 1) | (windows.psi < 0) | np.isinf(windows.psi)):
        raise DetectorError(
            "a KS distance outside [0, 1] or a PSI that is negative or infinite reached the decision"
        )
    rates = np.stack([thresholds.psi] * RATES) if thresholds.rates is None else thresholds.rates
    if rates.shape != (RATES, *shape):
        raise DetectorError(f"the rates' thresholds have shape {rates.shape} where {(RATES, *shape)} is due")
    if not (np.all(thresholds.theta > 0) and np.all(thresholds.psi > 0) and np.all(rates > 0)):
        raise DetectorError("theta and psi must be more than 0; infinity takes a window away")
    present = layout.present(windows.counts, windows.rows)
    every = np.broadcast_to(windows.rows[:, np.newaxis], shape)
    statistic = np.stack([windows.ks, windows.psi, *_rate_psi(index, windows)])
    rows = np.stack([present, present, *([every] * RATES)])
    least = np.array([MIN_ROWS_KS, *([MIN_ROWS_PSI] * (1 + RATES))])[:, np.newaxis, np.newaxis]
    valid = (rows >= least) & ~np.isnan(statistic)
    threshold = np.stack([thresholds.theta, thresholds.psi, *rates])
    threshold[0] = np.maximum(threshold[0], CHANCE_KS / np.sqrt(np.maximum(present, 1)))
    due = every * _present_share(index)
    known = valid[:2].any(axis=0) | (valid[2] & (due < MIN_ROWS_KS))
    return Effects(
        windows=windows,
        statistic=statistic,
        threshold=threshold,
        rows=rows,
        valid=valid,
        holds=valid & (statistic >= threshold),
        known=known,
    )


def effect_holds(found: Effects) -> tuple[bool | None, ...]:
    """Per column, for resolving: True while any window's effect holds, False when every window that can tell is below,
    None when no window can tell (which never resolves anything)."""
    holds: list[bool] = np.logical_or.reduce(found.holds, axis=(0, 1)).tolist()
    known: list[bool] = np.logical_or.reduce(found.known, axis=0).tolist()
    return tuple(True if held else False if told else None for held, told in zip(holds, known, strict=True))


def watch_effects(found: Effects) -> BoolArray:
    """Effects of 0.10 or more, bool [5, W, C], each in the longest window with 200 rows for it."""
    enough = found.valid & (found.rows >= MIN_ROWS_PSI)
    length = np.where(enough, found.windows.seconds[:, np.newaxis], 0)
    longest = enough & (length == length.max(axis=1, keepdims=True))
    watched: BoolArray = longest & (found.statistic >= watch_levels(found))
    return watched


def watch_levels(found: Effects) -> FloatArray:
    """What `watch_effects` compares with: 0.10, for KS at least 2.2/sqrt(n)."""
    levels = np.full(found.statistic.shape, WATCH_EFFECT)
    levels[0] = np.maximum(levels[0], CHANCE_KS / np.sqrt(np.maximum(found.rows[0], 1)))
    return levels


def _rate_psi(index: EventIndex, windows: Windows) -> list[FloatArray]:
    """PSI of two cells [W, C] for missing, non-finite, out of range; NaN where a column has no such event."""
    layout, trained = index.baseline.layout, index.baseline.profile
    now, then = rate_hits(index, windows.counts), rate_hits(index, trained.counts)
    p: FloatArray = (now + 0.5) / (windows.rows[:, np.newaxis, np.newaxis] + 1.0)
    q: FloatArray = ((then + 0.5) / (trained.rows + 1.0)).astype(np.float64)
    value = psi_two_cells(p, q)
    value[:, 1:, layout.categorical] = np.nan
    return [value[:, kind] for kind in range(RATES)]


def rate_hits(index: EventIndex, counts: IntArray) -> IntArray:
    """Rows missing, non-finite, out of range: int64 [..., 3, C]."""
    layout = index.baseline.layout
    hits = np.zeros((*counts.shape[:-1], RATES, len(layout.columns)), dtype=np.int64)
    hits[..., 0, :] = counts[..., layout.missing]
    hits[..., 1, layout.numeric] = counts[..., layout.non_finite]
    hits[..., 2, layout.numeric] = counts[..., layout.cell_start] + counts[..., layout.cell_stop - 1]
    return hits


def _present_share(index: EventIndex) -> FloatArray:
    trained = index.baseline.profile
    return index.baseline.layout.present(trained.counts, trained.rows) / trained.rows
