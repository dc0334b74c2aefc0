"""One name for what either driver says went wrong."""

from storage import postgres, sqlite
from storage.errors import StorageError


def translate(error: BaseException) -> StorageError:
    """The StorageError that says what `error` means; it holds no statement and no parameter."""
    if isinstance(error, StorageError):
        return error
    # Every error of psycopg has it, None where the server had no say.
    return postgres.translate(error) if hasattr(error, "sqlstate") else sqlite.translate(error)
