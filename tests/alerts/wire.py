"""Raw TCP servers on loopback that misbehave on purpose."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[[socket.socket, bytes], None]


class Server:
    """Accepts connections one after the other, reads one request each, then follows the script."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, *, read: bool = True) -> None:
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self.stop = threading.Event()
        self._script, self._read, self._tls = script, read, tls
        if tls is not None:
            tls.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.stop.set()
        with contextlib.suppress(OSError):  # wake the accept
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while not self.stop.is_set():
            raw, _ = self._listener.accept()
            if self.stop.is_set():
                raw.close()
                return
            raw.settimeout(5)
            with contextlib.suppress(OSError):
                raw.getpeername()  # of one that has gone by reset, wrap_socket would leave a socket open
                peer = raw if self._tls is None else self._tls.wrap_socket(raw, server_side=True)
                with peer:
                    request = _receive(peer) if self._read else b""
                    self.requests.append(request)
                    self._script(peer, request)
            raw.close()


def _receive(peer: socket.socket) -> bytes:
    """One request with its Content-Length body."""
    data = b""
    while b"\r\n\r\n" not in data:
        step = peer.recv(65536)
        if not step:
            return data
        data += step
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    ]
    while lengths and len(body) < int(lengths[0]):
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def server(
    script: Script | bytes, tls: ssl.SSLContext | None = None, *, read: bool = True
) -> Iterator[Server]:
    """A server that answers with fixed bytes or follows a script."""
    reply = script if isinstance(script, bytes) else b""
    follow = script if not isinstance(script, bytes) else (lambda peer, _request: peer.sendall(reply))
    running = Server(follow, tls, read=read)
    try:
        yield running
    finally:
        running.close()


def reset(peer: socket.socket, _request: bytes) -> None:
    """Close with a RST instead of a FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
