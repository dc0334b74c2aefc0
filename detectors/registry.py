"""The table of detectors: a new one is a file, a line here, and passes tests/contract.

`volume` is no entry: it judges a model's traffic, not a column's values, and is an alert class of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from detectors import categorical, distances, ks, mean_shift, psi, quality, variance, wasserstein
from detectors.counts import Baseline, Profile
from detectors.types import ColumnType, DetectorError, Score

_NUMERIC: Final = frozenset({ColumnType.NUMERIC, ColumnType.BOOLEAN, ColumnType.TEXT})
_ALL: Final = frozenset(ColumnType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A detector by name: what it measures in a reader's words, on which columns, and how to score one."""

    name: str
    measures: str
    column_types: frozenset[ColumnType]
    score: Callable[[Baseline, Profile, str], Score]


def _rate(shift: quality.RateShift, measures: str, types: frozenset[ColumnType]) -> Detector:
    return Detector(name=shift.name, measures=measures, column_types=types, score=shift.score)


def _distance(distance: distances.Distance, measures: str) -> Detector:
    return Detector(name=distance.name, measures=measures, column_types=_ALL, score=distance.score)


DETECTORS: Final[Mapping[str, Detector]] = MappingProxyType(
    {
        detector.name: detector
        for detector in (
            Detector(name=ks.NAME, measures="largest CDF difference", column_types=_NUMERIC, score=ks.score),
            Detector(
                name=psi.NAME, measures="population stability index", column_types=_ALL, score=psi.score
            ),
            Detector(
                name=mean_shift.NAME,
                measures="shift of the mean in training standard deviations",
                column_types=_NUMERIC,
                score=mean_shift.score,
            ),
            Detector(
                name=categorical.NAME,
                measures="changed category shares (Cohen's w)",
                column_types=_ALL - _NUMERIC,
                score=categorical.score,
            ),
            _distance(distances.JENSEN_SHANNON, "Jensen-Shannon distance of the bins (base 2)"),
            _distance(distances.HELLINGER, "Hellinger distance of the bins"),
            _distance(distances.TOTAL_VARIATION, "share of rows in other bins than in training"),
            _distance(distances.L_INFINITY, "largest change of one bin's share"),
            Detector(
                name=wasserstein.NAME,
                measures="how far the average row moved, in training standard deviations",
                column_types=_NUMERIC,
                score=wasserstein.score,
            ),
            Detector(
                name=variance.NAME,
                measures="change of the variance (logarithm of its ratio)",
                column_types=_NUMERIC,
                score=variance.score,
            ),
            _rate(quality.MISSING, "share of missing values, now − training", _ALL),
            _rate(quality.NON_FINITE, "share of infinite values, now − training", _NUMERIC),
            _rate(
                quality.OUT_OF_RANGE, "share of values outside the training range, now − training", _NUMERIC
            ),
            _rate(quality.UNSEEN, "share of categories unseen in training, now − training", _ALL - _NUMERIC),
        )
    }
)


def get(name: str) -> Detector:
    """The detector of this name; an unknown name is refused with the names there are.

    >>> get("ks").measures
    'largest CDF difference'
    """
    try:
        return DETECTORS[name]
    except KeyError:
        raise DetectorError(f"no detector {name!r}; there are {', '.join(DETECTORS)}") from None
