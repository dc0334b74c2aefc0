"""Baselines, windows and statistics that the decision tests share; D and PSI come from scipy and from first principles."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from detectors.decision import EventIndex, Windows
from detectors.profile import Baseline, ColumnData, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType, FloatArray

SECONDS = (900, 3_600, 21_600, 86_400)
Values = npt.NDArray[np.float64] | npt.NDArray[np.object_]


def numeric(name: str, values: FloatArray, role: ColumnRole = ColumnRole.FEATURE) -> ColumnData:
    return ColumnData(name=name, role=role, type=ColumnType.NUMERIC, dtype="float64", values=values)


def categorical(name: str, values: Sequence[str]) -> ColumnData:
    array = np.array(values, dtype=object)
    return ColumnData(
        name=name, role=ColumnRole.FEATURE, type=ColumnType.CATEGORICAL, dtype="string", values=array
    )


def baseline_of(*columns: ColumnData) -> Baseline:
    return build_baseline(columns, 60, (), None, "test")


def index_of(*columns: ColumnData) -> EventIndex:
    return EventIndex.of(baseline_of(*columns))


def mixed_index(seed: int = 1, rows: int = 2_000) -> EventIndex:
    """A numeric, a confidence and a categorical column."""
    rng = np.random.default_rng(seed)
    return index_of(
        numeric("age", rng.normal(40, 9, rows)),
        numeric("conf", rng.beta(8, 2, rows), ColumnRole.CONFIDENCE),
        categorical("city", rng.choice(["ulm", "bonn", "köln"], rows, p=[0.6, 0.3, 0.1]).tolist()),
    )


def windows_of(
    index: EventIndex,
    spans: Sequence[Mapping[str, Values]],
    ks: FloatArray,
    psi: FloatArray,
    seconds: Sequence[int] = SECONDS,
) -> Windows:
    """Windows whose rows are `spans`, with given D and PSI [W, C]."""
    profiles = [profile_rows(index.baseline, span) for span in spans]
    return Windows(
        seconds=np.array(seconds),
        counts=np.stack([profile.counts for profile in profiles]),
        rows=np.array([profile.rows for profile in profiles]),
        ks=ks,
        psi=psi,
    )


def distance(train: FloatArray, now: FloatArray) -> float:
    """KS distance by scipy of the values present, NaN when there are none."""
    present = now[~np.isnan(now)]
    return float(stats.ks_2samp(train, present, method="asymp").statistic) if present.size else float("nan")


def decile_psi(train: FloatArray, now: FloatArray) -> float:
    """PSI over ten training deciles with half a row added per bin, of the values present."""
    present = now[~np.isnan(now)]
    if present.size == 0:
        return float("nan")
    edges = np.quantile(train, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5 for x in (present, train))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())
