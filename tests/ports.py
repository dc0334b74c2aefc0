"""Ports for servers of another process, and for nobody: no other test, in whichever process it runs, is given them."""

import socket


def reserved_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, for as long as this process lives.

    It stays bound, so that the kernel gives it to nobody who asks for any port or connects from one; a server that is
    told of it may listen on it, because it sets SO_REUSEADDR, as all do, and the one that holds it never listens.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    holder.detach()  # open until the process ends
    return port
