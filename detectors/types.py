"""The words every detector shares: what a column is, what a score is, what a state is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class DetectorError(ValueError):
    """A profile, a column or a parameter that no detector can work on; the message names it."""


class ColumnRole(StrEnum):
    """What a column is to its model."""

    FEATURE = "feature"
    PREDICTION = "prediction"
    CONFIDENCE = "confidence"


class ColumnType(StrEnum):
    """How a column's values are counted.

    NUMERIC, BOOLEAN (0 or 1) and TEXT (the length in code points) are counted in cells between cut points,
    CATEGORICAL per category.
    """

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    TEXT = "text"
    CATEGORICAL = "categorical"


class ScoreStatus(StrEnum):
    """Whether a score may be read."""

    VALID = "valid"
    INSUFFICIENT_DATA = "insufficient_data"
    NOT_APPLICABLE = "not_applicable"


STATUSES: Final = (ScoreStatus.VALID, ScoreStatus.INSUFFICIENT_DATA, ScoreStatus.NOT_APPLICABLE)
"""The status an int8 code of `Scores.status` stands for."""
VALID: Final = 0
INSUFFICIENT: Final = 1
NOT_APPLICABLE: Final = 2


class Scores(NamedTuple):
    """A detector's scores of a stack of windows.

    `statistic` float64 [..., C] with NaN wherever `status` int8 [..., C] (an index into STATUSES) is not VALID;
    the leading axes are the windows, C are all columns of the baseline in their order.
    """

    statistic: FloatArray
    status: npt.NDArray[np.int8]


class ColumnState(StrEnum):
    """What `decision` says of a column at a pane boundary."""

    STABLE = "stable"
    WATCH = "watch"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a detector returns for one column: larger means more drift, and never a verdict.

    `statistic` is None unless `status` is VALID. `low` and `high` bracket the true statistic where the
    detector knows a certified interval (`low == statistic == high` where it is exact), and are None else.
    `rows` and `baseline_rows` are the sample sizes the statistic was computed from. `p_value` is for readers
    and is computed only when asked for.
    """

    detector: str
    column: str
    status: ScoreStatus
    statistic: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    baseline_rows: int = 0
    p_value: float | None = None
