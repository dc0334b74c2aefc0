"""Arrow IPC bodies, written by pyarrow: the same frame as the other formats, and nothing taken on trust."""

import contextlib
import struct
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.profile import TensorMap
from monitor.ingest.accept import Accepted, accept
from monitor.ingest.arrow import open_arrow
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.errors import (
    IngestError,
    MalformedError,
    TooLargeError,
    UnprocessableError,
    UnsupportedError,
)
from monitor.ingest.schema import VersionHandle
from monitor.ingest.times import TimeLimits
from tests.monitor.ingest.bodies import GOOD, NOW, PENDING, VERSION, baseline, frame_of, rows_body, take

TYPES: Mapping[str, pa.DataType] = {
    "amount": pa.float32(),
    "age": pa.int64(),
    "vip": pa.bool_(),
    "city": pa.dictionary(pa.int8(), pa.string()),
    "note": pa.string(),
    "prediction": pa.float64(),
    "confidence": pa.float32(),
}
MIB = 2**20


def table(rows: Sequence[Mapping[str, Any]], **more: pa.Array) -> pa.Table:
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    return pa.table(columns | more).replace_schema_metadata({"driftd.model_version": "3"})


def stream(tab: pa.Table, *, file: bool = False, compression: str | None = None, chunk: int = 2**30) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    with make(sink, tab.schema, options=options) as writer:
        writer.write_table(tab, max_chunksize=chunk)
    return bytes(sink.getvalue())


def take_arrow(
    body: bytes,
    *,
    file: bool = False,
    version: VersionHandle = VERSION,
    header: str | None = None,
    limit: int = 64 * MIB,
) -> Accepted:
    opened = open_arrow(body, is_file=file, version=header, limits=DecodeLimits(), bytes_limit=limit)
    return accept(decode_body(opened, version.baseline), version, NOW, None, TimeLimits())


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


@settings(max_examples=60)
@given(
    st.lists(_row, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([None, "lz4", "zstd"]),
    st.integers(1, 6),
)
def test_an_arrow_table_makes_the_frame_that_row_json_makes(
    rows: list[dict[str, Any]], file: bool, compression: str | None, chunk: int
) -> None:
    body = stream(table(rows), file=file, compression=compression, chunk=chunk)
    assert frame_of(take_arrow(body, file=file)) == frame_of(take(rows_body(rows)))


def test_wide_and_narrow_types_are_what_they_say() -> None:
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint64(), pa.float64(), pa.float16()):
        narrow = table([GOOD]).set_column(1, "age", pa.array([44], pa.float64()).cast(kind))
        assert frame_of(take_arrow(stream(narrow)))["age"] == [44]
    city = pa.array(["Oslo"], pa.large_string())
    assert frame_of(take_arrow(stream(table([GOOD]).set_column(3, "city", city))))["city"] == ["Oslo"]


def test_dictionary_text_with_nulls_in_words_and_in_rows() -> None:
    indices = pa.array([1, None, 0, 2], pa.int16())
    city = pa.DictionaryArray.from_arrays(indices, pa.array(["Oslo", "Rome", None]))
    tab = table([GOOD] * 4).set_column(3, "city", city)
    assert frame_of(take_arrow(stream(tab)))["city"] == ["Rome", None, "Oslo", None]


def test_a_slice_of_a_table_is_its_rows_alone() -> None:
    tab = table([dict(GOOD) | {"note": str(i)} for i in range(5)]).slice(2, 2)
    assert frame_of(take_arrow(stream(tab)))["note"] == ["2", "3"]


def test_integers_beyond_floats_with_nulls_stay_exact_where_they_name_things() -> None:
    ids = pa.array([2**60 + 1, None], pa.int64())
    outcome = take_arrow(stream(table([GOOD] * 2, extra=ids)), version=PENDING)
    assert outcome.batch is not None
    extra = next(tensor for tensor in outcome.batch.tensors if tensor.name == "extra")
    assert extra.texts() == [str(2**60 + 1), None]


def test_columns_of_nulls_are_missing() -> None:
    tab = table([GOOD] * 2)
    for position, name in enumerate(("amount", "age", "vip", "city", "note")):
        tab = tab.set_column(position, name, pa.nulls(2))
    found = frame_of(take_arrow(stream(tab)))
    assert [found[name] for name in ("amount", "age", "vip", "city", "note")] == [[None, None]] * 5


