"""When training rows happened: the column of times, read to whole seconds and kept on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from detectors.types import IntArray
from monitor.ingest.times import SECOND, EventTimeError, parse_time, parse_times
from monitor.training.options import TrainingError
from monitor.training.reading import Cells

_DATE_LENGTH: Final = 10
"""Characters of 2026-01-31, before the T; pandas and most databases write a blank there."""


class TimeSpool:
    """Collects the times of all rows in a file of 8 bytes a row."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.rows = 0
        self._file = (directory / "times").open("wb")

    def add(self, cells: Cells, at: Callable[[int], str]) -> None:
        """Take the next rows; `at` names the place of one of them, counted from 0, for errors."""
        seconds = read_seconds(self.name, cells, at)
        self.rows += seconds.shape[0]
        self._file.write(seconds.tobytes())

    def values(self) -> IntArray:
        """Epoch seconds int64 [rows], mapped from disk."""
        self._file.flush()
        if not self.rows:
            return np.zeros(0, dtype=np.int64)
        return np.memmap(self._file.name, dtype=np.int64, mode="r", shape=(self.rows,))

    def close(self) -> None:
        """Close the file; the array handed out stays readable."""
        self._file.close()


def read_seconds(name: str, cells: Cells, at: Callable[[int], str]) -> IntArray:
    """Epoch seconds [n] of RFC 3339 text, a blank in place of T allowed, or of a Parquet file's timestamps.

    Raises TrainingError for the first row without a time, or with one that names no instant: without its offset from
    UTC a time is a guess.
    """
    if cells.null is not None:
        raise _refused(
            name, at(int(np.flatnonzero(cells.null)[0])), "the row has no time; leave such rows out"
        )
    if cells.times:
        return cells.values
    if cells.values.dtype != object:
        what = f"{cells.values.dtype} values where times are expected; give RFC 3339 text or timestamps"
        raise _refused(name, at(0), what)
    codes, found = pd.factorize(cells.values)  # None becomes -1
    if (codes < 0).any():
        raise _refused(
            name, at(int(np.flatnonzero(codes < 0)[0])), "the row has no time; leave such rows out"
        )
    texts = [_with_t(text) for text in found.tolist()]
    together = parse_times(texts)
    if together is None:
        together = np.empty(len(texts), dtype=np.int64)
        for place, text in enumerate(texts):
            try:
                together[place] = parse_time(text)
            except EventTimeError as error:
                row = int(np.flatnonzero(codes == place)[0])
                raise _refused(name, at(row), f"{found[place]!r}: {_plain(text, error)}") from None
    return np.asarray((together // SECOND)[codes])


def _with_t(text: str) -> str:
    return f"{text[:_DATE_LENGTH]}T{text[_DATE_LENGTH + 1 :]}" if text[_DATE_LENGTH:][:1] == " " else text


def _plain(text: str, error: EventTimeError) -> str:
    return str(error) if text else "the row has no time; leave such rows out"


def _refused(name: str, place: str, why: str) -> TrainingError:
    return TrainingError(f"{place}: time column {name!r}: {why}")
