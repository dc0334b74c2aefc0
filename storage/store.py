"""What the two engines have in common once a database is open, and the little in which they differ."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from storage.errors import StorageError


class Link(Protocol):
    """What the writing thread must know of its engine. One thread uses it."""

    @property
    def engine(self) -> Engine:
        """The engine whose connections write; one of them is kept."""

    def translate(self, error: BaseException) -> StorageError:
        """The StorageError that says what an error of the driver means."""

    def stands(self, conn: Connection) -> bool:
        """Whether the transaction begun on `conn` is still open, so that what was done in it can be committed."""

    def receipt(self, conn: Connection) -> object:
        """What `committed` needs to find out later whether this transaction, now complete, was committed.

        None where it has written nothing.
        """

    def committed(self, receipt: object, error: BaseException) -> bool:
        """Whether a transaction whose COMMIT ended in `error` is in the database after all.

        Raises OutcomeUnknown where nobody can say.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An open database: how it is written, read, copied and let go.

    `name` is how messages call it, without any secret. `path` is the file, None on a server. `shared` says that several
    daemons may write. `opened` is called once the writing connection stands, `closing` before it is closed, `release`
    last, once.
    """

    name: str
    path: Path | None
    shared: bool
    link: Link
    readers: Engine
    backup: Callable[[Path], int]
    release: Callable[[], None]
    opened: Callable[[], None] = lambda: None
    closing: Callable[[], None] = lambda: None
