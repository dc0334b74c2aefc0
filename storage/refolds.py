"""Re-folds: how far the retained rows of a version have been counted on its newer baseline."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from storage.rows import many, one
from storage.tables import refolds
from storage.upsert import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class RefoldRow:
    """One re-fold onto `baseline_id`: batches with an id up to `after_id` are done.

    It takes rows from `start` (epoch seconds) on. `rows` are those counted so far, in panes that begin at `first` to
    `last` (epoch seconds). `kept_share` (0 to 1) of that span's rows still had their payload when it began. Both are
    None until the first step.
    """

    baseline_id: int
    version_id: int
    started_at: datetime
    start: int | None = None
    after_id: int = 0
    rows: int = 0
    kept_share: float | None = None
    first: int | None = None
    last: int | None = None
    finished_at: datetime | None = None


def put(conn: Connection, row: RefoldRow) -> None:
    """Begin one, or write how far it is in the transaction that counts its rows."""
    fields = ("start", "after_id", "rows", "kept_share", "first", "last", "started_at", "finished_at")
    upsert(conn, refolds, [asdict(row)], update=fields)


def get(conn: Connection, baseline_id: int) -> RefoldRow | None:
    """The re-fold onto a baseline; None if there was nothing to fold again."""
    return one(conn, select(refolds).where(refolds.c.baseline_id == baseline_id), RefoldRow)


_UNFINISHED = select(refolds).where(refolds.c.finished_at.is_(None)).order_by(refolds.c.baseline_id)


def unfinished(conn: Connection) -> list[RefoldRow]:
    """Every re-fold that is not finished, oldest baseline first."""
    return many(conn, _UNFINISHED, RefoldRow)
