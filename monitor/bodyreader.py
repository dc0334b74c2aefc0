"""The rest of a large body, read by the kernel into the place it is wanted at.

An HTTP parser copies what it is given piece by piece, after the event loop has copied it out of its own buffer. Of a body whose
length was said, nothing is left to parse but its end.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from monitor.direct import Posting

LEAST_BYTES: Final = 32 * 2**10


class Connection(Protocol):
    """Whose body it is, and who goes on afterwards."""

    def body_came(self, count: int) -> None:
        """Bytes of the body have come."""

    def body_ended(self) -> None:
        """The body is whole, or has been read to its end for nothing."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The other side reads too slowly."""

    def resume_writing(self) -> None:
        """It has caught up."""


class BodyReader(asyncio.BufferedProtocol):
    """In the place of a connection's protocol until `room` is full; `give_back` is called once, whatever happens."""

    def __init__(
        self, connection: Connection, posting: Posting, room: bytearray, give_back: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._posting = posting
        self._room = room
        self._view = memoryview(room)
        self._at = 0
        self._ended = False
        self._give_back = give_back

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - what is missing is what is wanted
        return self._view[self._at :]

    def buffer_updated(self, nbytes: int) -> None:
        self._at += nbytes
        self._connection.body_came(nbytes)
        if not self._posting.response_complete:
            self._posting.grow(nbytes)
        if self._at == len(self._room):
            if not self._posting.response_complete:
                self._posting.feed(self._room)
            self._end()
            self._connection.body_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._give_back(len(self._room))
