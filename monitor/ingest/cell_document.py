"""The cells of a baseline for those who count for themselves: columns, cut points, categories, and nothing counted.

Layout: the length of a JSON text as uint32, the JSON text (ASCII), then the cut points of every numeric column in order,
as float32 where that holds each of a column exactly (`width` 4), else as float64; all little-endian.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from detectors.cells import narrow_cuts
from detectors.coarse import kept_cuts
from detectors.profile import Baseline, CategoricalColumn, Column

MEDIA_TYPE: Final = "application/vnd.driftd.cells"
_FORMAT: Final = 1
_LENGTH: Final = struct.Struct("<I")


def encode_cells(baseline: Baseline, segment_keys: Sequence[str]) -> bytes:
    """What it takes to count rows on this baseline as `detectors.profile.profile_rows` does, and segments beside them."""
    parts: list[bytes] = []
    described = [_describe(column, parts) for column in baseline.columns]
    head = json.dumps(
        {
            "driftd": _FORMAT,
            "fingerprint": baseline.fingerprint,
            "pane_seconds": baseline.pane_seconds,
            "columns": described,
            "tensors": [{"name": each.name, "columns": list(each.columns)} for each in baseline.tensors],
            "confidence": None
            if baseline.confidence is None
            else {"kind": baseline.confidence.kind, "tensor": baseline.confidence.tensor},
            "segment_keys": list(segment_keys),
        },
        separators=(",", ":"),
    ).encode("ascii")
    return b"".join([_LENGTH.pack(len(head)), head, *parts])


def cells_tag(baseline: Baseline, segment_keys: Sequence[str]) -> str:
    """Differs whenever the document does: the fingerprint, and after it a digest of the tags that make segments."""
    keys = hashlib.sha256(json.dumps(list(segment_keys)).encode()).hexdigest()[:8]
    return f"{baseline.fingerprint}.{_FORMAT}.{keys}"


def _describe(column: Column, parts: list[bytes]) -> dict[str, Any]:
    """One column for the JSON text; its cut points go to `parts`."""
    shared = {"name": column.name, "role": column.role.value, "type": column.type.value}
    if isinstance(column, CategoricalColumn):
        return shared | {
            "categories": list(column.categories),
            "others": sorted(column.others),
            "others_truncated": column.others_truncated,
        }
    narrow = narrow_cuts(column.cuts)
    parts.append(column.cuts.astype("<f8").tobytes() if narrow is None else narrow.astype("<f4").tobytes())
    kept = kept_cuts(column)
    return shared | {
        "dtype": column.dtype,
        "cuts": column.cuts.size,
        "width": 8 if narrow is None else 4,
        "coarse": None if kept.size == column.cuts.size else kept.tolist(),
    }
