"""Takes every POST on loopback, reads it to the end and answers 200, as cheaply as Python can. Prints its port."""

import re
import socket
import threading

PATH = "/v1/models/m/predictions"
REPLY = b'{"accepted":1,"rejected":0,"errors":[]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(REPLY),
    REPLY,
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def serve(connection: socket.socket) -> None:
    """One keep-alive connection, until the other side ends it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    scratch = bytearray(1 << 20)
    while True:
        while b"\r\n\r\n" not in waiting:
            piece = connection.recv(65_536)
            if not piece:
                return
            waiting += piece
        head, _, waiting = waiting.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        left = (int(found[1]) if found else 0) - len(waiting)
        while left > 0:
            left -= connection.recv_into(scratch, min(left, len(scratch)))
        waiting = b""
        connection.sendall(ANSWER)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
