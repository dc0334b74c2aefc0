"""What storage refuses or fails to do; every error of this folder is a StorageError."""


class StorageError(Exception):
    """The store could not do what was asked; the message says why and what to do."""


class StateDirectoryInUse(StorageError):
    """Another driftd daemon holds the lock of this state directory."""


class DatabaseRefused(StorageError):
    """The file in the state directory is not a database this daemon may open; nothing was changed."""


class SchemaTooNew(DatabaseRefused):
    """The database was written by a newer driftd than this one."""


class StorageClosed(StorageError):
    """The database was closed; nothing was written."""


class StorageBusy(StorageError):
    """Somebody else kept locked what was needed, for longer than the timeout; nothing was written, try again."""


class StorageFull(StorageError):
    """The disk or the database's size limit is full; nothing was written, and writes resume when there is room."""


class StorageBroken(StorageError):
    """The database failed (I/O error, damage, lost permission, lost connection); nothing was acknowledged."""


class StorageReadOnly(StorageBroken):
    """The server takes no writes, as after a failover; nothing was written, and the next write connects anew."""


class OutcomeUnknown(StorageBroken):
    """The connection was lost during COMMIT and nobody can say what became of it: look before trying again."""


class ConstraintViolated(StorageError):
    """A row contradicts one that is stored: a key exists already, or what it refers to does not exist."""


class Overtaken(StorageError):
    """Another daemon has written what this was computed from: nothing was written, look again."""


class NotFound(StorageError):
    """A row that was named by its id does not exist."""


class Immutable(StorageError):
    """A stored fact would have been changed that is never changed once written."""
