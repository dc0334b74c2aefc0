"""Long simulated traffic through a whole daemon: hours of rows in a batch, and every boundary of them in one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from alerts.identity import AlertKind
from detectors.decision import Bands, EventIndex, bands
from detectors.profile import Baseline, ColumnData, NumericColumn, build_baseline
from detectors.types import ColumnRole, ColumnType
from tests.monitor.world import World

TRAINING = 10_000
"""Rows of the reference's simulations."""

Rows = dict[str, npt.NDArray[np.float32]]


def normal_baseline(seed: int, columns: int, *, pane_seconds: int = 60) -> Baseline:
    """Independent standard normal columns `x0`, `x1`, …"""
    rng = np.random.default_rng(seed)
    data = [
        ColumnData(
            name=f"x{i}",
            role=ColumnRole.FEATURE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=rng.normal(size=TRAINING).astype(np.float32),
        )
        for i in range(columns)
    ]
    return build_baseline(data, pane_seconds=pane_seconds, tensors=(), confidence=None, source="soak")


def normal_rows(rng: np.random.Generator, shifts: Sequence[float], rows: int) -> Rows:
    """Rows whose columns are shifted by so many deviations each."""
    return {f"x{i}": rng.normal(shift, 1.0, rows).astype(np.float32) for i, shift in enumerate(shifts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLaw:
    """The law of one column at the upper edge of its bands: as far from training as the promise allows.

    `points` float64 [14] are the 13 evidence cuts and the largest training value, `below` float64 [13] P(x ≤ cut).
    """

    points: npt.NDArray[np.float64]
    below: npt.NDArray[np.float64]

    def draw(self, rng: np.random.Generator, rows: int, *, repeated: int = 1) -> npt.NDArray[np.float32]:
        """Rows in runs of `repeated` equal ones: what happens inside a block is free."""
        uniform = np.repeat(rng.random(-(-rows // repeated)), repeated)[:rows]
        found = self.points[np.searchsorted(self.below, uniform, side="right")]
        return found.astype(np.float32)


def edge_laws(baseline: Baseline) -> dict[str, EdgeLaw]:
    """Every column's."""
    index = EventIndex.of(baseline)
    band: Bands = bands(index)
    laws = {}
    for column, first in zip(baseline.columns, index.starts.tolist(), strict=True):
        assert isinstance(column, NumericColumn)
        points = np.append(column.cuts[column.evidence_cuts], column.cuts[-1])
        below = np.maximum.accumulate(band.high[first : first + 13])
        laws[column.name] = EdgeLaw(points=points, below=np.minimum(below, 1.0))
    return laws


def pass_time(world: World, span: timedelta, batches: Mapping[str, Rows]) -> None:
    """A span in which each model is sent its rows, evenly spread, then one look."""
    at = world.clock.now()
    world.clock.advance(span)
    for model, rows in batches.items():
        world.send(at, rows, spread=span, model_name=model)
    world.look()


def fired(world: World) -> list[tuple[str, str, datetime]]:
    """Model, column and event time of every drift page that ever fired, oldest first.

    A shift out of the training range may page as data quality before it pages as drift: a page is a page.
    """
    kinds = {AlertKind.FEATURE_DRIFT.value, AlertKind.DATA_QUALITY.value}
    return [
        (alert.model, alert.column, step.at)
        for alert in world.alerts()
        for step in world.history(alert.id)
        if alert.kind in kinds and step.to_state == "firing" != step.from_state
    ]
