"""A transport without a network, a clock that is turned by hand, and a decoder of its own for what was sent."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driftd_sidecar import PredictionLogger, Response

DTYPES = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


@dataclass
class Sent:
    """One request, decoded as the Open Inference Protocol says."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    timeout: float = 0.0
    header: dict[str, Any] = field(init=False)
    inputs: dict[str, Any] = field(init=False)
    outputs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        length = int(self.headers["Inference-Header-Content-Length"])
        self.header = json.loads(self.body[:length])
        rest = self.body[length:]
        decoded: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}}
        for section in ("inputs", "outputs"):
            for tensor in self.header[section]:
                size = tensor["parameters"]["binary_data_size"]
                raw, rest = rest[:size], rest[size:]
                assert len(raw) == size, "the body ends too early"
                decoded[section][tensor["name"]] = read_tensor(tensor["datatype"], tensor["shape"], raw)
        assert rest == b"", "bytes behind the last tensor"
        self.inputs, self.outputs = decoded["inputs"], decoded["outputs"]

    @property
    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = self.header["parameters"]
        return found

    @property
    def rows(self) -> int:
        return len(self.inputs["driftd.ts"])


def read_tensor(datatype: str, shape: list[int], raw: bytes) -> Any:
    """An array of `shape`, or a flat list of texts for BYTES."""
    if datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)
    texts: list[str] = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    assert len(texts) == int(np.prod(shape))
    return texts


class FakeTransport:
    """Answers what it is told to: a Response, an exception to raise, or what a function makes of the request."""

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers: list[Response | Exception] = list(answers)
        self.sent: list[Sent] = []
        self.always: Callable[[Sent], Response | Exception] = lambda _: ok()

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        request = Sent(url, body, dict(headers), timeout)
        self.sent.append(request)
        answer = self.answers.pop(0) if self.answers else self.always(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def rows(self) -> int:
        return sum(request.rows for request in self.sent)


def close(logger: PredictionLogger, timeout: float) -> None:
    """Closes in `timeout` seconds, then waits for the thread, which needs its time on a busy machine to let go."""
    logger.close(timeout)
    thread = logger._shipper._thread
    if thread is not None:
        thread.join(30)


def ok(accepted: int = 0, rejected: int = 0) -> Response:
    reply = {"accepted": accepted, "rejected": rejected, "errors": []}
    return Response(status=200, body=json.dumps(reply).encode())


class Clock:
    """Monotonic seconds and wall nanoseconds that move together, by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def wall_ns(self) -> int:
        return 1_767_225_600_000_000_000 + int((self.seconds - 1000.0) * 1e9)

    def pass_time(self, seconds: float, step: Callable[[], float]) -> None:
        """Call `step`, and again after each pause that it asks for, until the clock has moved on by `seconds`."""
        end = self.seconds + seconds
        while True:
            pause = step()
            if self.seconds + pause > end:
                self.seconds = end
                return
            self.forward(max(pause, 1e-6))

    def forward(self, seconds: float) -> None:
        self.seconds += seconds
