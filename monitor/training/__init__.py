"""Training data → baseline."""

from monitor.training.build import build
from monitor.training.options import (
    CONFIDENCE,
    PREDICTION,
    BuildResult,
    ColumnSummary,
    LearningOptions,
    TrainingError,
    TrainingOptions,
)

__all__ = [
    "CONFIDENCE",
    "PREDICTION",
    "BuildResult",
    "ColumnSummary",
    "LearningOptions",
    "TrainingError",
    "TrainingOptions",
    "build",
]