def test_a_list_of_numbers_is_a_tensor_of_columns() -> None:
    base = baseline(tensors=(TensorMap(name="x", datatype="FP32", kind="input", columns=("amount", "age")),))
    version = VersionHandle(version_id=1, version="3", baseline=base)
    kind = pa.list_(pa.float32(), 2)
    wide = pa.array([[1.5, 20.0], [2.5, None]], kind)
    tab = table([GOOD] * 2).drop_columns(["amount", "age"]).append_column("x", wide)
    found = frame_of(take_arrow(stream(tab), version=version), base)
    assert (found["amount"], found["age"]) == ([1.5, 2.5], [20.0, None])
    with pytest.raises(UnprocessableError, match="a list is null"):
        take_arrow(
            stream(tab.set_column(tab.num_columns - 1, "x", pa.array([[1.0, 2.0], None], kind))),
            version=version,
        )


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_are_nanoseconds_utc(unit: str) -> None:
    second = (NOW - 60 * 10**9) // 10**9
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    stamps = pa.array([second * scale], pa.timestamp(unit, tz="Europe/Oslo"))
    outcome = take_arrow(stream(table([GOOD], **{"driftd.ts": stamps})))
    assert outcome.batch is not None
    assert outcome.batch.times_ns.tolist() == [second * 10**9]


