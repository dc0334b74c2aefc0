"""From an opened body to its decoded batch: which format reads which body."""

from collections.abc import Callable, Mapping
from typing import Final

from detectors.profile import Baseline
from monitor.ingest import columns, oip, rows
from monitor.ingest.decoded import Decoded, Style
from monitor.ingest.envelope import Opened

_FORMATS: Final[Mapping[Style, Callable[[Opened, Baseline | None], Decoded]]] = {
    "rows": rows.decode_rows,
    "columns": columns.decode_columns,
    "tensors": oip.decode_tensors,
}


def decode_body(opened: Opened, baseline: Baseline | None) -> Decoded:
    """Decode what the outermost object holds; `baseline` only chooses the fastest decoder for its columns."""
    return _FORMATS[opened.style](opened, baseline)
