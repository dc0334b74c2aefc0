"""Arrays of numbers taken out of JSON: the same batches, and the same words, as reading the text whole."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest import lifting
from monitor.ingest.accept import accept
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import open_body, untyped
from monitor.ingest.errors import IngestError
from monitor.ingest.lifting import LEAST_BYTES, MOST_BYTES, lift, numbers
from monitor.ingest.times import TimeLimits
from tests.monitor.ingest.bodies import GOOD, NOW, VERSION, columns_body, oip_json_body, rows_body

LIMITS = DecodeLimits()
ROWS = 600
COLUMNS = columns_body([GOOD] * ROWS)
TENSORS = oip_json_body([GOOD] * ROWS)

LONG = json.dumps([1.5] * LEAST_BYTES)

finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(finite | whole, min_size=1))
@settings(deadline=None)
def test_numbers_are_what_the_standard_library_reads(values: list[float]) -> None:
    text = json.dumps(values)
    read = numbers(text.encode())
    assert read is not None
    expected = np.array([float(value) for value in json.loads(text)])
    assert read.tobytes() == expected.tobytes()


@given(st.integers(1, 9), st.integers(1, 9), st.data())
@settings(deadline=None)
def test_a_table_of_numbers_is_read_row_by_row(rows: int, width: int, data: st.DataObject) -> None:
    table = data.draw(
        st.lists(st.lists(finite, min_size=width, max_size=width), min_size=rows, max_size=rows)
    )
    text = json.dumps(table).encode()
    read = numbers(text, rows)
    assert read is not None
    assert read.tolist() == [value for row in table for value in row]
    assert numbers(text) is None
    assert numbers(text, rows + 1) is None


@pytest.mark.parametrize(
    "text",
    [
        "[1, null]",
        "[1, true]",
        '[1, "2"]',
        "[1, [2]]",
        "[1, {}]",
        "[1, 1e999]",
        "[NaN]",
        "[1,]",
        "[1",
        "[01]",
        "[.5]",
        "[1] 2",
        "[[1, 2], [3]]",
        "[[1, 2], 3]",
        "[[[1, 2], []], [3, 4]]",
        '{"a": 1}',
        "1",
        "",
    ],
)
def test_what_is_more_or_less_than_numbers_is_left_to_others(text: str) -> None:
    assert numbers(text.encode(), 2) is None


def test_only_long_arrays_of_what_look_like_numbers_are_lifted() -> None:
    long = ", ".join(["1.5"] * LEAST_BYTES)
    assert lift(b'{"a": [1, 2]}' + b" " * LEAST_BYTES) is None
    assert lift(f'{{"a": ["{long}"]}}'.encode()) is None
    assert lift(f'{{"a\\n": [{long}]}}'.encode()) is None
    huge = b"[" + b"1," * MOST_BYTES + b"1]"
    assert lift(b'{"a": %s}' % huge) is None
    lifted = lift(f'{{"a": [{long}], "b": [1], "c": [[{long}], [{long}]]}}'.encode())
    assert lifted is not None
    rest = json.loads(lifted.text)
    assert rest["b"] == [1]
    for name, array in (("a", f"[{long}]"), ("c", f"[[{long}], [{long}]]")):
        assert lifted.array(json.dumps(rest[name]).encode()) == array.encode()
    assert lifted.array(b"[1]") is None


def outcome(body: bytes, *, whole: bool) -> Any:
    """What becomes of a body, or in which words it is refused."""
    try:
        opened = open_body(body, None, LIMITS)
        if whole and opened.lifted is not None:
            opened = untyped(opened)
        decoded = decode_body(opened, VERSION.baseline)
        taken = accept(decoded, VERSION, NOW, None, TimeLimits())
    except IngestError as error:
        return type(error), str(error), error.issues
    batch = taken.batch
    if batch is None:
        return taken
    return (
        replace(taken, batch=None),
        batch.id,
        batch.parameters,
        [(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in batch.tensors],
    )


SPOILT = {
    "as it is": lambda text: text,
    "a null": lambda text: text.replace("101.5", "null", 1),
    "text in place of a number": lambda text: text.replace("101.5", '"x"', 1),
    "a number beyond all": lambda text: text.replace("101.5", "1e999", 1),
    "an object": lambda text: text.replace("101.5", '{"a": 1, "b": 2}', 1),
    "a key twice in it": lambda text: text.replace("101.5", '{"a": 1, "a": 2}', 1),
    "one value less": lambda text: text.replace("101.5,", "", 1),
    "a comma too many": lambda text: text.replace("101.5,", "101.5,,", 1),
    "a bracket inside": lambda text: text.replace("101.5,", "101.5],", 1),
    "cut short": lambda text: text[: len(text) // 2],
    "a key twice": lambda text: text[:-1] + ', "model_version": "3"}',
    "an unknown key": lambda text: text[:-1] + ', "color": 1}',
    "an array for a name": lambda text: text.replace('"model_version": "3"', f'"model_version": {LONG}'),
    "an array for an id": lambda text: text[:-1] + f', "id": {LONG}}}',
    "an array for the model": lambda text: text[:-1] + f', "model_name": {LONG}}}',
    "an array among parameters": lambda text: text[:-1] + f', "parameters": {{"a": {LONG}, "b": 2}}}}',
    "an array for parameters": lambda text: text[:-1] + f', "parameters": {LONG}}}',
    "an array in place of a number": lambda text: text.replace("101.5", LONG, 1),
    "an array in place of a text": lambda text: text.replace('"Oslo"', LONG, 1),
    "an array in an object": lambda text: text.replace('"Oslo"', f'{{"a": {LONG}}}', 1),
    "numbers for texts": lambda text: text.replace('"hello"', "101.5"),
    "an array for a datatype": lambda text: text.replace('"FP32"', LONG, 1),
    "whole numbers": lambda text: text.replace("101.5", "7"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("body", [COLUMNS, TENSORS], ids=["columns", "tensors"])
def test_a_body_is_taken_or_refused_as_if_it_had_been_read_whole(
    body: bytes, spoilt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = SPOILT[spoilt](body.decode()).encode()
    if spoilt == "as it is":
        opened = open_body(body, None, LIMITS)
        assert opened.lifted is not None
        assert len(opened.lifted.arrays) >= 1
    found = outcome(sent, whole=False)
    assert found == outcome(sent, whole=True)
    monkeypatch.setattr(lifting, "LEAST_BYTES", math.inf)
    assert found == outcome(sent, whole=False)


def test_rows_are_never_made_of_marks() -> None:
    body = rows_body([GOOD, dict(GOOD) | {"amount": [1.5] * LEAST_BYTES}])
    assert lift(body) is not None
    taken = outcome(body, whole=False)
    assert (taken[0].accepted, taken[0].rejected) == (1, 1)
    assert "flatten what is nested" in taken[0].errors[0].detail
