"""Bodies of counts, made from what the daemon itself counts of the same rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.coarse import coarsen
from detectors.profile import Baseline, Profile, profile_rows


def columns_of(baseline: Baseline, profile: Profile) -> list[dict[str, Any]]:
    """The columns of a pane, as the format describes them."""
    columns: list[dict[str, Any]] = []
    for position, column in enumerate(baseline.columns):
        slots = profile.counts[baseline.layout.slices[position]]
        filled = np.flatnonzero(slots)
        told: dict[str, Any] = {
            "name": column.name,
            "gaps": np.diff(filled, prepend=0).tolist(),
            "counts": slots[filled].tolist(),
        }
        if position in baseline.layout.numeric:
            told |= {"mean": profile.moments[position, 1], "m2": profile.moments[position, 2]}
        columns.append(told)
    return columns


def pane(
    baseline: Baseline, values: Mapping[str, Any], start: int, *, segment: str = "", **more: Any
) -> dict[str, Any]:
    """One pane of these rows, from `start` (epoch seconds) on."""
    onto = coarsen(baseline) if segment else baseline
    profile = profile_rows(onto, values)
    return {
        "start": start,
        "rows": profile.rows,
        "rows_seen": profile.rows,
        "first": start * 10**9,
        "last": (start + baseline.pane_seconds) * 10**9 - 1,
        **({"segment": segment} if segment else {}),
        "columns": columns_of(onto, profile),
    } | more


def body(baseline: Baseline, panes: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model_version": "1", "fingerprint": baseline.fingerprint, "panes": list(panes)} | more
