"""Counts on the wire: a JSON body of panes, compressed with gzip.

`{id, model_version, fingerprint, parameters, panes: [{start, rows, rows_seen, first, last, segment?, hours?,
columns: [{name, gaps, counts, mean?, m2?}]}]}`. `gaps` are the distances between the filled slots of a column, the
first from slot 0: small numbers that repeat compress to next to nothing.
"""

import gzip
import json
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from driftd_sidecar._cells import Cells, ColumnCells, NumericCells
from driftd_sidecar._count import IntArray, Pane, by_column
from driftd_sidecar._wire import Envelope, parameters

MEDIA_TYPE = "application/vnd.driftd.counts+json"
_LONGEST_SINGLE_HOUR = 3600


def encode_counts(cells: Cells, panes: Sequence[Pane], envelope: Envelope) -> bytes:
    """The compressed body of counts on `cells`.

    Written column by column: whoever turns a whole pane into text at once keeps the application's threads waiting for it.
    """
    head = _text(
        {
            "id": envelope.id,
            "model_version": envelope.model_version,
            "fingerprint": cells.fingerprint,
            "parameters": parameters(envelope),
        }
    )
    body = f'{head[:-1]},"panes":[{",".join([_pane(cells, pane) for pane in panes])}]}}'
    return gzip.compress(body.encode("ascii"), 6, mtime=0)


def _pane(cells: Cells, pane: Pane) -> str:
    told: dict[str, object] = {
        "start": pane.start,
        "rows": pane.rows,
        "rows_seen": pane.seen,
        "first": pane.first_ns,
        "last": pane.last_ns,
    }
    if pane.segment:
        told["segment"] = pane.segment
    elif cells.pane_seconds > _LONGEST_SINGLE_HOUR:
        told["hours"] = sorted(pane.hours.items())
    columns = [
        _column(column, slots, counts, mean, m2)
        for (column, slots, counts), (_, mean, m2) in zip(
            by_column(cells, pane), pane.moments.tolist(), strict=True
        )
    ]
    return f'{_text(told)[:-1]},"columns":[{",".join(columns)}]}}'


def _column(column: ColumnCells, slots: IntArray, counts: IntArray, mean: float, m2: float) -> str:
    told: dict[str, object] = {
        "name": column.name,
        "gaps": np.diff(slots, prepend=0).tolist(),
        "counts": counts.tolist(),
    }
    if isinstance(column, NumericCells):
        told |= {"mean": mean, "m2": min(m2, sys.float_info.max)}
    return _text(told)


def _text(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
