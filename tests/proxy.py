"""A TCP proxy in front of a server that cuts connections at the worst moment."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Literal

Cut = Literal["request", "reply"]


class Proxy:
    """Forwards bytes on loopback. `cut` arms it for the next message that holds the given bytes."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._armed: tuple[bytes, Cut, Callable[[], object]] | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self, at: bytes, what: Cut, *, then: Callable[[], object] = lambda: None) -> None:
        """When the client next sends `at`: lose the `request`, or deliver it and lose the `reply`; then call `then`."""
        self._armed = (at, what, then)

    def close(self) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            _close(one)
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                _close(client)
                continue
            self._open += [client, server]
            lost = threading.Event()
            threading.Thread(target=self._requests, args=(client, server, lost), daemon=True).start()
            threading.Thread(target=self._replies, args=(client, server, lost), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                armed = self._armed
                if armed is not None and armed[0] in data:
                    self._armed = None
                    lost.set()
                    self.cuts += 1
                    if armed[1] == "reply":
                        server.sendall(data)
                    else:
                        _close(server)
                        armed[2]()
                        _close(client)
                    return
                server.sendall(data)
        _close(server)

    def _replies(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lost.is_set():
                    break
                client.sendall(data)
        _close(server)
        _close(client)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
