"""A calibration: everything a version's paging rule takes from what was learned, or from not having learned.

Bands are stored, not recomputed: replaying blocks against a stored calibration gives the same bits whatever version of
scipy is installed. Bytes (`DCA`, 1), sealed with a CRC-32, little-endian: eight int64 (windows W, columns C, events E,
source, span start, span end, and two 0), then int64 `windows` [W], `starts` [C], `block_seconds` [C], `states` [C], then
float64 `low` [E], `high` [E], theta [W, C], psi [W, C], rates [3, W, C], `tau_seconds` [C], `delay_seconds` [C],
`detectable` [C].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from detectors.decision.bands import Bands, bands
from detectors.decision.effect import RATES, Thresholds, resolve_thresholds
from detectors.decision.events import EventIndex
from detectors.decision.evidence import spend
from detectors.decision.stored import seal, unseal
from detectors.types import DetectorError, FloatArray, IntArray

_MAGIC: Final = b"DCA\x01"
_HEAD: Final = 8


class ColumnLearning(StrEnum):
    """What a column's rule rests on; the order is that of the stored codes.

    UNLEARNED: training and tolerance alone. LEARNING: the same, with no window's thresholds below an hour's; outside the
    promise.
    LEARNED: what Phase I showed. MISMATCH: Phase I as a whole is not what the model was trained on (D > .2); nothing
    is learned from it and the column is judged as UNLEARNED, so it pages, rightly. TOO_VARIABLE: it moves so much, or
    so slowly, by nature that no bet on its values is informative; they never page, but missing and infinite
    values still do.
    """

    UNLEARNED = "unlearned"
    LEARNING = "learning"
    LEARNED = "learned"
    MISMATCH = "mismatch"
    TOO_VARIABLE = "too_variable"


class CalibrationSource(StrEnum):
    """Where Phase I came from; the order is that of the stored codes."""

    NONE = "none"
    TRAINING = "training"
    TRAFFIC = "traffic"


STATES: Final = tuple(ColumnLearning)
SOURCES: Final = tuple(CalibrationSource)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """The rule of one baseline's columns: W windows, C columns, E events.

    `windows` int64 [W], seconds; `starts` int64 [C], each column's first event; `bands` of every event at its column's
    block length `block_seconds` int64 [C]; `thresholds` with `rates`; `states` [C]; `span` of Phase I in epoch seconds,
    (0, 0) without one. For readers, float64 [C]: `tau_seconds`, the correlation time (NaN where unknown);
    `delay_seconds`, from a shift with D = .3 to the evidence key, and `detectable`, the smallest D that pages within
    6 h (both infinite where there is none, NaN where nothing was learned).
    """

    windows: IntArray
    starts: IntArray
    bands: Bands
    thresholds: Thresholds
    block_seconds: IntArray
    states: tuple[ColumnLearning, ...]
    source: CalibrationSource
    span: tuple[int, int]
    tau_seconds: FloatArray
    delay_seconds: FloatArray
    detectable: FloatArray

    def __post_init__(self) -> None:
        shape = (self.windows.size, self.starts.size)
        arrays = (self.block_seconds, self.tau_seconds, self.delay_seconds, self.detectable)
        if any(array.shape != self.starts.shape for array in arrays) or len(self.states) != shape[1]:
            raise DetectorError(f"a calibration of {shape[1]} columns needs one entry for each of them")
        rates = self.thresholds.rates
        if self.thresholds.theta.shape != shape or self.thresholds.psi.shape != shape:
            raise DetectorError(f"thresholds of {self.thresholds.theta.shape} where {shape} are due")
        if rates is None or rates.shape != (RATES, *shape):
            raise DetectorError("a calibration needs thresholds of the rates")
        # Written so that NaN fails it.
        if not all(np.all(t > 0.0) for t in (self.thresholds.theta, self.thresholds.psi, rates)):
            raise DetectorError("thresholds must be more than 0; infinity takes a window away")
        if not (np.all(self.block_seconds > 0) and np.all(self.windows > 0)):
            raise DetectorError("blocks and windows last at least 1 s")

    def budget(self, false_pages_per_year: float, weights: Sequence[float] | FloatArray) -> FloatArray:
        """`a` of `advance` per column [C], by each column's own block length."""
        return spend(false_pages_per_year, weights, self.block_seconds.astype(np.float64))

    def encode(self) -> bytes:
        """The exact bits; see the module's text for the layout."""
        head = [
            self.windows.size,
            self.starts.size,
            self.bands.low.size,
            SOURCES.index(self.source),
            *self.span,
            0,
            0,
        ]
        states = [STATES.index(state) for state in self.states]
        integers = np.concatenate([head, self.windows, self.starts, self.block_seconds, states])
        assert self.thresholds.rates is not None
        floats = (
            self.bands.low,
            self.bands.high,
            self.thresholds.theta,
            self.thresholds.psi,
            self.thresholds.rates,
            self.tau_seconds,
            self.delay_seconds,
            self.detectable,
        )
        parts = [integers.astype("<i8").tobytes(), *(part.astype("<f8").tobytes() for part in floats)]
        return seal(_MAGIC, b"".join(parts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What was encoded, bit for bit; DetectorError on damage."""
        body = unseal(_MAGIC, data, "calibration")
        if len(body) < 8 * _HEAD:
            raise _damaged()
        head: list[int] = np.frombuffer(body, dtype="<i8", count=_HEAD).tolist()
        windows, columns, events, source = head[:4]
        integers = _HEAD + windows + 3 * columns
        table = windows * columns
        sizes = [events, events, table, table, RATES * table, columns, columns, columns]
        if min(head[:4]) < 0 or len(body) != 8 * (integers + sum(sizes)) or source >= len(SOURCES):
            raise _damaged()
        whole = np.frombuffer(body, dtype="<i8", count=integers).astype(np.int64)
        lengths, starts, block_seconds, states = np.split(
            whole[_HEAD:], np.cumsum([windows, columns, columns])
        )
        if np.any((states < 0) | (states >= len(STATES))):
            raise _damaged()
        values = np.frombuffer(body, dtype="<f8", offset=8 * integers).astype(np.float64)
        low, high, theta, psi, rates, tau, delay, detectable = np.split(values, np.cumsum(sizes)[:-1])
        shape = (windows, columns)
        return cls(
            windows=lengths,
            starts=starts,
            bands=Bands(low=low, high=high),
            thresholds=Thresholds(
                theta=theta.reshape(shape), psi=psi.reshape(shape), rates=rates.reshape(RATES, *shape)
            ),
            block_seconds=block_seconds,
            states=tuple(STATES[code] for code in states.tolist()),
            source=SOURCES[source],
            span=(head[4], head[5]),
            tau_seconds=tau,
            delay_seconds=delay,
            detectable=detectable,
        )


def unlearned(
    index: EventIndex, windows_seconds: Sequence[int] | IntArray, block_seconds: int
) -> Calibration:
    """Nothing learned: bands of baseline error and tolerance, preset A in every window, one block length."""
    windows = np.asarray(windows_seconds, dtype=np.int64)
    names = [column.name for column in index.baseline.columns]
    table = resolve_thresholds(windows, names)
    unknown = np.full(len(names), np.nan)
    return Calibration(
        windows=windows,
        starts=index.starts,
        bands=bands(index),
        thresholds=Thresholds(theta=table.theta, psi=table.psi, rates=np.stack([table.psi] * RATES)),
        block_seconds=np.full(len(names), block_seconds, dtype=np.int64),
        states=(ColumnLearning.UNLEARNED,) * len(names),
        source=CalibrationSource.NONE,
        span=(0, 0),
        tau_seconds=unknown,
        delay_seconds=unknown,
        detectable=unknown,
    )


def overridden(
    thresholds: Thresholds, column: int, *, theta: float | None = None, psi: float | None = None
) -> Thresholds:
    """Thresholds with an operator's own of one column (its position), in every window; None keeps what is.

    An own psi also holds for the rates.
    """
    rates = np.stack([thresholds.psi] * RATES) if thresholds.rates is None else thresholds.rates
    tables = [thresholds.theta.copy(), thresholds.psi.copy(), rates.copy()]
    for table, own in zip(tables, (theta, psi, psi), strict=True):
        if own is not None:
            table[..., column] = own
    return Thresholds(theta=tables[0], psi=tables[1], rates=tables[2])


def taking(current: Calibration, fresh: Calibration, columns: npt.NDArray[np.bool_]) -> Calibration:
    """`current` with the columns marked in bool [C] as `fresh` has them, both of one baseline and windows.

    What a column has learned stays: a later look at more traffic must not move the bands under its bets.
    """
    same = np.array_equal(current.starts, fresh.starts) and np.array_equal(current.windows, fresh.windows)
    if not same or columns.shape != current.starts.shape:
        raise DetectorError("only calibrations of the same baseline and windows can be joined")
    events = np.repeat(columns, np.diff(current.starts, append=current.bands.low.size))
    old, new = current.thresholds, fresh.thresholds
    assert old.rates is not None
    assert new.rates is not None
    return Calibration(
        windows=current.windows,
        starts=current.starts,
        bands=Bands(
            low=np.where(events, fresh.bands.low, current.bands.low),
            high=np.where(events, fresh.bands.high, current.bands.high),
        ),
        thresholds=Thresholds(
            theta=np.where(columns, new.theta, old.theta),
            psi=np.where(columns, new.psi, old.psi),
            rates=np.where(columns, new.rates, old.rates),
        ),
        block_seconds=np.where(columns, fresh.block_seconds, current.block_seconds),
        states=tuple(
            after if taken else before
            for before, after, taken in zip(current.states, fresh.states, columns.tolist(), strict=True)
        ),
        source=fresh.source,
        span=fresh.span,
        tau_seconds=np.where(columns, fresh.tau_seconds, current.tau_seconds),
        delay_seconds=np.where(columns, fresh.delay_seconds, current.delay_seconds),
        detectable=np.where(columns, fresh.detectable, current.detectable),
    )


def ended_learning(before: Calibration, after: Calibration) -> npt.NDArray[np.bool_]:
    """Which columns are LEARNING in one calibration and no longer in the other, bool [C]."""
    pairs = zip(before.states, after.states, strict=True)
    return np.array([old is ColumnLearning.LEARNING and new is not old for old, new in pairs], dtype=np.bool_)


def _damaged() -> DetectorError:
    return DetectorError("calibration: the stored lengths disagree; restore the row from a backup")
