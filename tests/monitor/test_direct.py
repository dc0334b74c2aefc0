"""Predictions that go past the framework: the same answers as through it, whatever a client does on the wire."""

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.server import ServerState

from monitor.api.auth import Authenticator
from monitor.api.intake import IngestLimits, Intake
from monitor.api.ports import StorageUnavailableError
from monitor.api.predictions import PredictionsEndpoint
from monitor.api.problem import respond
from monitor.bodyreader import LEAST_BYTES
from monitor.connections import ConnectionLimits, Connections, GuardedProtocol
from monitor.direct import ShortWay
from tests.monitor.api.asgi import URL, Daemon, MemoryPort
from tests.monitor.ingest.bodies import GOOD, oip_binary_body, rows_body

WAIT = 20
BODY = rows_body([GOOD], id="b1")
LARGE = rows_body([GOOD] * 2000, id="large")
BINARY, HEADER = oip_binary_body([GOOD] * 4000)


@dataclass
class Socket:
    """A client's side of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers, body


@dataclass
class Served:
    """A protocol over a real socket, in front of a port in memory; `long_way` counts what went to the framework."""

    port: MemoryPort
    intake: Intake
    address: tuple[str, int]
    long_way: list[str]
    connections: Connections
    sockets: list[Socket]

    async def connect(self) -> Socket:
        self.sockets.append(Socket(*await asyncio.open_connection(*self.address)))
        return self.sockets[-1]


@asynccontextmanager
async def serving(limits: IngestLimits | None = None) -> AsyncIterator[Served]:
    port, long_way = MemoryPort(), []
    intake = Intake(limits)
    endpoint = PredictionsEndpoint(port, Authenticator(list), intake)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        long_way.append(scope["path"])
        request = Request(scope, receive)
        request.scope["path_params"] = {"model": "credit"}
        answer = await endpoint.post(request) if scope["path"] == URL else Response(b"elsewhere")
        await answer(scope, receive, send)

    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    config.load()
    connections = Connections(
        limits=ConnectionLimits(connections=8, head_seconds=WAIT, exchange_seconds=WAIT)
    )
    way = ShortWay(endpoint=endpoint, refuse=respond)
    server = await loop.create_server(
        lambda: GuardedProtocol(
            connections=connections,
            short_way=way,
            config=config,
            server_state=ServerState(),
            app_state={},
            _loop=loop,
        ),
        "127.0.0.1",
        0,
    )
    address = server.sockets[0].getsockname()[:2]
    served = Served(port, intake, address, long_way, connections, [])
    try:
        async with asyncio.timeout(WAIT):
            yield served
    finally:
        for socket in served.sockets:
            socket.writer.close()
            with contextlib.suppress(OSError):
                await socket.writer.wait_closed()
        server.close()
        await server.wait_closed()
        intake.close()


def post(body: bytes, *lines: str, kind: str = "application/json", length: int | None = None) -> bytes:
    head = [
        f"POST {URL} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body) if length is None else length}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def run(test: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(test())  # type: ignore[arg-type]  # a coroutine function


def binary(*lines: str) -> bytes:
    return post(BINARY, f"Inference-Header-Content-Length: {HEADER}", *lines, kind="application/octet-stream")


CASES: dict[str, tuple[bytes, dict[str, str]]] = {
    "one row": (BODY, {}),
    "many rows": (LARGE, {}),
    "no JSON": (b"{", {}),
    "no rows": (rows_body([]), {}),
    "a type not offered": (BODY, {"content-type": "text/plain"}),
    "a bad key": (BODY, {"idempotency-key": "other"}),
    "a foreign page": (BODY, {"origin": "http://evil.example"}),
}


@pytest.mark.parametrize("name", CASES)
def test_both_ways_give_the_same_answer(name: str) -> None:
    body, given = CASES[name]
    headers = {"content-type": "application/json"} | given
    daemon = Daemon()
    through = daemon.request("POST", URL, body, headers)
    daemon.intake.close()

    async def past() -> None:
        async with serving() as served:
            socket = await served.connect()
            lines = [f"{key}: {value}" for key, value in headers.items() if key != "content-type"]
            socket.writer.write(post(body, *lines, kind=headers["content-type"]))
            status, found, answer = await socket.answer()
            assert (status, json.loads(answer)) == (through.status_code, through.json())
            assert found["content-type"] == through.headers["content-type"]
            assert served.long_way == []
            assert served.intake.inflight_bytes == 0

    run(past)


def test_requests_behind_one_another_are_answered_in_order() -> None:
    async def test() -> None:
        async with serving() as served:
            socket = await served.connect()
            elsewhere = b"GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
            second = post(BODY.replace(b'"b1"', b'"b2"'))
            socket.writer.write(post(BODY) + elsewhere + second + binary("Idempotency-Key: b3") + post(BODY))
            found = [await socket.answer() for _ in range(5)]
            assert [status for status, _, _ in found] == [200] * 5
            assert found[1][2] == b"elsewhere"
            assert [json.loads(found[at][2])["id"] for at in (0, 2, 3, 4)] == ["b1", "b2", "b3", "b1"]
            assert json.loads(found[4][2])["duplicate"] is True
            assert served.connections.busy == set()

    run(test)


@pytest.mark.parametrize("piece", [1000, 40_000, 1_000_000])
def test_a_large_body_is_whole_however_it_is_cut(piece: int) -> None:
    async def test() -> None:
        async with serving() as served:
            socket = await served.connect()
            for name in ("one", "two"):
                request = binary(f"Idempotency-Key: {name}")
                assert len(request) > 2 * LEAST_BYTES
                for at in range(0, len(request), piece):
                    socket.writer.write(request[at : at + piece])
                    await socket.writer.drain()
                    await asyncio.sleep(0)
                status, _, answer = await socket.answer()
                assert (status, json.loads(answer)["accepted"]) == (200, 4000)
            assert served.port.stored["one"].body_sha256 == served.port.stored["two"].body_sha256
            [one, two] = [served.port.stored[name].tensors for name in ("one", "two")]
            assert [bytes(tensor.data) for tensor in one] == [bytes(tensor.data) for tensor in two]
            assert BINARY[HEADER:] == b"".join(bytes(tensor.data) for tensor in one)
            assert (served.intake.inflight_bytes, served.intake.lent_bytes) == (0, 0)
            assert served.long_way == []

    run(test)


def test_a_large_body_whose_end_the_parser_sees_is_not_waited_for_again() -> None:
    async def test() -> None:
        async with serving() as served:
            socket = await served.connect()
            small = oip_binary_body([GOOD] * 1200)
            head = f"Inference-Header-Content-Length: {small[1]}"
            request = post(small[0], head, kind="application/octet-stream")
            assert LEAST_BYTES < len(small[0]) < 2 * LEAST_BYTES
            for _ in range(2):
                socket.writer.write(request[: len(request) - 1000])
                while served.intake.inflight_bytes < len(small[0]) - 1000:
                    await asyncio.sleep(0)
                socket.writer.write(request[len(request) - 1000 :])
                assert (await socket.answer())[0] == 200
            assert served.intake.lent_bytes == 0

    run(test)


def test_an_answered_batch_is_freed_without_a_search_for_cycles() -> None:
    async def test() -> None:
        async with serving() as served:
            freed: list[weakref.ref[Any]] = []
            submit = served.port.submit

            def watched(model: Any, version: Any, accepted: Any, **more: Any) -> Any:
                freed.append(weakref.ref(accepted.batch.times_ns))
                future = submit(model, version, accepted, **more)
                served.port.stored.clear()
                served.port.outcomes.clear()
                return future

            served.port.submit = watched  # type: ignore[method-assign]
            socket = await served.connect()
            for request in (post(BODY), binary(), post(LARGE)):
                socket.writer.write(request)
                assert (await socket.answer())[0] == 200
            await asyncio.sleep(0)
            assert [times() for times in freed] == [None] * 3

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with serving() as served:
            socket = await served.connect()
            socket.writer.write(binary()[: 3 * LEAST_BYTES])
            while served.intake.inflight_bytes < 2 * LEAST_BYTES:
                await asyncio.sleep(0)
            assert served.intake.lent_bytes > 0
            socket.writer.transport.abort()
            while served.intake.inflight_bytes:
                await asyncio.sleep(0)
            assert served.intake.lent_bytes == 0
            assert served.port.stored == {}
            assert served.connections.busy == set()

    run(test)


def test_a_body_that_is_refused_is_read_to_its_end_and_the_connection_goes_on() -> None:
    async def test() -> None:
        room = 3 * LEAST_BYTES
        assert len(BINARY) > room
        async with serving(IngestLimits(inflight_bytes=room)) as served:
            socket = await served.connect()
            socket.writer.write(binary())
            status, headers, _ = await socket.answer()
            assert (status, headers["retry-after"]) == (429, "1")
            socket.writer.write(post(BODY))
            assert (await socket.answer())[0] == 200
            assert (served.intake.inflight_bytes, served.intake.lent_bytes) == (0, 0)

    run(test)


def test_what_the_store_refuses_later_is_told() -> None:
    async def test() -> None:
        async with serving() as served:
            served.port.fail_later = StorageUnavailableError("the disk is full")
            socket = await served.connect()
            socket.writer.write(post(BODY, "Connection: close"))
            status, headers, answer = await socket.answer()
            assert (status, headers["connection"]) == (503, "close")
            assert json.loads(answer)["detail"] == "the disk is full"
            assert await socket.reader.read() == b""

    run(test)


def test_a_body_that_does_not_come_in_time_is_408() -> None:
    async def test() -> None:
        async with serving(IngestLimits(read_seconds=0.05)) as served:
            for request in (post(b"", length=10), post(b"{", length=10), binary()[: 2 * LEAST_BYTES]):
                socket = await served.connect()
                socket.writer.write(request)
                assert (await socket.answer())[0] == 408
                assert await socket.reader.read() == b""
            assert (served.intake.inflight_bytes, served.intake.lent_bytes) == (0, 0)

    run(test)
