"""A daemon of its own kind: a loopback server that stores batches once, loses answers, refuses, and dies."""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sidecar.fakes import Sent

Fate = Callable[[], str]


class Sink:
    """Stores what it is sent by model path and batch id, over restarts on one port; a repeated id must have its bytes.

    `fate` says what happens to a request: "stored", "lost" (stored, but the answer never leaves), "busy" (429),
    "failed" (503) or "hung up" (read and forgotten).
    """

    def __init__(self, port: int, fate: Fate) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.fate = fate
        self.url = f"http://127.0.0.1:{port}"
        self.stored: dict[tuple[str, str], Sent] = {}
        self.fates: Counter[str] = Counter()
        self.changed: list[str] = []  # ids that came again with other bytes
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer, which is two writes, takes 40 ms

            def setup(self) -> None:
                super().setup()
                sink._open.add(self.connection)

            def finish(self) -> None:
                sink._open.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, reply = sink._take(Sent(self.path, body, dict(self.headers)))
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A client may hang up as it likes."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """As a death: connections that are open get no answer any more."""
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, sent: Sent) -> tuple[int, bytes]:
        with self._lock:
            fate = self.fate()
            self.fates[fate] += 1
            if fate in ("busy", "failed", "hung up"):
                return {"busy": 429, "failed": 503, "hung up": 0}[fate], b"{}"
            known = self.stored.setdefault((sent.url, sent.headers["Idempotency-Key"]), sent)
            if known.body != sent.body:
                self.changed.append(sent.header["id"])
            reply = {"id": sent.header["id"], "accepted": sent.rows, "rejected": 0, "errors": []}
            return (0 if fate == "lost" else 200), json.dumps(reply).encode()

    def batches(self, kind: str) -> list[Sent]:
        return [sent for (path, _), sent in self.stored.items() if path.endswith(f"/{kind}")]

    def ids(self, kind: str) -> list[str]:
        """The request id of every row stored, in no order."""
        return [each for sent in self.batches(kind) for each in sent.inputs["driftd.id"]]
