"""The daemon process: opens the store, starts the loops, serves HTTP, and drains when it is told to stop."""

import contextlib
import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from alerts.errors import AlertError
from monitor import sdnotify
from monitor.allocator import collect_seldom, keep_large_buffers
from monitor.api.application import create_app, refuse
from monitor.app import Service
from monitor.config import Config, SecretError
from monitor.config import check as warnings_of
from monitor.connections import ConnectionLimits, Connections, GuardedProtocol
from monitor.direct import ShortWay
from monitor.location import location
from monitor.reloading import ReloadRefused, reload
from monitor.version import VERSION
from storage.engine import Address, Database
from storage.errors import StateDirectoryInUse, StorageError

KEEP_ALIVE_SECONDS: Final = 75
ANSWER_SECONDS: Final = 60.0
"""For the answer, once the body is read: to write it to disk, and the client to read it."""
BACKLOG: Final = 128
FILES: Final = 128
"""Descriptors beside those of connections: the database, receivers, the log."""
LOCK_PATIENCE_SECONDS: Final = 3.0
"""A command that works on the store without a daemon holds it for a moment."""

log = logging.getLogger("driftd")


class StartFailed(Exception):
    """The daemon cannot start; one line that names what is in the way and the fix."""


class _Server(uvicorn.Server):
    """uvicorn's, telling when it listens and when it drains."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        sdnotify.stopping()
        self._stopping()
        log.info("stopping: requests and sends under way are finished")
        await super().shutdown(sockets)


def serve(config: Config, load: Callable[[], Config]) -> None:
    """Run until SIGTERM or SIGINT, then drain and return; on SIGHUP `load` again. Raises StartFailed."""
    keep_large_buffers()
    listener = _listen(config)
    with contextlib.ExitStack() as undo:
        undo.callback(listener.close)
        config = _with_port(config, listener)
        service = _service(config)
        service.reload_from = load
        undo.callback(service.stop)
        for warning in warnings_of(config):
            log.warning("configuration: %s", warning)
        address = address_of(listener)
        server = _server(config, service, lambda: _ready(address))
        with _stopping_by_signal(server), _reloading_by_signal(service, load):
            _start(service)
            collect_seldom()
            server.run(sockets=[listener])
    log.info("stopped")


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket, with the port that the system chose where 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _with_port(config: Config, listener: socket.socket) -> Config:
    """The configuration with the port that the system chose, where 0 was asked for: links name it."""
    server = config.server
    if server.port:
        return config
    bind = f"{server.bind.rpartition(':')[0]}:{listener.getsockname()[1]}"
    default = server.public_url == f"http://{server.bind}"
    named = {"bind": bind, "public_url": f"http://{bind}" if default else server.public_url}
    return config.model_copy(update={"server": server.model_copy(update=named)})


def _listen(config: Config) -> socket.socket:
    server = config.server
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartFailed(f"server.bind {server.bind}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartFailed(f"server.bind {server.bind}: cannot listen there: {error.strerror}") from None
    return listener


def _service(config: Config) -> Service:
    try:
        database = _open(location(config))
    except (SecretError, StorageError) as error:
        raise StartFailed(str(error)) from None
    try:
        return Service(config, database)
    except (SecretError, AlertError) as error:
        database.close()
        raise StartFailed(str(error)) from None
    except BaseException:
        database.close()
        raise


def _start(service: Service) -> None:
    try:
        service.start()
    except StorageError as error:
        raise StartFailed(str(error)) from None


def _open(where: Path | Address) -> Database:
    until = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            return Database.open(where)
        except StateDirectoryInUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _server(config: Config, service: Service, ready: Callable[[], None]) -> _Server:
    try:
        app = create_app(service)
    except SecretError as error:
        raise StartFailed(str(error)) from None
    limits = ConnectionLimits(
        connections=config.server.max_connections,
        head_seconds=config.server.head_timeout.total_seconds(),
        exchange_seconds=config.server.body_timeout.total_seconds() + ANSWER_SECONDS,
    )
    _room_for(limits.connections + BACKLOG + FILES)
    protocol: Any = partial(
        GuardedProtocol,
        connections=Connections(limits=limits),
        short_way=ShortWay(endpoint=app.state.predictions, refuse=refuse),
    )
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # A header must never choose the address that the loopback rule is asked about.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, int(config.server.shutdown_timeout.total_seconds())),
        ),
        ready,
        service.stopping,
    )


def _room_for(descriptors: int) -> None:
    """Raise the soft limit of open files as far as is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            # A sandbox may forbid it; then the system refuses connections where we would have made room.
            log.warning(
                "server.max_connections: only %d files may be open at once, and the limit cannot be raised: %s",
                soft,
                error,
            )


def _ready(address: str) -> None:
    log.info("driftd %s listens on %s (process %d)", VERSION, address, os.getpid())
    sdnotify.ready(f"listening on {address}")


@contextlib.contextmanager
def _stopping_by_signal(server: _Server) -> Iterator[None]:
    """SIGTERM and SIGINT stop the server and end the process with 0.

    uvicorn raises the signals it took again once it is done; with our own handler in place that is harmless.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _reloading_by_signal(service: Service, load: Callable[[], Config]) -> Iterator[None]:
    """SIGHUP reads the configuration again, in a thread: a handler runs in the middle of anything."""

    def again() -> None:
        with contextlib.suppress(ReloadRefused):  # said in the log
            reload(service, load, actor="SIGHUP")

    def hangup(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=again, name="reload", daemon=True).start()

    before = signal.signal(signal.SIGHUP, hangup)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
