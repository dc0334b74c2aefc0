"""From an opened body to its decoded batch: which format reads which body."""

from collections.abc import Callable, Mapping
from typing import Final

from detectors.profile import Baseline
from monitor.ingest import columns, oip, rows
from monitor.ingest.arrow import OpenedArrow, decode_arrow
from monitor.ingest.decoded import Decoded, Style
from monitor.ingest.envelope import Opened, untyped
from monitor.ingest.errors import IngestError

_FORMATS: Final[Mapping[Style, Callable[[Opened, Baseline | None], Decoded]]] = {
    "rows": rows.decode_rows,
    "columns": columns.decode_columns,
    "tensors": oip.decode_tensors,
}


def decode_body(opened: Opened | OpenedArrow, baseline: Baseline | None) -> Decoded:
    """Decode what was opened; `baseline` only chooses the fastest decoder for its columns."""
    if isinstance(opened, OpenedArrow):
        return decode_arrow(opened, baseline)
    decode = _FORMATS[opened.style]
    if opened.lifted is None:
        return decode(opened, baseline)
    try:
        return decode(opened, baseline)
    except IngestError:
        # What is wrong is told in the words, and at the places, of the whole body.
        return decode(untyped(opened), baseline)
