"""KServe's inference logger: the request and the response of one inference, put together as one of our own bodies.

The logger posts each half as a CloudEvent of its own, with one id (kserve/kserve, pkg/logger/worker.go). The content
type is that of the inference request for both halves, whatever they hold: often curl's own. So a half is told by its
content: protocol V1 has `instances` and `predictions`, V2 (OIP) `inputs` and `outputs`, and bytes behind the JSON
are V2's binary tensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Raw

from detectors.profile import Baseline
from detectors.types import ColumnRole
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import strict_decode
from monitor.ingest.errors import MalformedError, unprocessable
from monitor.ingest.frame import derive_confidence
from monitor.ingest.strictjson import check_text, count_keys, find_duplicate

HalfName = Literal["request", "response"]
Protocol = Literal["V1", "V2"]

_KEYS: Final[Mapping[HalfName, Mapping[str, Protocol]]] = {
    "request": {"instances": "V1", "inputs": "V2"},
    "response": {"predictions": "V1", "outputs": "V2"},
}
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_FLOATS: Final = msgspec.json.Decoder(list[float])
_TEXT: Final = msgspec.json.Decoder(str | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One half whose outermost object has been read: the part that matters, and V2's binary tensors behind it."""

    name: HalfName
    protocol: Protocol
    part: bytes
    tail: bytes
    model_version: str | None
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBody:
    """A pair as a body of ours: row JSON (V1), or OIP with `header_length` where tensors stand behind it."""

    body: bytes
    header_length: int | None
    sha256: str


def read_half(body: bytes, name: HalfName, limits: DecodeLimits) -> Half:
    """Read one half so far that what is no inference is refused before it is acknowledged.

    MalformedError (400) for what is no JSON object, UnprocessableError (422) for one without the protocol's key.
    """
    head, tail = _split(body, limits)
    check_text(head)
    pieces: dict[str, Raw] = strict_decode(_OBJECT.decode, head)
    if len(pieces) + sum(count_keys(bytes(piece)) for piece in pieces.values()) != count_keys(head):
        named = find_duplicate(head)
        raise MalformedError(f"the key {(named or '')[:100]!r} occurs twice in one object; send it once")
    found = [key for key in _KEYS[name] if key in pieces]
    if len(found) != 1:
        keys = " or ".join(f"{key!r} ({protocol})" for key, protocol in _KEYS[name].items())
        raise unprocessable("", f"an inference {name} has exactly one of the keys {keys}")
    protocol = _KEYS[name][found[0]]
    if tail and protocol == "V1":
        raise MalformedError("bytes follow the JSON object")
    version = pieces.get("model_version")
    return Half(
        name=name,
        protocol=protocol,
        part=bytes(pieces[found[0]]),
        tail=tail,
        model_version=None
        if version is None
        else strict_decode(_TEXT.decode, version, "/model_version") or None,
        sha256=hashlib.sha256(body).hexdigest(),
    )


def join(
    request: Half, response: Half, *, model_version: str, time_ns: int, baseline: Baseline | None
) -> PairBody:
    """The pair as one body. UnprocessableError where the halves do not belong together, or V1 rows have no names."""
    if request.protocol != response.protocol:
        raise unprocessable("", f"the request is {request.protocol} and its response {response.protocol}")
    common = f'{{"model_version":{json.dumps(model_version)},"parameters":{{"ts":{time_ns}}}'.encode()
    sha256 = hashlib.sha256((request.sha256 + response.sha256).encode()).hexdigest()
    if request.protocol == "V1":
        rows = _rows(request, response, baseline)
        return PairBody(
            body=b"".join([common, b',"rows":[', b",".join(rows), b"]}"]), header_length=None, sha256=sha256
        )
    head = b"".join([common, b',"inputs":', request.part, b',"outputs":', response.part, b"}"])
    tail = request.tail + response.tail
    return PairBody(body=head + tail, header_length=len(head) if tail else None, sha256=sha256)


def _split(body: bytes, limits: DecodeLimits) -> tuple[bytes, bytes]:
    """The JSON and what stands behind it; the logger does not pass on where the one ends."""
    try:
        _OBJECT.decode(body)
    except msgspec.ValidationError:
        return body, b""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return body, b""
    # Of binary bytes latin-1 makes characters one by one, and none of them is a quote or a brace it was not.
    text = body[: limits.header_bytes].decode("latin-1")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return body, b""
    return body[:end], body[end:]


def _rows(request: Half, response: Half, baseline: Baseline | None) -> Sequence[bytes]:
    instances: list[Raw] = strict_decode(_ARRAY.decode, request.part, "/instances")
    predictions: list[Raw] = strict_decode(_ARRAY.decode, response.part, "/predictions")
    if len(instances) != len(predictions):
        raise unprocessable(
            "/predictions", f"{len(predictions)} predictions answer {len(instances)} instances"
        )
    names = _names(baseline)
    kind = None if baseline is None or baseline.confidence is None else baseline.confidence.kind
    return [
        b"".join(
            [b'{"features":', _features(bytes(instance), names, row), _outcome(bytes(outcome), kind), b"}"]
        )
        for row, (instance, outcome) in enumerate(zip(instances, predictions, strict=True))
    ]


def _names(baseline: Baseline | None) -> Sequence[bytes] | None:
    """What the positions of an unnamed instance are called, as JSON; empty where a position is no column."""
    if baseline is None:
        return None
    inputs = [mapped for mapped in baseline.tensors if mapped.kind == "input"]
    names = (
        inputs[0].columns
        if len(inputs) == 1
        else [column.name for column in baseline.columns if column.role is ColumnRole.FEATURE]
    )
    return [json.dumps(name).encode() if name else b"" for name in names]


def _features(instance: bytes, names: Sequence[bytes] | None, row: int) -> bytes:
    if instance.startswith(b"{"):
        return instance
    if names is None:
        raise unprocessable(
            f"/instances/{row}",
            "the instance names no columns, and the model version has no baseline to name them; build it first",
        )
    cells: list[Any] = (
        strict_decode(_ARRAY.decode, instance, f"/instances/{row}")
        if instance.startswith(b"[")
        else [instance]
    )
    if len(cells) != len(names):
        raise unprocessable(
            f"/instances/{row}", f"the instance has {len(cells)} values, the baseline {len(names)} columns"
        )
    named = [name + b":" + bytes(cell) for name, cell in zip(names, cells, strict=True) if name]
    return b"{" + b",".join(named) + b"}"


def _outcome(prediction: bytes, kind: str | None) -> bytes:
    """A prediction as keys of a row: itself, or the confidence of a list of class probabilities or logits."""
    if not prediction.startswith(b"["):
        return b',"prediction":' + prediction
    try:
        values = _FLOATS.decode(prediction)
    except (ValueError, RecursionError):
        # Nested further: the row is refused where every other row is checked.
        return b',"prediction":' + prediction
    if len(values) == 1 and kind not in ("softmax",):
        return b',"prediction":' + json.dumps(values[0]).encode()
    if values and kind in ("probabilities", "softmax"):
        confidence = float(derive_confidence(kind, np.array([values]))[0])
        return b',"confidence":' + json.dumps(confidence).encode()
    return b',"prediction":' + prediction
