"""What a baseline is built from, and what comes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detectors.decision import Calibration
from detectors.profile import Baseline
from detectors.types import ColumnRole, ColumnType

PREDICTION = "prediction"
CONFIDENCE = "confidence"
"""The names of the two columns that are not features, in a baseline and on the wire."""

Progress = Callable[[Path, int], None]
"""Called after each chunk with the file that is being read and the rows read so far, over all files."""


class TrainingError(Exception):
    """Training data that make no baseline; names the file, the row (from 1, the header aside) and the column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningOptions:
    """How to learn from when training rows happened: `time` names the column of times, which is no feature.

    The rest is what the model is judged by: `windows` and `block_seconds`, the block length of a column from which
    nothing is learned (whole panes), and how the budget is divided.
    """

    time: str
    windows: tuple[int, ...]
    block_seconds: int
    false_pages_per_year: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How to read training data.

    `prediction` and `confidence` name columns of the files. `include` keeps only these features, `ignore`
    leaves columns out. `types` and `dtypes` (numpy names) override what the values look like, `dtype` is the
    dtype of every numeric feature not named in `dtypes`: that of the model's input, because 0.1 as float32 is
    not 0.1 as float64. `tensors` says which columns an (N, F) input tensor has, in order. `missing` adds
    words to those that stand for a missing value. `artefact` is the model's ONNX file: its signature then
    decides dtypes and features, and it is run over the rows for predictions and confidences. `learning` is
    given where the files say when their rows happened.
    """

    model: str
    files: tuple[Path, ...]
    version: str | None = None
    prediction: str | None = None
    confidence: str | None = None
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    types: Mapping[str, ColumnType] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    dtype: str | None = None
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    delimiter: str = ","
    pane_seconds: int = 60
    artefact: Path | None = None
    spill_directory: Path | None = None
    cells_per_chunk: int = 1_000_000
    learning: LearningOptions | None = None

    @property
    def time(self) -> str | None:
        """The column of times, if the files have one that counts."""
        return None if self.learning is None else self.learning.time


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """One line of what was built: `source` is the column of the file, or the output tensor of the model."""

    name: str
    role: ColumnRole
    type: ColumnType
    dtype: str
    source: str
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A baseline, and what a registry wants to know of the model it belongs to.

    `version` is the one asked for, else the one the sidecar would send for the artefact. `artefact_metadata` is the ONNX file's
    custom metadata, empty without one. `warnings` are sentences for people. `calibration` is what the rows teach of how
    the columns move by nature, None where they do not say when they happened.
    """

    baseline: Baseline
    model: str
    version: str | None
    artefact_sha256: str | None
    artefact_metadata: Mapping[str, str]
    warnings: tuple[str, ...]
    columns: tuple[ColumnSummary, ...]
    calibration: Calibration | None = None
