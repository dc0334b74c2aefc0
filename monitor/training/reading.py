"""Training files as chunks of columns: CSV (plain, gzip, zstd and what else pandas unpacks) and Parquet.

Text stays text here: pandas would guess a type per chunk, lose the zeros of "00501" and take the country code
"NA" for a missing value. What a column is can only be said when all of it has been seen.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monitor.training.options import TrainingError

AnyArray = npt.NDArray[Any]
_PARQUET = (".parquet", ".pq")
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks a second of Arrow's timestamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One column of a chunk: `values` [n] of text (object, None where null), or typed (float, int, bool).

    `null` [n] marks the nulls of integers and booleans, whose `values` are 0 there; None where there are none.
    `times` says that the values are epoch seconds.
    """

    values: AnyArray
    null: npt.NDArray[np.bool_] | None = None
    times: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive rows of a file; `first_row` counts from 1, the header aside."""

    path: Path
    first_row: int
    rows: int
    columns: Mapping[str, Cells]


def column_names(path: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The columns of a file, in its order; raises TrainingError, also for a name that stands twice."""
    names = _parquet_names(path) if path.suffix.lower() in _PARQUET else _csv_names(path, delimiter)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrainingError(f"{path}: the column {twice[0]!r} stands there twice; rename one")
    if "" in names:
        raise TrainingError(f"{path}: column {names.index('') + 1} has no name; name it in the header")
    return names


def read_chunks(
    path: Path, names: Sequence[str], delimiter: str, rows_per_chunk: int, *, time: str | None = None
) -> Iterator[Chunk]:
    """The columns `names` of a file, and the one of times, `rows_per_chunk` rows at a time; raises TrainingError."""
    if path.suffix.lower() in _PARQUET:
        yield from _parquet_chunks(path, names, rows_per_chunk, time)
    else:
        yield from _csv_chunks(path, [*names, time] if time is not None else names, delimiter, rows_per_chunk)


def _csv_names(path: Path, delimiter: str) -> tuple[str, ...]:
    try:
        # header=None: as a header, pandas would rename the second "a" to "a.1".
        head = pd.read_csv(
            path,
            header=None,
            nrows=1,
            dtype=object,
            keep_default_na=False,
            sep=delimiter,
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        raise TrainingError(f"{path}: the file is empty; its first line should name the columns") from None
    except (OSError, UnicodeError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}: {_plain(error)}") from None
    except Exception as error:
        raise _damaged(path, error) from None
    return tuple(str(name).strip() for name in head.iloc[0])


def _csv_chunks(path: Path, names: Sequence[str], delimiter: str, rows_per_chunk: int) -> Iterator[Chunk]:
    header = _csv_names(path, delimiter)
    first_row = 1
    try:
        with warnings.catch_warnings():
            # Rows that are all longer than the header only make pandas warn, and lose their last values; with
            # `usecols` it would not even count them, so every column is read.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(
                path,
                header=0,
                names=list(header),
                index_col=False,
                dtype=object,
                keep_default_na=False,
                na_filter=False,
                sep=delimiter,
                encoding="utf-8-sig",
                chunksize=rows_per_chunk,
            ) as reader:
                for frame in reader:
                    columns = {name: Cells(values=frame[name].to_numpy(dtype=object)) for name in names}
                    yield Chunk(path=path, first_row=first_row, rows=len(frame), columns=columns)
                    first_row += len(frame)
    except TrainingError:
        raise
    except pd.errors.ParserWarning:
        raise TrainingError(f"{path}: its rows have more values than its header has names") from None
    except (OSError, UnicodeError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}, after row {first_row - 1}: {_plain(error)}") from None
    except Exception as error:
        raise _damaged(path, error) from None


def _plain(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "not UTF-8 text"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.removeprefix("Error tokenizing data. C error: ").split())


def _damaged(path: Path, error: Exception) -> TrainingError:
    # zlib.error, zstandard.ZstdError and pyarrow's own share no base; anything else is a bug and is re-raised.
    if type(error).__module__.split(".")[0] in ("zlib", "zstandard", "lzma", "pyarrow"):
        return TrainingError(f"{path}: damaged, or not what its name says: {_plain(error)}")
    raise error


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise TrainingError(
            "Parquet files need pyarrow; install driftd[parquet], or convert them to CSV"
        ) from None
    return pyarrow.parquet


def _parquet_names(path: Path) -> tuple[str, ...]:
    parquet = _parquet()
    try:
        return tuple(parquet.read_schema(path).names)
    except OSError as error:
        raise TrainingError(f"{path}: {_plain(error)}") from None
    except Exception as error:
        raise _damaged(path, error) from None


def _parquet_chunks(
    path: Path, names: Sequence[str], rows_per_chunk: int, time: str | None
) -> Iterator[Chunk]:
    first_row = 1
    parquet = _parquet()
    wanted = [*names, time] if time is not None else list(names)
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows_per_chunk, columns=wanted):
                columns = {name: _arrow_cells(path, name, batch.column(name)) for name in names}
                if time is not None:
                    columns[time] = _arrow_times(path, time, batch.column(time), first_row)
                yield Chunk(path=path, first_row=first_row, rows=batch.num_rows, columns=columns)
                first_row += batch.num_rows
    except TrainingError:
        raise
    except OSError as error:
        raise TrainingError(f"{path}: {_plain(error)}") from None
    except Exception as error:
        raise _damaged(path, error) from None


def _arrow_cells(path: Path, name: str, array: Any) -> Cells:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
        kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        # Nulls would turn the whole array into floats, and ids beyond 2^53 into other ids.
        null = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        values = array.fill_null(False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
        return Cells(values=values, null=null if null.any() else None)
    if pa.types.is_floating(kind):
        return Cells(values=array.to_numpy(zero_copy_only=False))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return Cells(values=np.array(array.to_pylist(), dtype=object))
    raise TrainingError(
        f"{path}: column {name!r} is {kind}, which is not tabular data; leave it out with --ignore {name}"
    )


def _arrow_times(path: Path, name: str, array: Any, first_row: int) -> Cells:
    """Timestamps as whole epoch seconds; text as it stands."""
    import pyarrow as pa

    if not pa.types.is_timestamp(array.type):
        return _arrow_cells(path, name, array)
    if array.type.tz is None:
        raise TrainingError(
            f"{path}, row {first_row}: time column {name!r}: its timestamps have no zone, so they name no instant; write "
            "them as UTC"
        )
    null = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
    ticks = array.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    seconds = ticks // _TICKS[array.type.unit]
    return Cells(values=seconds, null=null if null.any() else None, times=True)
