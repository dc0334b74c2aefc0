"""Streams whose change point is known: the generators of river, as published, watched by the pure core.

River's streams are rows of features and a label, at 60 rows a minute here. `ConceptDriftStream` (MOA's) goes from one
concept to the next around a position; its logistic overflows further than 709 quarters of its width away, so the
change takes a minute. SEA: Street & Kim (2001); STAGGER: Schlimmer & Granger (1986); Agrawal, Imielinski & Swami
(1993); Friedman (1991) with the drifts of Ikonomovska, Gama & Džeroski (2011).
"""

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import ks_2samp

from detectors.profile import Baseline
from detectors.types import ColumnRole, ColumnType
from tests.components import require_published
from tests.detectors.building import baseline_of, data
from tests.detectors.published.watching import pages

ROWS = 60
TRAINING = 10_000
BEFORE = 60
"""Minutes before the change."""

Columns = dict[str, npt.NDArray[Any]]
Stream = Iterable[tuple[Mapping[Any, Any], Any]]


@pytest.fixture(scope="module")
def synth() -> Iterator[ModuleType]:
    """`river.datasets.synth`, imported from beside our packages and forgotten again."""
    folder = str(require_published("river").parent)
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("river.datasets.synth")
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("river", "narwhals")]:
            del sys.modules[name]


def table(stream: Stream, rows: int) -> Columns:
    """Rows of a stream as columns: features `x…` and the label."""
    drawn = list(islice(stream, rows))
    names = list(drawn[0][0])
    columns = {f"x{name}": np.array([float(x[name]) for x, _ in drawn]) for name in names}
    return columns | {"label": np.array([float(y) for _, y in drawn])}


def minutes(columns: Columns) -> Iterator[Columns]:
    length = len(columns["label"])
    for start in range(0, length, ROWS):
        yield {name: values[start : start + ROWS] for name, values in columns.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A baseline from a concept, and its training rows."""

    baseline: Baseline
    rows: Columns


def train(stream: Stream) -> Trained:
    rows = table(stream, TRAINING)
    columns = [
        data(
            values.astype(np.int64) if np.unique(values).size <= 20 else values,
            name=name,
            role=ColumnRole.PREDICTION if name == "label" else ColumnRole.FEATURE,
            type=ColumnType.CATEGORICAL if np.unique(values).size <= 20 else ColumnType.NUMERIC,
            dtype="int64" if np.unique(values).size <= 20 else "float64",
        )
        for name, values in rows.items()
    ]
    return Trained(baseline=baseline_of(*columns), rows=rows)


def watched(trained: Trained, stream: Stream, length: int) -> dict[str, int]:
    served = table(stream, ROWS * length)
    numbers = {c.name for c in trained.baseline.columns if c.type is ColumnType.NUMERIC}
    columns = {name: v if name in numbers else v.astype(np.int64) for name, v in served.items()}
    return pages(trained.baseline, minutes(columns))


def changing(synth: ModuleType, before: Stream, after: Stream) -> Stream:
    drift: Stream = synth.ConceptDriftStream(before, after, position=ROWS * BEFORE + 1, width=ROWS, seed=3)
    return drift


def test_sea_and_stagger_change_their_label_and_nothing_else(synth: ModuleType) -> None:
    trained = train(synth.SEA(variant=2, seed=1))
    # P(label) falls from .755 to .549: PSI .19, so that the windows must fill with it.
    found = watched(trained, changing(synth, synth.SEA(variant=2, seed=2), synth.SEA(variant=3, seed=4)), 420)
    assert set(found) == {"label"}
    assert BEFORE < found["label"] <= BEFORE + 240
    trained = train(synth.STAGGER(classification_function=0, seed=1))
    # From 1/9 to 5/9.
    stagger = changing(
        synth,
        synth.STAGGER(classification_function=0, seed=2),
        synth.STAGGER(classification_function=1, seed=4),
    )
    found = watched(trained, stagger, 180)
    assert set(found) == {"label"}
    assert BEFORE < found["label"] <= BEFORE + 30


def test_agrawals_loans_change_their_label_and_no_skewed_feature(synth: ModuleType) -> None:
    trained = train(synth.Agrawal(classification_function=0, seed=1))
    stream = changing(
        synth,
        synth.Agrawal(classification_function=0, seed=2),
        synth.Agrawal(classification_function=4, seed=4),
    )
    # From .68 to .20.
    found = watched(trained, stream, 120)
    assert set(found) == {"label"}
    assert BEFORE < found["label"] <= BEFORE + 30


def test_moved_clusters_move_the_features_that_scipy_sees_move(synth: ModuleType) -> None:
    options = {"n_classes": 2, "n_features": 6, "n_centroids": 8}
    trained = train(synth.RandomRBF(seed_model=1, seed_sample=1, **options))
    after = synth.RandomRBF(seed_model=7, seed_sample=4, **options)
    moved = {
        name: ks_2samp(values, table(after, 5_000)[name], method="asymp").statistic
        for name, values in trained.rows.items()
    }
    found = watched(
        trained, changing(synth, synth.RandomRBF(seed_model=1, seed_sample=2, **options), after), 240
    )
    assert min(found.values()) > BEFORE
    plain = {name for name, distance in moved.items() if distance >= 0.35}
    assert plain
    assert plain <= set(found) <= {name for name, distance in moved.items() if distance >= 0.10}
    assert all(found[name] <= BEFORE + 60 for name in plain)


def test_a_concept_that_moves_no_column_is_not_seen(synth: ModuleType) -> None:
    """Friedman's function of other features: the label's law given the rows changes, no column's law does."""
    trained = train(synth.FriedmanDrift(drift_type="gra", position=(10**9, 2 * 10**9), seed=1))
    change = ROWS * BEFORE
    stream = synth.FriedmanDrift(drift_type="gra", position=(change, 10 * change), seed=2)
    assert watched(trained, stream, 240) == {}


def test_a_day_without_a_change_has_no_page(synth: ModuleType) -> None:
    trained = train(synth.SEA(variant=2, noise=0.1, seed=1))
    assert watched(trained, synth.SEA(variant=2, noise=0.1, seed=2), 1_440) == {}
