"""The client process: keep-alive connections, each sending its next body when the last is answered, or at a rate.

It reads one `Load` as JSON from its standard input and writes one `Answers` to its output. Bodies are read
from a file and only repeated; what makes each batch another one is the Idempotency-Key, so that the client costs little.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: `requests` of the one body in the file, over `connections`, `prefix` before their numbers.

    `rate` is requests per second of all connections together, None for as fast as they are answered. `seconds` ends
    it early.
    """

    port: int
    path: str
    headers: Mapping[str, str]
    body: str
    requests: int
    connections: int
    prefix: str
    rate: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back: status → how often, the keys answered 200, milliseconds of each answer, seconds in all."""

    statuses: Mapping[str, int]
    acknowledged: list[str]
    milliseconds: list[float]
    seconds: float


class _Sender:
    """All connections of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._body = Path(load.body).read_bytes()
        lines = [
            f"POST {load.path} HTTP/1.1",
            f"Host: 127.0.0.1:{load.port}",
            f"Content-Length: {len(self._body)}",
            *(f"{name}: {value}" for name, value in load.headers.items()),
        ]
        self._head = "\r\n".join(lines)
        self._numbers = iter(range(load.requests))
        self.statuses: dict[str, int] = {}
        self.acknowledged: list[str] = []
        self.milliseconds: list[float] = []

    async def run(self) -> Answers:
        began = time.perf_counter()
        await asyncio.gather(*(self._connection(began) for _ in range(self._load.connections)))
        return Answers(
            statuses=self.statuses,
            acknowledged=self.acknowledged,
            milliseconds=self.milliseconds,
            seconds=time.perf_counter() - began,
        )

    async def _connection(self, began: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._load.port)
        for number in self._due(began):
            if self._load.rate is not None:
                await asyncio.sleep(max(0.0, began + number / self._load.rate - time.perf_counter()))
            key = f"{self._load.prefix}-{number}"
            sent = time.perf_counter()
            writer.write(f"{self._head}\r\nIdempotency-Key: {key}\r\n\r\n".encode() + self._body)
            status = await _answer(reader)
            self.milliseconds.append(1e3 * (time.perf_counter() - sent))
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == "200":
                self.acknowledged.append(key)
        writer.close()

    def _due(self, began: float) -> Iterator[int]:
        for number in self._numbers:
            if self._load.seconds is not None and time.perf_counter() - began > self._load.seconds:
                return
            yield number


async def _answer(reader: asyncio.StreamReader) -> str:
    """Read one answer whole; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return head.split(" ", 2)[1]


if __name__ == "__main__":
    answers = uvloop.run(_Sender(Load(**json.load(sys.stdin))).run())
    json.dump(asdict(answers), sys.stdout)
