"""The deadline of a whole exchange, which no test over a real daemon should wait for."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from monitor.connections import ConnectionLimits, Connections, GuardedProtocol


def test_a_client_that_reads_no_answer_is_cut_off_and_its_request_ends() -> None:
    asyncio.run(_unread())


async def _unread() -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(256):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
        ended.set()

    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    config.load()
    limits = ConnectionLimits(connections=8, head_seconds=5, exchange_seconds=0.1)
    connections = Connections(limits=limits)
    server = await loop.create_server(
        lambda: GuardedProtocol(
            connections=connections, config=config, server_state=ServerState(), app_state={}, _loop=loop
        ),
        "127.0.0.1",
        0,
    )
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(20):
        await ended.wait()
    assert (connections.busy, connections.idle) == (set(), {})
    writer.transport.abort()
    server.close()
    await server.wait_closed()
