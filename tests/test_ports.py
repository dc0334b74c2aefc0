"""A reserved port is nobody's until a server that was told of it listens there."""

import socket

import pytest

from tests.ports import reserved_port


def test_nobody_listens_on_a_reserved_port_but_who_is_told_of_it() -> None:
    one, two = reserved_port(), reserved_port()
    assert one != two
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one))
    with socket.create_server(("127.0.0.1", one)), socket.create_connection(("127.0.0.1", one)) as client:
        assert client.getsockname()[1] not in (one, two)
    with pytest.raises(ConnectionRefusedError):  # and it is still reserved when that server is gone
        socket.create_connection(("127.0.0.1", one))
