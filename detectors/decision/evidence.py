r"""The evidence key: bets against "every block's expected shares lie inside their bands".

Per event two directions and five stakes f. When a block closes, with z the event's share of its rows,

    up:    R ← (R + a) (1 + f (z/U - 1))
    down:  R ← (R + a) (1 + f ((1-z)/(1-L) - 1))

A factor is affine in z, 1 at the band's edge and never below 1-f, so its expectation, given everything counted
before, is at most 1 while E[z] stays in [L, U]; rows inside the block may depend on each other at will. Hence
R - sum(a) is a supermartingale, and so is its mean over a column's bets (Shiryaev-Roberts in the style of Shin, Ramdas
& Rinaldo 2024). A column pages at mean R >= 1 and restarts at 0, so it pages in expectation at most sum(a) times:
`a` is the budget of false pages the column spends on this block. Budgets may change at any time, the state need not.

A block without rows for an event, and a bet that cannot win (U = 1, L = 0), spend nothing. Everything is
elementwise IEEE arithmetic on integers' ratios, so recomputing from stored blocks gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from detectors.decision.bands import Bands
from detectors.decision.events import BlockEvents, EventIndex
from detectors.decision.stored import seal, unseal
from detectors.types import DetectorError, FloatArray, IntArray

STAKES: Final = (0.03, 0.1, 0.3, 0.6, 0.9)
EVIDENCE_CAP: Final = 1e250
SECONDS_PER_YEAR: Final = 365.25 * 86_400
NOT_GROWING: Final = -1
"""`since` of a column whose evidence is at rest."""
_SMALLEST_EDGE: Final = 2.0**-40
"""A band's edge nearer to 0 than this is bet on as if it were this far off: safe, and the payoff stays finite."""
_GROWING: Final = 5.0
"""With shares in the middle of a band, a bet rests near R = a / (f |payoff there|); growth is a clear multiple of it."""
_MAGIC: Final = b"DEV\x01"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """`r` float64 [E, 2 (up, down), 5 (stakes)]; `starts` int64 [C]: each column's first event.

    `since` int64 [C], epoch seconds: start of the block from which on the column's best bet has been out of its
    resting range (5 times its mean there), or -1: the estimated onset of a drift, as a rule a few blocks late.
    """

    r: FloatArray
    starts: IntArray
    since: IntArray

    @classmethod
    def zeros(cls, index: EventIndex) -> Self:
        """Evidence before the first block."""
        return cls(
            r=np.zeros((index.column.size, 2, len(STAKES))),
            starts=index.starts,
            since=np.full(index.starts.size, NOT_GROWING, dtype=np.int64),
        )

    def encode(self) -> bytes:
        """The exact bits, about 1.3 KB per numeric column."""
        head = np.array([self.starts.size, self.r.shape[0]], dtype="<i8")
        parts = (head, self.starts.astype("<i8"), self.since.astype("<i8"), self.r.astype("<f8"))
        return seal(_MAGIC, b"".join(part.tobytes() for part in parts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What was encoded, bit for bit; DetectorError on damage."""
        body = unseal(_MAGIC, data, "evidence")
        columns, events = (
            (int(n) for n in np.frombuffer(body[:16], dtype="<i8")) if len(body) >= 16 else (-1, -1)
        )
        bets = 2 * len(STAKES)
        if columns < 0 or events < 0 or len(body) != 8 * (2 + 2 * columns + bets * events):
            raise DetectorError("evidence: the stored lengths disagree; restore the row from a backup")
        integers = np.frombuffer(body, dtype="<i8", count=2 + 2 * columns).astype(np.int64)
        r = np.frombuffer(body, dtype="<f8", offset=8 * integers.size).astype(np.float64)
        _check(r)
        return cls(
            r=r.reshape(events, 2, len(STAKES)),
            starts=integers[2 : 2 + columns],
            since=integers[2 + columns :],
        )


def advance(
    evidence: Evidence,
    events: BlockEvents,
    bands: Bands,
    budget: FloatArray,
    *,
    block_start: int | IntArray,
    columns: npt.NDArray[np.bool_] | None = None,
) -> Evidence:
    """Place every bet on one closed block.

    `budget` float64 [C] is `a` of `spend` for this block; `block_start` in epoch seconds, int64 [C]
    where it differs by column; `columns` bool [C] limits the bets to the columns whose block closes (block lengths
    may differ by column). Each block must be
    passed once, in order. Shares outside [0, 1], other shapes, a negative or NaN budget or state raise DetectorError:
    they are bugs, and evidence made of them would page, or stay silent, for no reason.
    """
    column = _column_of(evidence)
    _check(evidence.r)
    _check_shapes(evidence, events, bands, budget)
    active = events.totals > 0
    if columns is not None:
        active &= columns[column]
    payoffs = _payoffs(events, bands, active)
    can_win = np.stack([bands.high < 1.0, bands.low > 0.0], axis=-1)
    credit = np.where(can_win, budget[column, np.newaxis], 0.0)[..., np.newaxis]
    factors = 1.0 + np.array(STAKES) * payoffs[..., np.newaxis]
    moved = np.minimum((evidence.r + credit) * factors, EVIDENCE_CAP)
    r = np.where(active[:, np.newaxis, np.newaxis], moved, evidence.r)
    _check(r)
    bet = np.logical_or.reduceat(active, evidence.starts)
    since = np.where(bet, _since(evidence, r, bands, budget, block_start), evidence.since)
    return Evidence(r=r, starts=evidence.starts, since=since)


def evidence_mean(evidence: Evidence) -> FloatArray:
    """Mean R per column, float64 [C]: the evidence key turns at 1."""
    sums = np.add.reduceat(evidence.r.sum(axis=(1, 2)), evidence.starts)
    mean: FloatArray = sums / (_sizes(evidence) * 2 * len(STAKES))
    return mean


def leading_bets(evidence: Evidence) -> tuple[IntArray, IntArray]:
    """Per column the event and the direction (0 up, 1 down) of its largest R: int64 [C] each; event -1 if all are 0."""
    bets = 2 * len(STAKES)
    most = np.maximum.reduceat(evidence.r.ravel(), evidence.starts * bets)
    reached = np.flatnonzero(evidence.r.ravel() == np.repeat(most, _sizes(evidence) * bets))
    first = reached[np.searchsorted(reached, evidence.starts * bets)] // len(STAKES)
    some = most > 0.0
    return np.where(some, first // 2, -1), np.where(some, first % 2, 0)


def reset(evidence: Evidence, columns: npt.NDArray[np.bool_]) -> Evidence:
    """Evidence restarted at 0 for the columns marked in bool [C], as after every page that has resolved."""
    if columns.shape != evidence.starts.shape:
        raise DetectorError(f"reset of {columns.size} columns, but the evidence is of {evidence.starts.size}")
    marked = columns[_column_of(evidence)]
    return Evidence(
        r=np.where(marked[:, np.newaxis, np.newaxis], 0.0, evidence.r),
        starts=evidence.starts,
        since=np.where(columns, NOT_GROWING, evidence.since),
    )


def spend(
    false_pages_per_year: float, weights: Sequence[float] | FloatArray, block_seconds: float | FloatArray
) -> FloatArray:
    """`a` per column and block, float64 [C]: B w / (blocks per year of 365.25 days).

    `weights` are relative shares of everything of one model that may page; they are scaled down to a sum of 1, and
    left alone below it (so a part may be kept for other versions and segments). `block_seconds` may differ by column.

    >>> spend(0.1, [1.0, 1.0], 60.0) * 525_960
    array([0.05, 0.05])
    """
    shares = np.asarray(weights, dtype=np.float64)
    seconds = np.asarray(block_seconds, dtype=np.float64)
    if not (np.isfinite(false_pages_per_year) and false_pages_per_year >= 0.0):
        raise DetectorError(
            f"false_pages_per_year is {false_pages_per_year}; it is a finite number, 0 or more"
        )
    if not (np.all(np.isfinite(shares)) and np.all(shares >= 0.0)):
        raise DetectorError("weights must be finite and 0 or more")
    if not np.all(seconds > 0.0):
        raise DetectorError("block_seconds must be more than 0")
    budget: FloatArray = (
        false_pages_per_year * shares / max(float(shares.sum()), 1.0) * seconds / SECONDS_PER_YEAR
    )
    return budget


def _payoffs(events: BlockEvents, bands: Bands, active: npt.NDArray[np.bool_]) -> FloatArray:
    """z/U - 1 and (1-z)/(1-L) - 1, float64 [E, 2]; what idle events get is not used."""
    if np.any(active & ((events.hits < 0) | (events.hits > events.totals))):
        event = int(np.flatnonzero(active & ((events.hits < 0) | (events.hits > events.totals)))[0])
        raise DetectorError(
            f"event {event} has {events.hits[event]} hits of {events.totals[event]}; its block was counted wrongly"
        )
    share = events.hits / np.where(active, events.totals, 1)
    up = share / np.maximum(bands.high, _SMALLEST_EDGE)
    down = (1.0 - share) / np.maximum(1.0 - bands.low, _SMALLEST_EDGE)
    return np.stack([up, down], axis=-1) - 1.0


def _since(
    evidence: Evidence, r: FloatArray, bands: Bands, budget: FloatArray, block_start: int | IntArray
) -> IntArray:
    half = (bands.high - bands.low) / 2
    up, down = np.maximum(bands.high, _SMALLEST_EDGE), np.maximum(1.0 - bands.low, _SMALLEST_EDGE)
    resting = np.stack([half / up, half / down], axis=-1)
    grown = r * np.array(STAKES) * resting[..., np.newaxis]
    best = np.maximum.reduceat(grown.ravel(), evidence.starts * (2 * len(STAKES)))
    growing = best > _GROWING * budget
    started = np.where(evidence.since == NOT_GROWING, block_start, evidence.since)
    return np.where(growing, started, NOT_GROWING)


def _sizes(evidence: Evidence) -> IntArray:
    ends = np.empty_like(evidence.starts)
    ends[:-1], ends[-1] = evidence.starts[1:], evidence.r.shape[0]
    return ends - evidence.starts


def _column_of(evidence: Evidence) -> IntArray:
    return np.repeat(np.arange(evidence.starts.size), _sizes(evidence))


def _check(r: FloatArray) -> None:
    # Written so that NaN fails it.
    if not np.all((r >= 0.0) & (r <= EVIDENCE_CAP)):
        raise DetectorError(
            "evidence is negative or not a number; this is a bug, and no page is decided on it"
        )


def _check_shapes(evidence: Evidence, events: BlockEvents, bands: Bands, budget: FloatArray) -> None:
    count = evidence.r.shape[0]
    if not events.hits.shape == events.totals.shape == bands.low.shape == (count,):
        raise DetectorError(
            f"evidence of {count} events cannot advance by a block of {events.hits.shape} and bands of "
            f"{bands.low.shape}; all three belong to one baseline"
        )
    if budget.shape != evidence.starts.shape or not np.all((budget >= 0.0) & np.isfinite(budget)):
        raise DetectorError(
            f"the budget needs {evidence.starts.size} finite numbers, 0 or more, one per column"
        )
