"""Values of the application on the wire: every dtype, every memory layout, and what cannot travel."""

import logging
from typing import Any

import numpy as np
import pytest

from driftd_sidecar._calls import CallRecipe, capture, times_array
from driftd_sidecar._notices import Notices
from driftd_sidecar._plan import PlanRecipe, array_field, output_field
from driftd_sidecar._tensors import CaptureError, as_tensor, copied, count_rows, probabilities, rows_of
from driftd_sidecar._wire import Table
from tests.sidecar.fakes import read_tensor


def decoded(value: object, rows: int) -> Any:
    tensor = as_tensor("x", copied(rows_of(value)), rows)
    return read_tensor(tensor.datatype, [rows, *tensor.tail], tensor.data)


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("?", "BOOL"), ("i1", "INT8"), ("i2", "INT16"), ("i4", "INT32"), ("i8", "INT64"),
        ("u1", "UINT8"), ("u2", "UINT16"), ("u4", "UINT32"), ("u8", "UINT64"),
        ("f2", "FP16"), ("f4", "FP32"), ("f8", "FP64"), (">f4", "FP32"), (">i8", "INT64"),
    ],
)  # fmt: skip
def test_every_dtype_keeps_its_values(dtype: str, datatype: str) -> None:
    values = np.array([[1, 0, 3], [0, 5, 6]]).astype(dtype)
    assert as_tensor("x", values, 2).datatype == datatype
    np.testing.assert_array_equal(decoded(values, 2), values)


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        np.arange(24.0).reshape(4, 6)[:, ::2],
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0).reshape(4, 3)[::-1],
        np.broadcast_to(np.arange(3.0), (4, 3)),
    ],
    ids=["fortran", "strided", "transposed", "reversed", "broadcast"],
)
def test_memory_layout_does_not_matter(view: Any) -> None:
    np.testing.assert_array_equal(decoded(view, 4), view)


def test_texts_travel_as_bytes() -> None:
    assert decoded(np.array([["a", None], ["ü", "d"]], object), 2) == ["a", "", "ü", "d"]
    assert decoded(np.array(["a", "longer"]), 2) == ["a", "longer"]
    assert decoded(np.array([b"a", b"b"]), 2) == ["a", "b"]
    assert decoded(["x", "y"], 2) == ["x", "y"]


def test_zero_rows_are_zero_bytes() -> None:
    tensor = as_tensor("x", np.empty((0, 4), np.float32), 0)
    assert (tensor.tail, tensor.data) == ((4,), b"")


def test_a_zipmap_becomes_float32_columns_in_the_order_of_its_keys() -> None:
    rows: list[dict[object, float]] = [{2: 0.25, 0: 0.5, 1: 0.25}, {0: 1.0, 1: 0.0, 2: 0.0}, {0: 0.5, 1: 0.5}]
    keys, data = probabilities(rows)
    assert keys == (0, 1, 2)
    expected = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0.5, 0.5, np.nan]], np.float32)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(3, 3), expected)


def test_keys_without_an_order_stay_as_in_the_first_row() -> None:
    rows: list[dict[object, float]] = [{"b": 1.0, 0: 2.0}, {0: 4.0, "b": 3.0}]
    keys, data = probabilities(rows)
    assert keys == ("b", 0)
    assert np.frombuffer(data, "<f4").tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "value",
    [np.ones(3), np.array(1.0), np.ones(2, np.complex64), [{1: 0.5}]],
    ids=["other rows", "scalar", "complex", "maps of other rows"],
)
def test_what_is_not_a_tensor_of_rows_is_refused(value: object) -> None:
    with pytest.raises(CaptureError):
        as_tensor("x", copied(rows_of(value)), 2)


def test_rows_are_those_of_the_first_value_that_has_any() -> None:
    assert count_rows([np.array(1.0), np.ones((4, 2))]) == 4
    assert count_rows([np.array(1.0)]) == 1
    assert count_rows([[{0: 1.0}, {0: 1.0}]]) == 2


def test_times_are_one_integer_or_one_per_row() -> None:
    assert times_array(5, 3).tolist() == [5, 5, 5]
    assert times_array([1, 2, 3], 3).tolist() == [1, 2, 3]
    assert times_array(np.array(["1970-01-01T00:00:01"], "datetime64[s]"), 1).tolist() == [1_000_000_000]


@pytest.mark.parametrize("wrong", [1.5, [1, 2], [1.0, 2.0, 3.0], None, "now"])
def test_other_times_are_refused(wrong: object) -> None:
    with pytest.raises(CaptureError):
        times_array(wrong, 3)


def table_of(notices: Notices, **inputs: object) -> Table:
    (call,) = capture(inputs, {"y": np.zeros(2)}, time_ns=1)
    (table,) = CallRecipe(notices=notices, tags={}).tables([(call,)])
    return table


