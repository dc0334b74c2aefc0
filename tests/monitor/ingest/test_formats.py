"""Each format, the same values, one frame; and what each refuses."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest.errors import MalformedError, UnprocessableError
from tests.monitor.ingest.bodies import (
    GOOD,
    PENDING,
    columns_body,
    features,
    frame_of,
    matrix,
    oip_binary_body,
    oip_json_body,
    rows_body,
    take,
)

_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
_text = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
_row = st.fixed_dictionaries(
    {
        "amount": st.none() | _float32,
        "age": st.none() | st.integers(-(2**53), 2**53),
        "vip": st.none() | st.booleans(),
        "city": st.none() | _text,
        "note": st.none() | _text,
        "prediction": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "confidence": st.none() | st.floats(0, 1, width=32),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_row, min_size=1, max_size=6))
def test_the_same_values_make_the_same_frame_in_all_four_formats(rows: list[dict[str, Any]]) -> None:
    body, header = oip_binary_body(rows)
    frames = [
        frame_of(outcome)
        for outcome in (
            take(rows_body(rows)),
            take(columns_body(rows)),
            take(oip_json_body(rows)),
            take(body, header),
        )
    ]
    expected = {
        "amount": [row["amount"] for row in rows],
        "age": [row["age"] for row in rows],
        "vip": [row["vip"] for row in rows],
        "city": [row["city"] or None for row in rows],
        "note": [row["note"] for row in rows],
        "score": [row["prediction"] for row in rows],
        "sure": [row["confidence"] for row in rows],
    }
    for found in frames:
        assert found == expected


def test_pending_rows_are_kept_and_make_the_same_frame_once_their_baseline_is_known() -> None:
    rows = [GOOD, dict(GOOD) | {"vip": None, "age": None, "city": None, "amount": None}]
    for body in (rows_body(rows, model_version="4"), columns_body(rows, model_version="4")):
        assert frame_of(take(body, version=PENDING)) == frame_of(take(rows_body(rows)))


MALFORMED: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("an array", b"[]"),
    ("brackets without end", b"[" * 100_000),
    ("no JSON", b"hello"),
    ("byte order mark", b"\xef\xbb\xbf" + rows_body([GOOD])),
    ("UTF-16", rows_body([GOOD]).decode().encode("utf-16")),
    ("invalid UTF-8", rows_body([GOOD]).replace(b"Oslo", b"Osl\xff")),
    ("NaN", rows_body([GOOD]).replace(b"101.5", b"NaN")),
    ("Infinity", rows_body([GOOD]).replace(b"101.5", b"Infinity")),
    ("NaN in a column", columns_body([GOOD]).replace(b"101.5", b"-Infinity")),
    ("raw control character", rows_body([GOOD]).replace(b"Oslo", b"Os\nlo")),
    ("trailing comma", rows_body([GOOD]).replace(b"101.5,", b"101.5,,")),
    ("trailing bytes", rows_body([GOOD]) + b" x"),
    ("deep nesting", b'{"model_version":"3","rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("deep nesting in a feature", rows_body([GOOD]).replace(b"101.5", b"[" * 50_000 + b"]" * 50_000)),
    ("deep parameters", rows_body([GOOD], parameters=0).replace(b': 0}', b": " + b"[" * 30_000 + b"]" * 30_000 + b"}")),
    ("duplicate feature", rows_body([GOOD]).replace(b'"age": 44', b'"age": 44, "amount": 1.0')),
    ("duplicate feature, spaced", rows_body([GOOD]).replace(b'"age": 44', b'"age": 44, "amount" \n : 1.0')),
    ("duplicate feature, escaped", rows_body([GOOD]).replace(b'"age": 44', b'"age": 44, "\\u0061mount": 1.0')),
    ("duplicate beside escapes", rows_body([GOOD]).replace(b'"Oslo"', b'"\\\\\\"Os:lo\\\\", "age": 3')),
    ("duplicate row key", rows_body([GOOD]).replace(b'"prediction"', b'"ts": 1, "ts": 2, "prediction"')),
    ("duplicate top key", rows_body([GOOD]).replace(b"{", b'{"model_version": "2", ', 1)),
    ("duplicate tag", rows_body([GOOD]).replace(b'"prediction"', b'"tags": {"a": "1", "a": "2"}, "prediction"')),
    ("duplicate parameter", rows_body([GOOD], parameters={"a": 1}).replace(b'"a": 1', b'"a": 1, "a": 2')),
    ("duplicate column", columns_body([GOOD]).replace(b'"age"', b'"city": ["x"], "age"')),
    ("duplicate beside a bad row", rows_body([GOOD, GOOD]).replace(b"44", b'"x", "age": 44', 1)),
    ("duplicate tensor key", oip_json_body([GOOD]).replace(b'"FP64"', b'"FP64", "datatype": "FP64"', 1)),
    ("binary size in JSON", json.dumps({"model_version": "3", "inputs": [matrix([[1.0]])[0]]}).encode()),
]  # fmt: skip


@pytest.mark.parametrize(("_", "body"), MALFORMED, ids=[name for name, _ in MALFORMED])
def test_malformed_bodies_are_refused_whole(_: str, body: bytes) -> None:
    with pytest.raises(MalformedError):
        take(body)


def test_a_duplicate_key_is_named() -> None:
    body = rows_body([GOOD]).replace(b'"age": 44', b'"age": 44, "amount": 1.0')
    with pytest.raises(MalformedError, match="'amount' occurs twice"):
        take(body)


@pytest.mark.parametrize(
    "city", ['a":b', ":", '\\":', "\\\\", '"', "a:b", "\n", '","age":3,"', "\\u0041"], ids=range(9)
)
def test_keys_are_not_miscounted_whatever_strings_hold(city: str) -> None:
    for indent in (None, 2):
        body = json.dumps(json.loads(rows_body([dict(GOOD) | {"city": city}])), indent=indent).encode()
        assert take(body).accepted == 1


BAD_CELLS: list[tuple[str, str, str, bytes, str]] = [
    # name, column, what stands there in a good row, what stands there now, what the detail says
    ("text in a number", "amount", "101.5", b'"x"', "expected a number or null, got text"),
    ("boolean in a number", "amount", "101.5", b"true", "got a boolean"),
    ("1e999", "amount", "101.5", b"1e999", "1e999 is out of range"),
    ("-1e999", "amount", "101.5", b"-1e999", "-1e999 is out of range"),
    ("5000 digits", "amount", "101.5", b"9" * 5000, "5000 characters"),
    ("309 digits", "amount", "101.5", b"9" * 330, "beyond any float"),
    ("list", "amount", "101.5", b"[1]", "flatten"),
    ("object", "amount", "101.5", b'{"a": 1}', "flatten"),
    ("2^63", "age", "44", str(2**63).encode(), "does not fit 64 bits"),
    ("-2^63 - 1", "age", "44", str(-(2**63) - 1).encode(), "does not fit 64 bits"),
    ("5000 digits in an integer", "age", "44", b"1" * 5000, "out of range"),
    ("number in a category", "city", '"Oslo"', b"7", "expected text or null"),
    ("NUL", "city", '"Oslo"', b'"a\\u0000b"', "NUL or a lone surrogate"),
    ("lone high surrogate", "city", '"Oslo"', b'"\\ud800"', "NUL or a lone surrogate"),
    ("lone low surrogate", "city", '"Oslo"', b'"a\\uDC00\\u0041"', "NUL or a lone surrogate"),
    ("high before high", "note", '"hello"', b'"\\ud83d\\ud83d\\ude00"', "NUL or a lone surrogate"),
    ("number in text", "note", '"hello"', b"5", "expected text or null"),
    ("two in a boolean", "vip", "true", b"2", "expected true, false, 0, 1 or null"),
    ("text in a boolean", "vip", "true", b'"yes"', "got text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("_", "column", "old", "new", "said"), BAD_CELLS, ids=[case[0] for case in BAD_CELLS]
)
def test_a_bad_cell_costs_its_row_and_is_named(_: str, column: str, old: str, new: bytes, said: str) -> None:
    row_wise = rows_body([GOOD, GOOD, GOOD]).split(b'"features"')
    row_wise[2] = row_wise[2].replace(old.encode(), new, 1)
    outcome = take(b'"features"'.join(row_wise))
    assert (outcome.accepted, outcome.rejected) == (2, 1)
    assert [issue.pointer for issue in outcome.errors] == [f"/rows/1/features/{column}"]
    assert said in outcome.errors[0].detail
    assert frame_of(outcome) == frame_of(take(rows_body([GOOD, GOOD])))

    body = columns_body([GOOD, GOOD, GOOD])
    triple = b", ".join([old.encode()] * 3)
    assert triple in body
    outcome = take(body.replace(triple, b", ".join([old.encode(), new, old.encode()]), 1))
    assert (outcome.accepted, outcome.rejected) == (2, 1)
    assert [issue.pointer for issue in outcome.errors] == [f"/columns/{column}/1"]
    assert said in outcome.errors[0].detail
    assert frame_of(outcome) == frame_of(take(columns_body([GOOD, GOOD])))


def test_integers_beyond_64_bits_are_numbers_in_a_float_column() -> None:
    outcome = take(rows_body([dict(GOOD) | {"amount": 2**63}, dict(GOOD) | {"amount": 10**20}]))
    assert frame_of(outcome)["amount"] == [float(np.float32(2**63)), float(np.float32(10**20))]


def test_an_escaped_pair_is_one_character_and_an_escaped_backslash_no_escape() -> None:
    body = rows_body([GOOD]).replace(b'"Oslo"', b'"\\ud83d\\ude00 \\\\ud800"')
    assert frame_of(take(body))["city"] == ["\U0001f600 \\ud800"]


def test_at_most_100_errors_are_listed() -> None:
    outcome = take(rows_body([dict(GOOD) | {"amount": "x"}] * 150 + [GOOD]))
    assert (outcome.accepted, outcome.rejected, len(outcome.errors)) == (1, 150, 100)


def test_a_missing_column_rejects_its_row_and_an_unknown_one_is_a_warning() -> None:
    without = {name: value for name, value in features().items() if name != "age"}
    body = {"model_version": "3", "rows": [{"features": features(extra=1)}, {"features": without}]}
    outcome = take(json.dumps(body).encode())
    assert [(e.pointer, e.detail[:30]) for e in outcome.errors] == [
        ("/rows/1/features/age", "the column 'age' is missing; s")
    ]
    assert "/rows/0/features/extra" in [warning.pointer for warning in outcome.warnings]
    assert outcome.accepted == 1


ROW_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"features": 3}, "/rows/1/features"),
    ({}, "/rows/1/features"),
    ({"features": features(), "featuers": 1}, "/rows/1/featuers"),
    ({"features": features(), "ts": 1.5}, "/rows/1/ts"),
    ({"features": features(), "ts": True}, "/rows/1/ts"),
    ({"features": features(), "ts": "2026-03-01T11:00:00"}, "/rows/1/ts"),
    ({"features": features(), "ts": "yesterday"}, "/rows/1/ts"),
    ({"features": features(), "ts": 1772366400}, "/rows/1/ts"),
    ({"features": features(), "ts": "9999-12-31T23:59:59Z"}, "/rows/1/ts"),
    ({"features": features(), "ts": "0001-01-01T00:00:00+14:00"}, "/rows/1/ts"),
    ({"features": features(), "ts": "2036-03-01T11:00:00Z"}, "/rows/1/ts"),
    ({"features": features(), "id": 5}, "/rows/1/id"),
    ({"features": features(), "id": "a\x00"}, "/rows/1/id"),
    ({"features": features(), "tags": {"region": 3}}, "/rows/1/tags/region"),
    ({"features": features(), "tags": ["eu"]}, "/rows/1/tags"),
    ({"features": features(), "confidence": "high"}, "/rows/1/confidence"),
    ({"features": features(), "prediction": [1]}, "/rows/1/prediction"),
]


@pytest.mark.parametrize(("row", "pointer"), ROW_FAULTS)
def test_a_bad_row_is_named_and_its_neighbours_kept(row: dict[str, Any], pointer: str) -> None:
    good = {"features": features(), "ts": "2026-03-01T11:59:00Z"}
    outcome = take(json.dumps({"model_version": "3", "rows": [good, row, good]}).encode())
    assert (outcome.accepted, outcome.rejected) == (2, 1)
    assert outcome.errors[0].pointer == pointer


UNPROCESSABLE: list[tuple[str, bytes, str]] = [
    ("no version", b'{"rows": []}', "/model_version"),
    ("version is a number", b'{"model_version": 3, "rows": []}', "/model_version"),
    ("version is NUL", b'{"model_version": "\\u0000", "rows": []}', "/model_version"),
    ("version is a surrogate", b'{"model_version": "\\udfff", "rows": []}', "/model_version"),
    ("unknown key", b'{"model_version": "3", "rows": [], "colour": 1}', "/colour"),
    ("no format", b'{"model_version": "3"}', ""),
    ("two formats", b'{"model_version": "3", "rows": [], "columns": {}}', ""),
    ("keys of another format", b'{"model_version": "3", "rows": [], "ts": 1}', "/ts"),
    ("no rows", b'{"model_version": "3", "rows": []}', "/rows"),
    ("rows are an object", b'{"model_version": "3", "rows": {}}', "/rows"),
    ("reserved id", rows_body([GOOD], id="anon-1"), "/id"),
    ("empty id", rows_body([GOOD], id=""), "/id"),
    ("id with NUL", rows_body([GOOD], id="a\x00"), "/id"),
    ("sample rate 0", rows_body([GOOD], parameters={"sample_rate": 0}), "/parameters/sample_rate"),
    ("negative count", rows_body([GOOD], parameters={"dropped": -1}), "/parameters/dropped"),
    ("newer envelope", rows_body([GOOD], parameters={"driftd": 2}), "/parameters/driftd"),
    ("naive batch time", rows_body([GOOD], parameters={"ts": "2026-03-01T11:00:00"}), "/parameters/ts"),
    ("naive batch time of columns", columns_body([GOOD], ts="2026-03-01T11:00:00"), "/ts"),
    ("times of another length", columns_body([GOOD], ts=[1, 2]), "/ts"),
    ("ids of another length", columns_body([GOOD], ids=["a", "b"]), "/ids"),
    ("column of another length", columns_body([GOOD]).replace(b"[44]", b"[44, 45]"), "/columns/age"),
    ("column is no array", columns_body([GOOD]).replace(b"[44]", b"44"), "/columns/age"),
    ("missing column", columns_body([GOOD]).replace(b'"age"', b'"ages"'), "/columns/age"),
    ("missing tensor", oip_json_body([GOOD]).replace(b'"age"', b'"ages"'), "/inputs/age"),
    ("tensor of another length", oip_json_body([GOOD]).replace(b'"shape": [1]', b'"shape": [2]', 1), "/inputs/1/shape"),
    ("shape against data", oip_json_body([GOOD]).replace(b'"data": [44]', b'"data": [44, 45]'), "/inputs/1/data"),
    ("unknown datatype", oip_json_body([GOOD]).replace(b'"FP64"', b'"BF16"', 1), "/inputs/1/datatype"),
    ("text for a number", oip_json_body([GOOD]).replace(b'"FP32"', b'"BYTES"', 1).replace(b"101.5", b'"a"'), "/inputs/0/datatype"),
    ("number for text", oip_json_body([GOOD]).replace(b'"BYTES"', b'"FP32"').replace(b'"Oslo"', b"1").replace(b'"hello"', b"1"), "/inputs/4/datatype"),
    ("cuts not representable", oip_json_body([GOOD]).replace(b'"FP32"', b'"FP16"', 1), "/inputs/0/datatype"),
    ("same name twice", oip_json_body([GOOD]).replace(b'"age"', b'"amount"'), "/inputs/0"),
    ("no data", oip_json_body([GOOD]).replace(b', "data": [44]', b""), "/inputs/1"),
    ("ragged", oip_json_body([GOOD]).replace(b'"shape": [1], "data": [44]', b'"shape": [1, 2], "data": [[1], [2]]'), "/inputs/1/data"),
    ("empty shape", oip_json_body([GOOD]).replace(b'"shape": [1]', b'"shape": []', 1), "/inputs/0/shape"),
    ("zero rows", oip_json_body([GOOD]).replace(b'"shape": [1]', b'"shape": [0]', 1), "/inputs/0/shape"),
    ("2^40 empty rows", oip_json_body([GOOD]).replace(b'"shape": [1]', b'"shape": [1099511627776, 0]', 1), "/inputs/0/shape"),
]  # fmt: skip


@pytest.mark.parametrize(("_", "body", "pointer"), UNPROCESSABLE, ids=[case[0] for case in UNPROCESSABLE])
def test_batches_that_fit_no_model_are_refused_with_a_pointer(_: str, body: bytes, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        take(body)
    assert pointer in [issue.pointer for issue in caught.value.issues] or (
        pointer == "" and not caught.value.issues
    )
