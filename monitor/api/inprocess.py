"""Asks the application in its own process: no socket, no server, the same routes and the same answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

_HERE: Final = ("127.0.0.1", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcessReply:
    """A whole answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    app: ASGIApp,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> InProcessReply:
    """Send one request, as from this machine, and wait for its answer. `target` is path and query, encoded.

    Not for use inside a running event loop.
    """
    return asyncio.run(_exchange(app, method, target, body, headers or {}))


async def _exchange(
    app: ASGIApp, method: str, target: str, body: bytes, headers: Mapping[str, str]
) -> InProcessReply:
    path, _, query = target.partition("?")
    fields = {"host": "localhost", "content-length": str(len(body)), **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
        ],
        "client": _HERE,
        "server": _HERE,
    }
    told: list[Message] = []
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return sent.pop() if sent else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.append(message)

    try:
        await app(scope, receive, send)
    except Exception:
        # Starlette raises a defect again after it was logged and answered with 500, for the server to see.
        if not told:
            raise
    start = told[0]
    return InProcessReply(
        status=start["status"],
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in told[1:]),
    )