def test_a_tensor_that_cannot_travel_is_left_out_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        for _ in range(3):
            table = table_of(
                notices, x=np.ones((2, 3)), bad=np.ones(2, np.complex128), temperature=np.array(0.7)
            )
            assert [tensor.name for tensor in table.inputs] == ["driftd.ts", "x"]
    assert sorted(record.getMessage().split(" ")[1] for record in caplog.records) == [
        "'bad'",
        "'temperature'",
    ]


def test_reserved_names_are_left_to_the_wire_format() -> None:
    (call,) = capture({"x": np.ones(2), "driftd.ts": np.ones(2)}, {}, time_ns=7)
    (table,) = CallRecipe(notices=Notices(), tags={}).tables([(call,)])
    assert [tensor.name for tensor in table.inputs] == ["driftd.ts", "x"]
    assert np.frombuffer(table.inputs[0].data, "<i8").tolist() == [7, 7]


def test_calls_are_joined_when_their_signatures_are_equal() -> None:
    shapes = [(1, 3), (2, 3), (1, 4), (3, 3)]
    calls = [
        tuple(capture({"x": np.full(shape, i, np.float32)}, {}, time_ns=i)) for i, shape in enumerate(shapes)
    ]
    first, second = CallRecipe(notices=Notices(), tags={}).tables(calls)
    assert (first.rows, second.rows) == (6, 1)
    assert np.frombuffer(first.inputs[0].data, "<i8").tolist() == [0, 1, 1, 3, 3, 3]
    assert np.frombuffer(first.inputs[1].data, "<f4").reshape(6, 3)[:, 0].tolist() == [0, 1, 1, 3, 3, 3]


def test_tags_of_the_call_go_before_those_of_the_logger() -> None:
    (call,) = capture({"x": np.ones(2)}, {}, time_ns=1, tags={"region": ["us", "eu"]})
    (table,) = CallRecipe(notices=Notices(), tags={"region": "eu", "app": "web"}).tables([(call,)])
    tags = {each.name: read_tensor("BYTES", [2], each.data) for each in table.inputs if "tag" in each.name}
    assert tags == {"driftd.tag.app": ["web", "web"], "driftd.tag.region": ["us", "eu"]}


def plan(output: str, kind: str, shape: list[object], notices: Notices) -> PlanRecipe:
    first = array_field("x", "tensor(float)", ["N", 2])
    second = output_field(output, kind, shape)
    assert first is not None
    assert second is not None
    return PlanRecipe(inputs=[first], outputs=[second], notices=notices, tags={"app": "web"})


def row_bytes(rows: int) -> bytes:
    return np.ones((rows, 2), np.float32).tobytes()


def test_a_plan_reads_rows_from_bytes_alone() -> None:
    recipe = plan("p", "tensor(double)", ["N", 3], Notices())
    calls = [(10, row_bytes(1), bytes(24)), (20, row_bytes(3), bytes(72))]
    (table,) = recipe.tables(calls)
    assert table.rows == 4
    assert np.frombuffer(table.inputs[0].data, "<i8").tolist() == [10, 20, 20, 20]
    assert (table.outputs[0].datatype, table.outputs[0].tail) == ("FP64", (3,))
    rows, costs = recipe.measure(calls)
    assert rows.tolist() == [1, 3]
    assert [recipe.measure_one(call) for call in calls] == list(
        zip(rows.tolist(), costs.tolist(), strict=True)
    )


def test_an_open_dimension_is_read_from_the_data() -> None:
    recipe = plan("p", "tensor(float)", ["N", None], Notices())
    (table,) = recipe.tables([(1, row_bytes(2), bytes(2 * 5 * 4))])
    assert table.outputs[0].tail == (5,)
    with pytest.raises(CaptureError):  # the shipper then joins them one by one
        recipe.tables([(1, row_bytes(1), bytes(20)), (2, row_bytes(1), bytes(16))])


def test_an_output_that_has_not_one_entry_per_row_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    recipe = plan("loss", "tensor(float)", [1], Notices())
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        (table,) = recipe.tables([(1, row_bytes(3), bytes(4))])
    assert table.outputs == ()
    assert "'loss' is not shipped" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("x", "tensor(string)", [None]),
        ("x", "tensor(float)", []),
        ("x", "tensor(float)", ["N", "H", "W"]),
        ("x", "sequence(tensor(float))", []),
        ("driftd.x", "tensor(float)", [None, 2]),
    ],
    ids=["text", "scalar or unknown rank", "two open dimensions", "sequence", "reserved name"],
)
def test_signatures_that_leave_too_much_open_have_no_plan(name: str, kind: str, shape: list[object]) -> None:
    assert output_field(name, kind, shape) is None
