"""Counts as text: every digit of every number, column by column."""

import gzip
import json

import numpy as np
import pytest

from driftd_sidecar._cells import CategoryCells, Cells
from driftd_sidecar._count import Pane
from driftd_sidecar._counted import encode_counts
from driftd_sidecar._wire import Envelope, Told

ENVELOPE = Envelope(
    id="b",
    model_version="1",
    sent_at_ns=1_767_225_600 * 10**9,
    books=Told(kept=1, dropped=0, sample_rate=1.0),
)


def cells(*sizes: int) -> Cells:
    """Categorical columns of so many slots."""
    columns = tuple(
        CategoryCells(
            name=f'"ü{number}"', role="feature", offsets={}, known=size - 3, unknown=size - 2,
            start=sum(sizes[:number]),
        )
        for number, size in enumerate(sizes)
    )  # fmt: skip
    return Cells(
        fingerprint="f", pane_seconds=60, columns=columns, feeds={}, confidence=None, segment_keys=(), length=sum(sizes)
    )  # fmt: skip


def written(on: Cells, slots: list[int], counts: list[int]) -> list[dict[str, object]]:
    pane = Pane(
        segment="", start=0, rows=1, seen=1, first_ns=0, last_ns=0, hours={},
        slots=np.array(slots, np.int64), counts=np.array(counts, np.int64), moments=np.zeros((len(on.columns), 3)),
    )  # fmt: skip
    (found,) = json.loads(gzip.decompress(encode_counts(on, [pane], ENVELOPE)))["panes"]
    columns: list[dict[str, object]] = found["columns"]
    return columns


@pytest.mark.parametrize(
    "counts", [[1], [9, 10, 11], [99, 100, 1], [1, 10**15, 999_999, 1_000_000, 2**63 - 1], [7] * 300]
)
def test_counts_of_any_length_are_written_digit_by_digit(counts: list[int]) -> None:
    size = len(counts) + 3
    (column,) = written(cells(size), list(range(len(counts))), counts)
    assert column == {"name": '"ü0"', "gaps": [0] + [1] * (len(counts) - 1), "counts": counts}


def test_gaps_begin_anew_with_each_column_and_an_empty_one_has_none() -> None:
    first, second, third = written(cells(2000, 10, 300), [5, 17, 1999, 2010, 2309], [1, 2, 3, 4, 5])
    assert (first["gaps"], first["counts"]) == ([5, 12, 1982], [1, 2, 3])
    assert (second["gaps"], second["counts"]) == ([], [])
    assert (third["gaps"], third["counts"]) == ([0, 299], [4, 5])
