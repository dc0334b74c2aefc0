"""Folding: rows become counts in panes, and each row enters exactly one block of evidence.

The pure half of the fold. Event time chooses the pane. The block is the one of the event time while that is
open, else the next one to close: rows that come late still bear evidence, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.profile import Baseline, Profile, profile_rows
from detectors.types import IntArray
from monitor.watermark import NANOSECONDS

HOUR: Final = 3_600

Frame = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What a group of rows adds: profiles per pane start and per block start, rows per hour (epoch seconds)."""

    panes: Mapping[int, Profile]
    blocks: Mapping[int, Profile]
    hours: Mapping[int, int]
    rows: int


def block_start(pane_start: int, block_seconds: int, evaluated_upto: int | None) -> int:
    """The block that the rows of a pane enter: their own while it is open, else the next one to close."""
    own = pane_start // block_seconds * block_seconds
    if evaluated_upto is None or own + block_seconds > evaluated_upto:
        return own
    return evaluated_upto // block_seconds * block_seconds


def fold_rows(
    baseline: Baseline,
    times_ns: IntArray,
    values: Frame,
    *,
    block_seconds: int,
    evaluated_upto: int | None,
) -> Folded:
    """Count the rows of one model version.

    `times_ns` is int64 [N], event time in nanoseconds UTC; `values` maps every baseline column to an array of
    length N. `evaluated_upto` is the last closed boundary of the model in epoch seconds.
    """
    panes = {
        start: profile_rows(baseline, rows)
        for start, rows in _by_pane(times_ns, values, baseline.pane_seconds)
    }
    blocks: dict[int, list[Profile]] = {}
    for start, profile in panes.items():
        blocks.setdefault(block_start(start, block_seconds, evaluated_upto), []).append(profile)
    return Folded(
        panes=panes,
        blocks={start: Profile.merge(parts) for start, parts in blocks.items()},
        hours=_by_hour(times_ns),
        rows=int(times_ns.size),
    )


def _by_hour(times_ns: IntArray) -> dict[int, int]:
    """How many rows happened in each hour, by its start: of the rows themselves, for a pane may be a day."""
    if times_ns.size == 0:
        return {}
    index = times_ns // (HOUR * NANOSECONDS)
    first = int(index.min())
    counted = np.bincount(index - first)
    return {(first + int(hour)) * HOUR: int(counted[hour]) for hour in np.flatnonzero(counted)}


def _by_pane(times_ns: IntArray, values: Frame, pane_seconds: int) -> list[tuple[int, Frame]]:
    """Rows grouped by the pane of their event time, oldest pane first."""
    if times_ns.size == 0:
        return []
    index = times_ns // (pane_seconds * NANOSECONDS)
    first = int(index[0])
    if bool((index == first).all()):
        return [(first * pane_seconds, values)]
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    return [
        (int(index[rows[0]]) * pane_seconds, {name: column[rows] for name, column in values.items()})
        for rows in np.split(order, cuts)
    ]
