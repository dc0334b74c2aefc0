"""Counts on the wire: a JSON body of panes, compressed with gzip.

`{id, model_version, fingerprint, parameters, panes: [{start, rows, rows_seen, first, last, segment?, hours?,
columns: [{name, gaps, counts, mean?, m2?}]}]}`. `gaps` are the distances between the filled slots of a column, the
first from slot 0: small numbers that repeat compress to next to nothing.
"""

import gzip
import json
from collections.abc import Sequence

import numpy as np

from driftd_sidecar._cells import Cells, NumericCells
from driftd_sidecar._count import Pane, by_column
from driftd_sidecar._wire import Envelope, parameters

MEDIA_TYPE = "application/vnd.driftd.counts+json"
_LONGEST_SINGLE_HOUR = 3600


def encode_counts(cells: Cells, panes: Sequence[Pane], envelope: Envelope) -> bytes:
    """The compressed body of counts on `cells`."""
    body = {
        "id": envelope.id,
        "model_version": envelope.model_version,
        "fingerprint": cells.fingerprint,
        "parameters": parameters(envelope),
        "panes": [_pane(cells, pane) for pane in panes],
    }
    text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")
    return gzip.compress(text, 6, mtime=0)


def _pane(cells: Cells, pane: Pane) -> dict[str, object]:
    told: dict[str, object] = {
        "start": pane.start,
        "rows": pane.rows,
        "rows_seen": pane.seen,
        "first": pane.first_ns,
        "last": pane.last_ns,
    }
    if pane.segment:
        told["segment"] = pane.segment
    if cells.pane_seconds > _LONGEST_SINGLE_HOUR:
        told["hours"] = sorted(pane.hours.items())
    columns = []
    for (column, slots, counts), (_, mean, m2) in zip(
        by_column(cells, pane), pane.moments.tolist(), strict=True
    ):
        described: dict[str, object] = {
            "name": column.name,
            "gaps": np.diff(slots, prepend=0).tolist(),
            "counts": counts.tolist(),
        }
        if isinstance(column, NumericCells):
            described |= {"mean": mean, "m2": m2}
        columns.append(described)
    return told | {"columns": columns}
