"""Counts on the wire: a JSON body of panes, compressed with gzip.

`{id, model_version, fingerprint, parameters, panes: [{start, rows, rows_seen, first, last, segment?, hours?,
columns: [{name, gaps, counts, mean?, m2?}]}]}`. `gaps` are the distances between the filled slots of a column, the
first from slot 0: small numbers that repeat compress to next to nothing.
"""

import gzip
import json
import sys
from collections.abc import Sequence

import numpy as np

from driftd_sidecar._cells import Cells, ColumnCells, NumericCells
from driftd_sidecar._count import IntArray, Pane, by_column
from driftd_sidecar._wire import Envelope, parameters

MEDIA_TYPE = "application/vnd.driftd.counts+json"
_LONGEST_SINGLE_HOUR = 3600
_FEW = 32  # integers that are text sooner one at a time
_text = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


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
    gaps = slots.copy()
    gaps[1:] -= slots[:-1]
    body = f'{_text({"name": column.name})[:-1]},"gaps":{_integers(gaps)},"counts":{_integers(counts)}'
    if isinstance(column, NumericCells):
        body += f",{_text({'mean': mean, 'm2': min(m2, sys.float_info.max)})[1:-1]}"
    return body + "}"


def _integers(values: IntArray) -> str:
    """Integers [n], none below 0, as JSON: many by all their digits at once, since json writes each at 100 ns."""
    if values.size < _FEW:
        return str(values.tolist()).replace(" ", "")
    width = len(str(int(values.max())))
    text = np.full((values.size, width + 1), ord(","), np.uint8)
    shown = np.ones(text.shape, np.bool_)
    rest = values
    for place in reversed(range(width)):
        tens = rest // 10
        text[:, place] = rest - 10 * tens + ord("0")
        if place:
            np.not_equal(tens, 0, out=shown[:, place - 1])
        rest = tens
    return f"[{text[shown][:-1].tobytes().decode('ascii')}]"