def test_bad_times_reject_their_row_and_naive_ones_the_batch() -> None:
    stamps = pa.array([NOW // 10**9, None, 2**62, NOW // 10**9 + 10**9], pa.timestamp("s", tz="UTC"))
    outcome = take_arrow(stream(table([GOOD] * 4, **{"driftd.ts": stamps})))
    assert (outcome.accepted, [error.pointer for error in outcome.errors]) == (
        1,
        ["/columns/driftd.ts/1", "/columns/driftd.ts/2", "/columns/driftd.ts/3"],
    )
    for naive in (
        pa.array([NOW // 10**9], pa.timestamp("s")),
        pa.array(["2026-03-01T11:00:00Z"]),
        pa.array([1.5]),
    ):
        with pytest.raises(UnprocessableError, match="zone"):
            take_arrow(stream(table([GOOD], **{"driftd.ts": naive})))


def test_ids_and_tags_travel_as_text() -> None:
    tags = pa.array(["eu", None]).dictionary_encode()
    more = {"driftd.id": pa.array(["a", "b"]), "driftd.tag.region": tags}
    outcome = take_arrow(stream(table([GOOD] * 2, **more)))
    assert outcome.batch is not None
    assert outcome.batch.row_ids is not None
    assert outcome.batch.row_ids.texts() == ["a", "b"]
    assert outcome.batch.tag_values("region") == ["eu", None]
    with pytest.raises(UnprocessableError, match="send string"):
        take_arrow(stream(table([GOOD], **{"driftd.id": pa.array([1])})))


def test_a_nul_costs_its_row_and_is_named() -> None:
    rows = [GOOD, dict(GOOD) | {"note": "a\x00b"}, dict(GOOD) | {"city": "\x00"}, GOOD]
    outcome = take_arrow(stream(table(rows)))
    assert (outcome.accepted, [error.pointer for error in outcome.errors]) == (
        2,
        ["/columns/city/2", "/columns/note/1"],
    )
    assert frame_of(outcome) == frame_of(take(rows_body([GOOD, GOOD])))


def test_version_and_id_come_from_metadata_or_header() -> None:
    tab = table([GOOD]).replace_schema_metadata({"driftd.model_version": "3", "driftd.id": "b1"})
    found = take_arrow(stream(tab), header="3").batch
    assert found is not None
    assert (found.id, found.model_version) == ("b1", "3")
    bare = stream(tab.replace_schema_metadata(None))
    assert take_arrow(bare, header="3").accepted == 1
    with pytest.raises(UnprocessableError, match="no model version"):
        take_arrow(bare)
    with pytest.raises(MalformedError, match="differ"):
        take_arrow(stream(tab), header="4")
    reserved = tab.replace_schema_metadata({"driftd.model_version": "3", "driftd.id": "anon-1"})
    with pytest.raises(UnprocessableError, match="daemon's own"):
        take_arrow(stream(reserved))


def _of(**columns: pa.Array) -> pa.Table:
    return table([GOOD]).append_column("odd", next(iter(columns.values())))


UNPROCESSABLE: list[tuple[str, pa.Table, str]] = [
    ("binary", _of(odd=pa.array([b"x"])), "/columns/odd"),
    ("date", _of(odd=pa.array([0], pa.date32())), "/columns/odd"),
    ("naive time as a feature", _of(odd=pa.array([0], pa.timestamp("s"))), "/columns/odd"),
    ("decimal", _of(odd=pa.array([1], pa.decimal128(5))), "/columns/odd"),
    ("list", _of(odd=pa.array([[1]])), "/columns/odd"),
    ("list of text", _of(odd=pa.array([["a"]], pa.list_(pa.string(), 1))), "/columns/odd"),
    ("struct", _of(odd=pa.array([{"a": 1}])), "/columns/odd"),
    ("text view", _of(odd=pa.array(["a"], pa.string_view())), "/columns/odd"),
    ("run-end encoded", _of(odd=pa.RunEndEncodedArray.from_arrays([1], ["a"])), "/columns/odd"),
    ("same name twice", pa.table([pa.array([1])] * 2, names=["a", "a"]), "/columns/a"),
    ("control character in a name", pa.table({"a\x00": pa.array([1])}), "/columns/a\x00"),
    ("text for a number", table([GOOD]).set_column(0, "amount", pa.array(["1"])), "/columns/amount"),
    ("number for text", table([GOOD]).set_column(4, "note", pa.array([1])), "/columns/note"),
    ("cuts not representable", table([GOOD]).set_column(0, "amount", pa.array([np.float16(1)])), "/columns/amount"),
    ("missing column", table([GOOD]).drop_columns(["age"]), "/columns/age"),
    ("no rows", table([GOOD]).slice(0, 0), "/columns"),
    ("no columns", pa.table({}), "/columns"),
    ("too many rows", pa.table({"a": pa.nulls(100_001)}), "/columns"),
]  # fmt: skip


@pytest.mark.parametrize(("_", "tab", "pointer"), UNPROCESSABLE, ids=[case[0] for case in UNPROCESSABLE])
def test_tables_that_fit_no_model_are_refused_with_a_pointer(_: str, tab: pa.Table, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        take_arrow(stream(tab), header="3")
    assert any(issue.pointer.startswith(pointer) for issue in caught.value.issues)


def test_without_pyarrow_the_answer_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(UnsupportedError, match=r"driftd\[arrow\]"):
        take_arrow(b"")


WHOLE = stream(table([GOOD] * 3), chunk=2)


@pytest.mark.parametrize(
    ("body", "file"),
    [
        (b"", False), (b"hello", False), (b"\xff" * 64, False), (WHOLE[:-20], False), (WHOLE[:100], False),
        (WHOLE + b"junk", False), (WHOLE + WHOLE, False), (WHOLE, True), (stream(table([GOOD]), file=True), False),
        (stream(table([GOOD]), file=True)[:-1], True), (b"ARROW1\0\0" + b"\0" * 40 + b"ARROW1", True),
        (struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 1) + bytes(100), False),
        (struct.pack("<Ii", 0xFFFFFFFF, 0), False),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_arrow_stream_is_malformed(body: bytes, file: bool) -> None:
    with pytest.raises(MalformedError):
        take_arrow(body, file=file)


@settings(max_examples=400)
@given(st.data())
def test_a_stream_with_flipped_bytes_is_taken_or_refused_and_never_more(data: st.DataObject) -> None:
    compression = data.draw(st.sampled_from([None, "lz4", "zstd"]))
    body = bytearray(stream(table([GOOD] * 4), compression=compression, chunk=2))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IngestError):
        take_arrow(bytes(body), limit=MIB)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_by_what_they_inflate_to(compression: str) -> None:
    zeros = pa.table({"a": pa.array(np.zeros(100_000), pa.float64())})
    body = stream(zeros, compression=compression)
    assert len(body) < 10_000
    assert take_arrow(body, header="4", version=PENDING, limit=2 * MIB).accepted == 100_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLargeError, match="inflate"):
        take_arrow(body, header="4", version=PENDING, limit=MIB // 2)
    assert pa.total_allocated_bytes() == before


def test_a_dictionary_that_would_spell_out_gigabytes_is_refused_before_it_does() -> None:
    city = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int8)), pa.array(["x" * MIB]))
    body = stream(pa.table({"city": city}))
    assert len(body) < 2 * MIB
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        with pytest.raises(TooLargeError):
            take_arrow(body, header="4", version=PENDING)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 16 * MIB


def test_a_replaced_dictionary_counts_from_the_batch_it_came_with() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    sink = pa.BufferOutputStream()
    schema = pa.schema([("city", kind)], metadata={"driftd.model_version": "4"})
    with pa.ipc.new_stream(sink, schema) as writer:
        for words in (["Oslo", "Rome"], ["Lima", "Oslo"]):
            writer.write_batch(
                pa.record_batch([pa.array(words).dictionary_encode().cast(kind)], schema=schema)
            )
    outcome = take_arrow(bytes(sink.getvalue()), version=PENDING)
    assert outcome.batch is not None
    assert outcome.batch.tensors[0].texts() == ["Oslo", "Rome", "Lima", "Oslo"]


def test_rows_cost_no_python_objects() -> None:
    rows = 100_000
    tab = pa.table(
        {"a": pa.array(np.arange(rows, dtype=np.float32)), "b": pa.array([f"t{i % 7}" for i in range(rows)])}
    )
    body = stream(tab)
    take_arrow(body, header="4", version=PENDING)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        take_arrow(body, header="4", version=PENDING)
    finally:
        sys.setprofile(None)
    assert calls < 2000
