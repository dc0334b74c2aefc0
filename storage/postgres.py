"""PostgreSQL's own side: the address, how a connection is opened, and what the server's error codes mean.

Every setting travels with BEGIN (`SET LOCAL`) and nothing is prepared, so all of it works behind PgBouncer's
transaction pooling too, where the next transaction may run on another connection. The driver is imported when an
address is used: it comes with the extra `postgres`.
"""

import re
from typing import Any, Final

from sqlalchemy import Connection, Engine, ExceptionContext, NullPool, Pool, QueuePool, create_engine, event

from storage.errors import (
    ConstraintViolated,
    DatabaseRefused,
    StorageBroken,
    StorageBusy,
    StorageError,
    StorageFull,
    StorageReadOnly,
)

CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 60
LOCK_SECONDS: Final = 5
IDLE_SECONDS: Final = 60
POOL_SECONDS: Final = 5.0
_READERS_KEPT: Final = 4
_READERS_MORE: Final = 12

# By the five characters of the error, else by its class, the first two (PostgreSQL's appendix A).
_CODES: Final[dict[str, type[StorageError]]] = {
    "23": ConstraintViolated,
    "40": StorageBusy,  # serialization, deadlock
    "53": StorageBusy,  # too many connections, out of memory
    "08": StorageBroken,
    "57": StorageBroken,  # shut down, starting up
    "58": StorageBroken,  # I/O error
    "XX": StorageBroken,  # internal error, damage
    "25006": StorageReadOnly,
    "25P03": StorageBroken,  # idle in transaction for too long
    "53100": StorageFull,
    "55P03": StorageBusy,  # lock timeout
    "57014": StorageBusy,  # statement timeout
}


class Address:
    """Where a PostgreSQL database is. The URL may hold a password, so it is in no text but the one for the driver."""

    def __init__(self, url: str) -> None:
        """`url` as `postgres://`, `postgresql://` or `postgresql+psycopg://`. DatabaseRefused, without the URL in it."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
            raise DatabaseRefused(
                "storage.url: not an address of PostgreSQL: it begins with postgresql:// (or postgres://)"
            )
        psycopg = _driver()
        try:
            self._parts: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(f"postgresql://{rest}")
        except psycopg.Error:
            raise DatabaseRefused(
                "storage.url: cannot be read as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; "
                "is a character such as @, / or % in the password not written as %XX?"
            ) from None
        # No part of an error message may be the password or the whole; libpq itself repeats neither.
        self._secrets = sorted(
            {found for found in (url, rest, self._parts.get("password")) if found}, key=len, reverse=True
        )

    def __repr__(self) -> str:
        """Without user, password and options."""
        return f"Address({self.name!r})"

    @property
    def name(self) -> str:
        """How messages call it: database and host, neither user nor password."""
        database = self._parts.get("dbname") or "of the user's name"
        host = self._parts.get("host") or self._parts.get("hostaddr") or "the local socket"
        port = self._parts.get("port")
        return f"PostgreSQL database {database} on {host}" + (f":{port}" if port else "")

    def clean(self, text: str) -> str:
        """One line without any part that is a secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())

    def connect(self, *, writing: bool) -> Any:
        """A psycopg connection in autocommit mode: transactions are begun and ended by SQL. Raises StorageError."""
        psycopg = _driver()
        defaults: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": 1000 * STATEMENT_SECONDS // 2,
            "keepalives_idle": 30,
            "application_name": "driftd",
            "client_encoding": "utf8",
        }
        if writing and "," in str(self._parts.get("host", "")):
            # Of several hosts the one that takes writes, so that a failover needs no new configuration.
            defaults["target_session_attrs"] = "read-write"
        try:
            return psycopg.connect(autocommit=True, prepare_threshold=None, **(defaults | self._parts))
        except psycopg.Error as error:
            kind = type(translate(error))
            kind = StorageBroken if kind is StorageError else kind
            raise kind(f"{self.name}: {self.clean(str(error))}") from None


def write_engine(address: Address) -> Engine:
    """An engine whose connections write; the caller keeps one of them."""
    engine = _engine(address, writing=True, poolclass=NullPool)
    event.listen(engine, "begin", _begin_writing)
    return engine


def read_engine(address: Address) -> Engine:
    """An engine whose connections read, each from one snapshot until it is given back."""
    engine = _engine(
        address,
        writing=False,
        poolclass=QueuePool,
        pool_size=_READERS_KEPT,
        max_overflow=_READERS_MORE,
        pool_timeout=POOL_SECONDS,
    )
    event.listen(engine, "begin", _begin_reading)
    return engine


def _engine(address: Address, *, writing: bool, poolclass: type[Pool], **pooling: Any) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: address.connect(writing=writing),
        poolclass=poolclass,
        hide_parameters=True,
        use_native_hstore=False,
        **pooling,
    )
    event.listen(engine, "handle_error", _translate_context)
    return engine


_LOCAL: Final = (
    f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; "
)
_WRITING: Final = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LOCAL}SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
    # A database that is set to answer before it has written would make an acknowledgement a guess.
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
_READING: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LOCAL}"


def _begin_writing(conn: Connection) -> None:
    conn.exec_driver_sql(_WRITING)


def _begin_reading(conn: Connection) -> None:
    conn.exec_driver_sql(_READING)


def _translate_context(context: ExceptionContext) -> None:
    error = context.original_exception
    translated = translate(error)
    if hasattr(error, "sqlstate"):
        # The server's detail quotes the row (keys, names); a traceback must not show what the message leaves out.
        error.args = (str(translated),)
    raise translated from error


def translate(error: BaseException) -> StorageError:
    """The StorageError that says what `error` means; it holds no statement and no parameter."""
    if isinstance(error, StorageError):
        return error
    code = getattr(error, "sqlstate", None)
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    text = " ".join(str(primary or error).split())
    if code is None:
        # The server had no say: the connection is gone, or the driver refused a value.
        gone = type(error).__name__ in ("OperationalError", "InterfaceError")
        return StorageBroken(f"connection lost: {text}") if gone else StorageError(text)
    kind = _CODES.get(code) or _CODES.get(code[:2], StorageError)
    return kind(f"{text} (SQLSTATE {code})")


def is_connection_loss(error: BaseException) -> bool:
    """Whether an error of the driver leaves open what the server did last: nobody answered, or it was shutting down."""
    code = getattr(error, "sqlstate", None)
    if code is None:
        return isinstance(translate(error), StorageBroken)
    return bool(re.fullmatch(r"08...|57P0[1-5]", code))


def _driver() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError:
        raise DatabaseRefused(
            "storage.url: PostgreSQL's driver is not installed: pip install 'driftd[postgres]'"
        ) from None
    return psycopg
