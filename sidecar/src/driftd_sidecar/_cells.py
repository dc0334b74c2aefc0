"""The cells of a baseline, as the daemon serves them: what rows are counted on.

Layout of a document: the length of a JSON text as uint32, the JSON text, then the cut points of every numeric column
in order, each column's as float32 where that holds them exactly (`width` 4) and as float64 else, all little-endian.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
MEDIA_TYPE = "application/vnd.driftd.cells"
_FORMAT = 1
_LENGTH = struct.Struct("<I")
_WIDTHS = {4: "<f4", 8: "<f8"}
_ROLES = frozenset({"feature", "prediction", "confidence"})
_TYPES = frozenset({"numeric", "boolean", "text"})
_RULES = frozenset({"given", "probabilities", "positive_probability", "softmax"})
_LONGEST_PANE_SECONDS = 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NumericCells:
    """A numeric, boolean or text column: 2k+1 cells around k cut points, then `missing`, `non_finite` and, of a
    confidence, `fixed_sum`. `start` is its first slot; `narrow` are the cuts as float32 where that holds them exactly,
    `coarse` the indexes of those on which segments are counted, None for all.
    """

    name: str
    role: str
    type: str
    dtype: str
    cuts: FloatArray
    narrow: npt.NDArray[np.float32] | None
    coarse: npt.NDArray[np.int64] | None
    start: int

    @property
    def cells(self) -> int:
        return 2 * self.cuts.size + 1

    @property
    def slots(self) -> int:
        return self.cells + (3 if self.role == "confidence" else 2)

    def cell(self, value: float) -> int:
        """The cell of a value that is not NaN."""
        return int(self.cuts.searchsorted(value)) + int(self.cuts.searchsorted(value, side="right"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryCells:
    """A categorical column: its categories, then `other`, `unseen` and `missing`.

    `offsets` has the slot of every text the baseline knows; any other text is counted at `unknown`.
    """

    name: str
    role: str
    offsets: Mapping[str, int]
    known: int
    unknown: int
    start: int

    @property
    def slots(self) -> int:
        return self.known + 3

    @property
    def missing(self) -> int:
        return self.known + 2


ColumnCells = NumericCells | CategoryCells


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """All that counting needs. `feeds` names the columns of each tensor, "" for a position that is no column;
    `confidence` is how confidence is derived and from which tensor. `length` is the number of slots of all columns.
    The values of the tags `segment_keys` are counted by themselves, on the coarse cuts.
    """

    fingerprint: str
    pane_seconds: int
    columns: tuple[ColumnCells, ...]
    feeds: Mapping[str, tuple[str, ...]]
    confidence: tuple[str, str | None] | None
    segment_keys: tuple[str, ...]
    length: int


class CellsError(ValueError):
    """The bytes are no cells that this sidecar can count on."""


def parse(document: bytes) -> Cells:
    """The cells in a document; CellsError for anything else."""
    try:
        return _parse(document)
    except CellsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, struct.error) as error:
        raise CellsError(f"not the cells of a baseline: {error!r}") from error


def _parse(document: bytes) -> Cells:
    (length,) = _LENGTH.unpack_from(document)
    at = _LENGTH.size + length
    head = json.loads(document[_LENGTH.size : at])
    if head["driftd"] != _FORMAT:
        raise CellsError(f"cells of format {head['driftd']!r}; this sidecar reads {_FORMAT}: update it")
    columns: list[ColumnCells] = []
    start = 0
    for described in head["columns"]:
        if described["role"] not in _ROLES:
            raise CellsError(f"column {described['name']!r} has the unknown role {described['role']!r}")
        column: ColumnCells
        if described["type"] == "categorical":
            column = _categories(described, start)
        else:
            width = int(described["width"])
            raw = np.frombuffer(document, _WIDTHS[width], count=int(described["cuts"]), offset=at)
            at += raw.nbytes
            column = _numbers(described, raw, start)
        columns.append(column)
        start += column.slots
    if at != len(document) or not columns:
        raise CellsError("the cut points end elsewhere than the document")
    pane_seconds = int(head["pane_seconds"])
    if not 0 < pane_seconds <= _LONGEST_PANE_SECONDS:
        raise CellsError(f"panes of {pane_seconds} seconds")
    return Cells(
        fingerprint=str(head["fingerprint"]),
        pane_seconds=pane_seconds,
        columns=tuple(columns),
        feeds={feed["name"]: tuple(feed["columns"]) for feed in head["tensors"]},
        confidence=_rule(head["confidence"]),
        segment_keys=tuple(head["segment_keys"]),
        length=start,
    )


def _numbers(described: Mapping[str, Any], raw: npt.NDArray[Any], start: int) -> NumericCells:
    if described["type"] not in _TYPES:
        raise CellsError(f"column {described['name']!r} has the unknown type {described['type']!r}")
    np.dtype(described["dtype"])  # TypeError for what numpy does not know
    cuts = raw.astype(np.float64)
    if cuts.size == 0 or not np.isfinite(cuts).all() or (np.diff(cuts) <= 0).any():
        raise CellsError(f"the cut points of column {described['name']!r} do not rise")
    coarse = described.get("coarse")
    if coarse is not None and (sorted(set(coarse)) != coarse or not 0 <= coarse[0] <= coarse[-1] < cuts.size):
        raise CellsError(f"the coarse cuts of column {described['name']!r} are none of its own")
    return NumericCells(
        name=described["name"],
        role=described["role"],
        type=described["type"],
        dtype=described["dtype"],
        cuts=cuts,
        narrow=narrowed(cuts),
        coarse=None if coarse is None else np.array(coarse, np.int64),
        start=start,
    )


def narrowed(cuts: FloatArray) -> npt.NDArray[np.float32] | None:
    """The cut points [k] as float32, or None where float32 does not hold each of them exactly."""
    with np.errstate(over="ignore"):
        narrow = cuts.astype(np.float32)
    return narrow if np.array_equal(narrow, cuts) else None


def _categories(described: Mapping[str, Any], start: int) -> CategoryCells:
    known = len(described["categories"])
    offsets = {text: offset for offset, text in enumerate(described["categories"])}
    return CategoryCells(
        name=described["name"],
        role=described["role"],
        offsets=offsets | dict.fromkeys(described["others"], known),
        known=known,
        # A name the baseline forgot for want of room cannot be told from a new one.
        unknown=known if described["others_truncated"] else known + 1,
        start=start,
    )


def _rule(described: Mapping[str, Any] | None) -> tuple[str, str | None] | None:
    if described is None:
        return None
    if described["kind"] not in _RULES:
        raise CellsError(f"confidence by the unknown rule {described['kind']!r}: update the sidecar")
    return described["kind"], described["tensor"]
