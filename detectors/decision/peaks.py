"""Peaks: the largest effect of every window during Phase I, which learned thresholds stand above."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors import ks, psi
from detectors.decision.effect import EFFECT_KINDS, Effects, Windows, effects, resolve_thresholds
from detectors.decision.events import EventIndex
from detectors.decision.stored import seal, unseal
from detectors.types import DetectorError, FloatArray, IntArray

_MAGIC = b"DPK\x01"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Peaks:
    """Largest valid statistic seen, float64 [5 kinds, W, C] in the order of `EFFECT_KINDS`; NaN where none was valid."""

    statistic: FloatArray

    def encode(self) -> bytes:
        """The exact bits, NaN included: three int64 of shape, then float64."""
        head = np.array(self.statistic.shape, dtype="<i8")
        return seal(_MAGIC, head.tobytes() + self.statistic.astype("<f8").tobytes())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What was encoded, bit for bit; DetectorError on damage."""
        body = unseal(_MAGIC, data, "peaks")
        shape = tuple(np.frombuffer(body[:24], dtype="<i8").tolist()) if len(body) >= 24 else (-1,)
        if min(shape) < 0 or len(body) != 24 + 8 * int(np.prod(shape)):
            raise DetectorError("peaks: the stored lengths disagree; restore the row from a backup")
        return cls(statistic=np.frombuffer(body, dtype="<f8", offset=24).astype(np.float64).reshape(shape))

    @classmethod
    def none(cls, windows: int, columns: int) -> Self:
        """Before the first window."""
        return cls(statistic=np.full((len(EFFECT_KINDS), windows, columns), np.nan))

    def seen(self, found: Effects, *, boundary: int, since: int) -> "Peaks":
        """With the effects at one boundary taken in.

        Windows that reach back before `since`, the start of Phase I (epoch seconds), do not count: they are
        short windows under a long name, and noisier.
        """
        if found.statistic.shape != self.statistic.shape:
            raise DetectorError(
                f"effects of {found.statistic.shape} cannot join peaks of {self.statistic.shape}; keep windows and columns"
            )
        whole = boundary - found.windows.seconds >= since
        counts = found.valid & whole[:, np.newaxis]
        return Peaks(statistic=np.fmax(self.statistic, np.where(counts, found.statistic, np.nan)))


Pane = tuple[int, IntArray, int]
"""Start in epoch seconds, counts [layout.length], rows."""


def peaks_of(
    index: EventIndex, windows_seconds: Sequence[int], panes: Iterable[Pane], *, pane_seconds: int
) -> Peaks:
    """The peaks of rolling windows over panes in rising order of start, looked at after every pane that holds rows.

    Longer panes than the baseline's are fine and cheaper (a training table needs no look a minute); a window shorter
    than a pane sees nothing. Cost: one KS and PSI of every window per pane.
    """
    lengths = np.asarray(windows_seconds, dtype=np.int64)
    names = [column.name for column in index.baseline.columns]
    thresholds = resolve_thresholds(lengths, names)
    peaks = Peaks.none(lengths.size, len(names))
    counts = np.zeros((lengths.size, index.baseline.layout.length), dtype=np.int64)
    rows = np.zeros(lengths.size, dtype=np.int64)
    live: list[deque[Pane]] = [deque() for _ in lengths]
    since, last = None, None
    for pane in panes:
        start = pane[0]
        if last is not None and start <= last:
            raise DetectorError(
                f"the pane at {start} comes after that at {last}; pass panes in order, each once"
            )
        since, last = start if since is None else since, start
        boundary = start + pane_seconds
        for place, seconds in enumerate(lengths.tolist()):
            if seconds < pane_seconds:
                continue
            live[place].append(pane)
            counts[place] += pane[1]
            rows[place] += pane[2]
            while live[place][0][0] < boundary - seconds:
                _, old, gone = live[place].popleft()
                counts[place] -= old
                rows[place] -= gone
        windows = Windows(
            seconds=lengths,
            counts=counts,
            rows=rows,
            ks=ks.kernel(index.baseline, counts, rows).statistic,
            psi=psi.kernel(index.baseline, counts, rows).statistic,
        )
        peaks = peaks.seen(effects(index, windows, thresholds), boundary=boundary, since=since)
    return peaks
