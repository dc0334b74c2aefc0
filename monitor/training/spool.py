"""One column of training data on disk while its file is being read, and the decision what it is.

Nothing is guessed from the first rows. A column stays *numbers* while every value is one, and *words* while few
enough differ; both are written behind each other to spill files, so that a file need not fit into memory.
What still holds at the end is what the column is. A column that can be neither any more, or no longer what
it was declared to be, is refused with the row that ruled it out.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from detectors.columns import SAFE_INTEGER, canonical_text
from detectors.types import ColumnType, FloatArray
from monitor.training.options import TrainingError
from monitor.training.reading import Cells
from monitor.training.values import MISSING_NUMBERS, Numbers, lengths, read_booleans, read_numbers

AnyArray = npt.NDArray[Any]

MAX_WORDS = 1_000
"""Strings with more distinct values than this are text, not categories."""
MAX_DECLARED_WORDS = 1_000_000
"""Distinct values of a declared category, or of ids: the dictionary is kept in memory."""


class Closable(Protocol):
    """A file that is open until it is closed."""

    def close(self) -> None: ...


class Spool:
    """Collects one column. `declared` is its type where the user or the model says so; `words_only` keeps strings
    that look like numbers strings, as a model's string input demands.

    After the last `add`: `numbers` says whether all values are numbers, `whole` whether all of them are whole,
    `words` counts the distinct strings (None: too many to keep), `dtypes` names the dtypes of typed files.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        number: int,
        *,
        declared: ColumnType | None = None,
        words_only: bool = False,
        missing: Collection[str] = (),
    ) -> None:
        self.name = name
        self.declared = declared
        self.numbers = not words_only and declared in (None, ColumnType.NUMERIC, ColumnType.BOOLEAN)
        self.whole = True
        self.rows = 0
        self.dtypes: set[str] = set()
        self._countable = not words_only  # every value so far was a number, whether numbers are kept or not
        self._keeps_words = words_only or declared in (None, ColumnType.CATEGORICAL)
        self._most_words = MAX_DECLARED_WORDS if declared is ColumnType.CATEGORICAL else MAX_WORDS
        self._index: dict[str, int] = {}
        self._missing_words = frozenset(missing) | {""}
        self._missing_numbers = frozenset(missing) | MISSING_NUMBERS
        self._directory = directory
        self._number = number
        self._files: dict[str, IO[bytes]] = {}

    @property
    def words(self) -> tuple[str, ...] | None:
        """Distinct texts as they stand in the file, None where they were too many to keep."""
        return tuple(self._index) if self._keeps_words else None

    @property
    def countable(self) -> bool:
        """Whether every value was a number, even in a column that is counted by its words."""
        return self._countable

    def add(self, cells: Cells, at: Callable[[int], str]) -> AnyArray:
        """Take the next rows; `at` names the place of one of them, counted from 0, for errors.

        Returns them as the column reads them: float64 [n] with NaN where missing for numbers, else text with
        None where missing.
        """
        self.rows += cells.values.shape[0]
        read = (
            self._add_text(cells.values, at) if cells.values.dtype == object else self._add_typed(cells, at)
        )
        if self.declared is ColumnType.CATEGORICAL and not self._keeps_words:
            raise TrainingError(
                f"{at(0)}: column {self.name!r} has more than {self._most_words} distinct values, which are no "
                f"categories; leave it out with --ignore {self.name}, or count lengths with --type {self.name}=text"
            )
        return read

    def values(self, spill: str) -> AnyArray:
        """A spill as an array [rows]: "numbers" or "lengths" float64, "codes" int32 into `words` (-1 missing)."""
        file = self._files.get(spill)
        dtype = np.int32 if spill == "codes" else np.float64
        if file is None or not self.rows:
            return np.zeros(0, dtype=dtype)
        file.flush()
        return np.memmap(file.name, dtype=dtype, mode="r", shape=(self.rows,))

    def close(self) -> None:
        """Close the spill files; arrays handed out stay readable."""
        for file in self._files.values():
            file.close()

    def _add_text(self, texts: AnyArray, at: Callable[[int], str]) -> AnyArray:
        if self.declared is ColumnType.BOOLEAN:
            booleans, bad = read_booleans(texts, self._missing_numbers)
            if bad is not None:
                raise TrainingError(f"{at(bad)}: column {self.name!r}: {texts[bad]!r} is not true or false")
            self._spill("numbers", booleans)
            return booleans
        read = None
        if self._countable and self.declared is not ColumnType.TEXT:
            read = self._read_numbers(texts, at)
        if self._keeps_words:
            codes, found = pd.factorize(texts)  # None becomes -1
            self._code(codes, found.tolist())
        if self.numbers and read is not None:
            return read
        if not self._keeps_words:
            self._spill("lengths", lengths(texts, self._missing_words))
        plain = texts.copy()
        plain[[text is None or text in self._missing_words for text in texts]] = None
        return plain

    def _read_numbers(self, texts: AnyArray, at: Callable[[int], str]) -> FloatArray | None:
        read = read_numbers(texts, self._missing_numbers, maybe_whole=self.whole)
        self.whole &= read.whole
        if read.bad is not None and self.declared is ColumnType.NUMERIC:
            raise TrainingError(
                f"{at(read.bad)}: column {self.name!r}: {texts[read.bad]!r} is not a number; correct it, count it as "
                f"missing (--missing {texts[read.bad]}), or declare the column (--type {self.name}=categorical)"
            )
        if self.declared is not ColumnType.NUMERIC and (read.bad is not None or read.code is not None):
            self._not_numbers(texts, read, at)
            return None
        if self.numbers:
            self._spill("numbers", read.values)
        return read.values

    def _not_numbers(self, texts: AnyArray, read: Numbers, at: Callable[[int], str]) -> None:
        """A value that numbers cannot hold: the column is one of words from the start, if those are still known."""
        if read.huge and self._keeps_words:
            self._most_words = MAX_DECLARED_WORDS
        self._countable = False
        if self.numbers and not self._keeps_words:
            row = read.code if read.bad is None else read.bad
            assert row is not None, "one of the two is why we are here"
            what = "is no number" if read.bad is not None else "is a code that numbers cannot hold"
            raise TrainingError(
                f"{at(row)}: column {self.name!r}: {str(texts[row])!r} {what}, where all before it were numbers; "
                f"correct it, count it as missing (--missing {texts[row]}), or say what the column is "
                f"(--type {self.name}=categorical, --type {self.name}=text or --ignore {self.name})"
            )
        self.numbers = False

    def _add_typed(self, cells: Cells, at: Callable[[int], str]) -> AnyArray:
        values = cells.values
        self.dtypes.add(values.dtype.name)
        self.whole &= values.dtype.kind in "iu"
        numbers = values.astype(np.float64)
        if cells.null is not None:
            numbers[cells.null] = np.nan
        if values.dtype.kind in "iu" and self._countable:
            beyond = np.flatnonzero((values >= SAFE_INTEGER) | (values <= -SAFE_INTEGER))
            if beyond.size:
                self._not_numbers(values, Numbers(values=numbers, code=int(beyond[0]), huge=True), at)
        if self.numbers:
            self._spill("numbers", numbers)
            if not self._keeps_words or values.dtype.kind == "f":
                if self._keeps_words:
                    self._forget_words()
                return numbers
        if not self._keeps_words:
            raise TrainingError(
                f"{at(0)}: column {self.name!r} holds {values.dtype} values where text is expected"
            )
        codes, found = pd.factorize(values)
        codes[np.isnan(numbers)] = -1
        words = [canonical_text(self.name, value) for value in found.tolist()]
        self._code(codes, words)
        return numbers if self.numbers else np.array([*words, None], dtype=object)[codes]

    def _code(self, codes: AnyArray, found: list[str]) -> None:
        """Append `codes` [n] into `found`, as codes into the column's own dictionary."""
        present = [text for text in found if text not in self._missing_words]
        if len(self._index.keys() | present) > self._most_words:
            self._forget_words()
            return
        for text in present:
            self._index.setdefault(text, len(self._index))
        table = np.array([*(self._index.get(text, -1) for text in found), -1], dtype=np.int32)
        self._spill("codes", table[codes])

    def _forget_words(self) -> None:
        """Too many distinct values to be categories: text from here on, unless they are numbers."""
        if not self.numbers:
            coded = self._length_of_codes()
            if coded is not None:
                for part in coded:
                    self._spill("lengths", part)
        self._keeps_words = False
        self._index = {}

    def _length_of_codes(self) -> Iterator[FloatArray] | None:
        file = self._files.get("codes")
        if file is None:
            return None
        file.flush()
        codes = np.memmap(file.name, dtype=np.int32, mode="r")
        table = np.array([*map(len, self._index), np.nan])
        return (table[codes[start : start + 1_000_000]] for start in range(0, codes.size, 1_000_000))

    def _spill(self, name: str, values: AnyArray) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self._directory / f"{self._number}.{name}").open("wb")
        file.write(np.ascontiguousarray(values).tobytes())


@contextmanager
def closing(spools: Collection[Closable]) -> Iterator[None]:
    """Close every spool at the end, whatever the end is."""
    try:
        yield
    finally:
        for spool in spools:
            spool.close()
