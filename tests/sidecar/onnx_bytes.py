"""Small ONNX models, written field by field from onnx.proto (the onnx package is not a dependency of the tests)."""

import struct
from collections.abc import Mapping, Sequence

FLOAT, INT64, STRING, BOOL, FLOAT16, DOUBLE = 1, 7, 8, 9, 10, 11  # TensorProto.DataType
Value = tuple[str, int, Sequence[int | str]]


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def _int(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _bytes(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _value(value: Value) -> bytes:
    name, element, dims = value
    shape = b"".join(
        _bytes(1, _int(1, dim) if isinstance(dim, int) else _bytes(2, dim)) for dim in dims
    )  # TensorShapeProto.Dimension: dim_value or dim_param
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, element) + _bytes(2, shape)))


def node(
    op: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, int] | None = None
) -> bytes:
    """A NodeProto with integer attributes."""
    return (
        b"".join(_bytes(1, name) for name in inputs)
        + b"".join(_bytes(2, name) for name in outputs)
        + _bytes(4, op)
        + b"".join(
            _bytes(5, _bytes(1, name) + _int(3, number) + _int(20, 2))
            for name, number in (attributes or {}).items()
        )
    )


def floats(name: str, dims: Sequence[int], values: Sequence[float]) -> bytes:
    """A float TensorProto, for an initializer."""
    packed = struct.pack(f"<{len(values)}f", *values)
    return b"".join(_int(1, dim) for dim in dims) + _int(2, FLOAT) + _bytes(8, name) + _bytes(9, packed)


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    *,
    constants: Sequence[bytes] = (),
    metadata: Mapping[str, str] | None = None,
    version: int = 0,
) -> bytes:
    """A ModelProto of operator set 13."""
    graph = (
        b"".join(_bytes(1, each) for each in nodes)
        + _bytes(2, "test")
        + b"".join(_bytes(5, each) for each in constants)
        + b"".join(_bytes(11, _value(each)) for each in inputs)
        + b"".join(_bytes(12, _value(each)) for each in outputs)
    )
    return (
        _int(1, 8)
        + _int(5, version)
        + _bytes(7, graph)
        + _bytes(8, _int(2, 13))
        + b"".join(_bytes(14, _bytes(1, key) + _bytes(2, text)) for key, text in (metadata or {}).items())
    )


def classifier(features: int = 30, classes: int = 2, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """features → softmax(x·W) and its argmax, for any number of rows; W is fixed and not symmetric."""
    weights = [((7 * i) % 13 - 6) / 10 for i in range(features * classes)]
    return model(
        [
            node("MatMul", ["features", "W"], ["scores"]),
            node("Softmax", ["scores"], ["probabilities"], {"axis": 1}),
            node("ArgMax", ["probabilities"], ["label"], {"axis": 1, "keepdims": 0}),
        ],
        [("features", FLOAT, ["N", features])],
        [("label", INT64, ["N"]), ("probabilities", FLOAT, ["N", classes])],
        constants=[floats("W", [features, classes], weights)],
        metadata=metadata,
    )


def identity(element: int, dims: Sequence[int | str]) -> bytes:
    """y = x."""
    return model([node("Identity", ["x"], ["y"])], [("x", element, dims)], [("y", element, dims)])
