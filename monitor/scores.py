"""What one evaluation found, packed for the table `evaluations`.

Values that are not valid are marked in a bit mask and stored as zero: a NaN never reaches the database, where
it would come back as something else.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from detectors.types import ColumnState, FloatArray, IntArray

STATISTICS: Final = (
    "ks",
    "ks_high",
    "psi",
    "mean_shift",
    "missing",
    "present",
    "non_finite",
    "out_of_range",
)
"""Per window and column: KS D (lower end), its upper end, PSI, mean shift in baseline standard deviations,
share of missing values, rows with a value, shares of infinite values and of those outside the training range.
They are enough to decide the effect key again."""

_STATES: Final = tuple(ColumnState)
_HEADER: Final = struct.Struct("<4sHHH")
_MAGIC: Final = b"DES1"


class DamagedEvaluation(ValueError):
    """Stored scores that cannot be read back."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """The scores of every column in every window at one boundary.

    `windows` in seconds [W]; `rows` int64 [W]; `values` float64 [W, C, len(STATISTICS)], NaN where not valid;
    `effect` float64 [C]: the largest statistic divided by its threshold over the windows, NaN where nothing
    was valid; `evidence` float64 [C]: mean of the sums of bets; `states` [C].
    """

    windows: tuple[int, ...]
    rows: IntArray
    values: FloatArray
    effect: FloatArray
    evidence: FloatArray
    states: tuple[ColumnState, ...]

    def of(self, statistic: str) -> FloatArray:
        """One statistic over windows and columns: float64 [W, C]; KeyError names what there is."""
        if statistic not in STATISTICS:
            raise KeyError(f"no statistic {statistic!r}; there are {', '.join(STATISTICS)}")
        return self.values[..., STATISTICS.index(statistic)]


def encode_states(scores: Scores) -> bytes:
    """States, effect and evidence per column: 9 bytes each."""
    states = np.array([_STATES.index(state) for state in scores.states], dtype=np.uint8)
    effect = np.where(np.isfinite(scores.effect), scores.effect, -1.0).astype("<f4")
    evidence = np.minimum(scores.evidence, 3e38).astype("<f4")
    return states.tobytes() + effect.tobytes() + evidence.tobytes()


def encode_scores(scores: Scores) -> bytes:
    """Windows, rows, mask and values (float32: they are for readers, decisions never re-read them)."""
    valid = np.isfinite(scores.values)
    windows, columns, _ = scores.values.shape
    body = b"".join(
        (
            np.array(scores.windows, dtype="<i8").tobytes(),
            scores.rows.astype("<i8").tobytes(),
            np.packbits(valid).tobytes(),
            np.where(valid, scores.values, 0.0).astype("<f4").tobytes(),
        )
    )
    header = _HEADER.pack(_MAGIC, windows, columns, len(STATISTICS))
    return header + zstandard.ZstdCompressor(level=3).compress(body)


def decode_states(states: bytes) -> tuple[tuple[ColumnState, ...], FloatArray, FloatArray]:
    """States, effect [C] and evidence [C] alone, for timelines; DamagedEvaluation if the bytes are not ours."""
    columns, rest = divmod(len(states), 9)
    if rest:
        raise DamagedEvaluation("stored states have another format")
    effect = np.frombuffer(states, "<f4", columns, columns).astype(np.float64)
    evidence = np.frombuffer(states, "<f4", columns, 5 * columns).astype(np.float64)
    return tuple(_STATES[index] for index in states[:columns]), np.where(effect < 0, np.nan, effect), evidence


def decode_series(
    states: Sequence[bytes], column: int | None = None
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Whether a column was in drift, bool [N], and the strongest evidence, float64 [N], at N boundaries of one baseline.

    Of one column, or of all. A timeline of a week holds ten thousand boundaries, too many to decode one by one.
    DamagedEvaluation if they do not all hold the same columns, or none.
    """
    columns, rest = divmod(len(states[0]), 9) if states else (0, 0)
    if not states:
        return np.zeros(0, dtype=np.bool_), np.zeros(0)
    if rest or not columns or {len(packed) for packed in states} != {len(states[0])}:
        raise DamagedEvaluation("stored states have another format")
    table = np.frombuffer(b"".join(states), np.uint8).reshape(len(states), 9 * columns)
    drift = table[:, :columns] == _STATES.index(ColumnState.DRIFT)
    evidence = np.ascontiguousarray(table[:, 5 * columns :]).view("<f4").astype(np.float64)
    chosen = slice(None) if column is None else slice(column, column + 1)
    return drift[:, chosen].any(axis=1), evidence[:, chosen].max(axis=1)


def decode(states: bytes, scores: bytes) -> Scores:
    """The scores as they were, NaN where the mask says so; DamagedEvaluation if the bytes are not ours."""
    try:
        magic, windows, columns, statistics = _HEADER.unpack_from(scores)
        if magic != _MAGIC or statistics != len(STATISTICS) or len(states) != 9 * columns:
            raise DamagedEvaluation("stored scores have another format")
        body = zstandard.ZstdDecompressor().decompress(scores[_HEADER.size :], max_output_size=1 << 28)
        shape = (windows, columns, statistics)
        size = windows * columns * statistics
        at = 16 * windows
        mask_bytes = -(-size // 8)
        valid = np.unpackbits(np.frombuffer(body, np.uint8, mask_bytes, at), count=size).astype(bool)
        values = np.frombuffer(body, "<f4", size, at + mask_bytes).astype(np.float64)
        column_states, effect, evidence = decode_states(states)
        return Scores(
            windows=tuple(np.frombuffer(body, "<i8", windows).tolist()),
            rows=np.frombuffer(body, "<i8", windows, 8 * windows).astype(np.int64),
            values=np.where(valid, values, np.nan).reshape(shape),
            effect=effect,
            evidence=evidence,
            states=column_states,
        )
    except (struct.error, ValueError, IndexError, zstandard.ZstdError) as error:
        raise DamagedEvaluation(f"stored scores cannot be read: {error}") from error
