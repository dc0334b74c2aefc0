"""What every wire format is decoded into, before event times and the baseline are looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from detectors.types import FloatArray, IntArray
from monitor.ingest.batch import Tensor
from monitor.ingest.errors import Issue, pointer_token

MAX_ISSUES: Final = 100

Style = Literal["rows", "columns", "tensors", "arrow"]


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""A cell whose key is not in its row: not the same as null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Bounds on one batch whatever its format; names count in characters."""

    rows: int = 100_000
    columns: int = 2048
    name_length: int = 200
    header_bytes: int = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The JSON pointer of a value by its row: prefix, row number, suffix."""

    prefix: str
    suffix: str = ""

    def at(self, row: int) -> str:
        return f"{self.prefix}{row}{self.suffix}"


def feature_place(name: str) -> Place:
    """Where row JSON holds a feature."""
    return Place(prefix="/rows/", suffix=f"/features/{pointer_token(name)}")


class Faults:
    """The rows of a batch that cannot be taken, and the first 100 reasons."""

    def __init__(self, rows: int) -> None:
        self._bad: npt.NDArray[np.bool_] = np.zeros(rows, dtype=np.bool_)
        self.issues: list[Issue] = []

    def reject(self, row: int, pointer: str, detail: str) -> None:
        """Mark one row as bad and say why, while there is room."""
        self._bad[row] = True
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(pointer=pointer, detail=detail))

    def is_bad(self, row: int) -> bool:
        return bool(self._bad[row])

    @property
    def rejected(self) -> int:
        return int(self._bad.sum())

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """The rows [N] to keep."""
        return ~self._bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One JSON column: a scalar, None or MISSING per row.

    `floats_only` says the decoder saw nothing but floats and nulls, so nobody needs to look again.
    """

    name: str
    values: Sequence[Any] | FloatArray
    place: Place
    floats_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Event times as sent: `values` per row (raw scalars, or int64 [N]); where a row has none, the batch's `value`."""

    place: Place
    value_pointer: str = "/parameters/ts"
    value: Any = None
    values: Sequence[Any] | IntArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One body of `rows` rows in the shape all formats share.

    JSON rows and columns come as `cells`, OIP and Arrow bodies as `tensors` (with `tensor_pointers` beside them). Rows
    that could not be read are in `faults` already. `prediction` and `confidence` of the JSON formats are cells
    of these names.
    """

    style: Style
    id: str | None
    model_version: str
    parameters: Mapping[str, Any]
    rows: int
    times: Times
    faults: Faults
    body_sha256: str
    cells: tuple[Cells, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    tensor_pointers: tuple[str, ...] = ()
    row_ids: Tensor | None = None
    tags: Mapping[str, Tensor] = field(default_factory=dict)
