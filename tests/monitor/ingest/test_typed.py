"""The decoders made for a baseline of floats: whatever a body holds, they and the general ones say the same."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.profile import ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.accept import accept
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import open_body
from monitor.ingest.errors import IngestError, UnprocessableError
from monitor.ingest.schema import VersionHandle
from monitor.ingest.times import TimeLimits
from monitor.ingest.typed import MOST_FEATURES, head_decoder

NAMES = ("amount", "an odd/name", "f0")
NOW = 1_800_000_000_000_000_000


def column(name: str, dtype: str = "float32", **changes: Any) -> ColumnData:
    values = np.random.default_rng(3).normal(size=200).astype(dtype)
    facts = {"name": name, "role": ColumnRole.FEATURE, "type": ColumnType.NUMERIC, "dtype": dtype}
    return ColumnData(**{**facts, "values": values, **changes})


BASELINE = build_baseline(
    [
        column("amount"),
        column("an odd/name", "float64"),
        column("f0"),
        column("p", role=ColumnRole.PREDICTION),
    ],
    60,
    (),
    None,
    "test",
)
VERSION = VersionHandle(version_id=1, version="3", baseline=BASELINE)


def outcome(body: bytes, *, typed: bool, limits: DecodeLimits | None = None) -> Any:
    """What becomes of a body, in a form that compares: the batch without its bytes, or the refusal."""

    def decoder(version: str) -> Any:
        return head_decoder(BASELINE) if version == "3" else None

    try:
        opened = open_body(body, None, limits or DecodeLimits(), decoder if typed else None)
        took = accept(decode_body(opened, BASELINE), VERSION, NOW, None, TimeLimits())
    except IngestError as error:
        issues = error.issues if isinstance(error, UnprocessableError) else ()
        return type(error), str(error), tuple(issues)
    batch = took.batch
    if batch is not None:
        tensors = tuple(replace(tensor, data=bytes(tensor.data)) for tensor in batch.tensors)
        batch = replace(batch, tensors=tensors, times_ns=np.zeros(0, dtype=np.int64))
        times = took.batch.times_ns.tolist() if took.batch is not None else []
        return took.accepted, took.rejected, took.errors, took.warnings, times, vars_of(batch)
    return took.accepted, took.rejected, took.errors, took.warnings


def vars_of(batch: Any) -> Mapping[str, Any]:
    return {name: getattr(batch, name) for name in batch.__slots__ if name != "times_ns"}


def body(value: Any, version: str = "3") -> bytes:
    return json.dumps({"model_version": version, **value}).encode()


ROW = {"features": {"amount": 1.5, "an odd/name": 2, "f0": None}}


@pytest.mark.parametrize(
    "text",
    [
        body({"rows": [ROW, ROW]}),
        body({"rows": [ROW], "parameters": {"ts": "2026-01-31T12:00:00Z", "seen": 4}, "id": "b1"}),
        body(
            {
                "rows": [
                    ROW | {"prediction": 3, "ts": NOW, "id": "x", "tags": {"region": "eu", "k": None}},
                    ROW,
                ]
            }
        ),
        body({"rows": [ROW | {"prediction": None, "confidence": 0.5}]}),
        body({"rows": [ROW | {"features": {"amount": 1.0, "an odd/name": 2.0}}]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "more": 4}}]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "p": 4.0}}]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "amount": "x"}}, ROW]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "amount": True}}, ROW]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "amount": 10**400}}, ROW]}),
        body({"rows": [ROW | {"features": {**ROW["features"], "amount": 1e300}}, ROW]}),
        body({"rows": [ROW | {"nonsense": 1}, ROW]}),
        body({"rows": [ROW | {"ts": "yesterday"}, ROW]}),
        body({"rows": [ROW, 7]}),
        body({"rows": []}),
        body({"rows": [ROW] * 6}),
        body({"rows": [ROW], "columns": {"amount": [1.0]}}),
        body({"rows": [ROW]}, version="4"),
        b'{"model_version": "3", "rows": [{"features": {"amount": 1, "amount": 2, "an odd/name": 1, "f0": 1}}]}',
        b'{"model_version": "3", "rows": [{"features": {"amount": 1e999, "an odd/name": 1, "f0": 1}}]}',
        b'{"model_version": "3", "rows": [{"features": {"amount": NaN, "an odd/name": 1, "f0": 1}}]}',
        b'{"model_version": "4", "model_version": "3", "rows": [{"features": {"amount": 1, "an odd/name": 1, "f0": 1}}]}',
        b'{"parameters": {"model_version": "3"}, "model_version": "4", "rows": [{"features": {}}]}',
        b'{"model_version": "3", "rows": [{"features": {"amount": 1, "an odd/name": 1, "f0": 1}}]',
        b'{"model_version": "3", "rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model_version": "3", "rows": [{"id": "\\u0000", "features": {"amount": 1, "an odd/name": 1, "f0": 1}}]}',
        b'{"model_version": "3", "rows": [{"id": "\\ud800", "features": {"amount": 1, "an odd/name": 1, "f0": 1}}]}',
        b'{"model_version": "3", "rows": [{"features": {"amoun\\u0074": 1, "amount": 2, "an odd/name": 1, "f0": 1}}]}',
        body({"columns": {"amount": [1.5, None], "an odd/name": [1, 2], "f0": [0.5, -0.0]}}),
        body({"columns": {"amount": [1.5], "an odd/name": [1], "f0": [0.5], "more": [7]}}),
        body({"columns": {"amount": [1.5], "an odd/name": [1], "f0": [0.5], "p": [7]}}),
        body({"columns": {"amount": [1.5, 2], "an odd/name": [1], "f0": [0.5]}}),
        body({"columns": {"amount": ["x", 2], "an odd/name": [1, 2], "f0": [0.5, 1]}}),
        body({"columns": {"amount": [1.0], "f0": [0.5]}}),
        body(
            {
                "columns": {"amount": [1.0], "an odd/name": [1], "f0": [0.5]},
                "prediction": [3],
                "tags": {"k": ["v"]},
            }
        ),
        body({"columns": {}}),
        b'{"model_version": "3", "columns": {"amount": [1], "amount": [2], "an odd/name": [1], "f0": [1]}}',
        b'{"model_version": "3", "columns": {"amount": [1e999], "an odd/name": [1], "f0": [1]}}',
    ],
)
def test_both_decoders_say_the_same(text: bytes) -> None:
    limits = DecodeLimits(rows=5)
    assert outcome(text, typed=True, limits=limits) == outcome(text, typed=False, limits=limits)


VALUES = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)), min_size=1, max_size=4))
def test_both_decoders_say_the_same_of_any_cells(rows: list[dict[str, Any]]) -> None:
    by_row = body({"rows": [{"features": row} for row in rows]})
    by_column = body({"columns": {name: [row[name] for row in rows] for name in NAMES}})
    for text in (by_row, by_column):
        assert outcome(text, typed=True) == outcome(text, typed=False)


def test_columns_of_single_precision_are_stored_in_it() -> None:
    found = outcome(body({"rows": [ROW]}), typed=True)[-1]["tensors"]
    assert {t.name: t.datatype for t in found} == {"amount": "FP32", "an odd/name": "FP64", "f0": "FP32"}


def test_there_is_no_decoder_where_it_would_lose_something() -> None:
    whole = column("count", "int64", values=np.arange(200))
    assert head_decoder(build_baseline([column("a"), whole], 60, (), None, "test")) is None
    wide = [column(f"c{i}") for i in range(MOST_FEATURES + 1)]
    assert head_decoder(build_baseline(wide, 60, (), None, "test")) is None
    predicted = build_baseline([column("p", role=ColumnRole.PREDICTION)], 60, (), None, "test")
    assert head_decoder(predicted) is None
