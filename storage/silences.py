"""Silences: matchers and a span of wall time; written at once, so that a restart forgets none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from storage.errors import NotFound, StorageError
from storage.rows import many, new_id, one
from storage.tables import silences


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRow:
    """A stored silence; each matcher is a JSON object as `alerts` writes it, `expired_at` is set if ended by hand."""

    id: int
    matchers: Sequence[Mapping[str, Any]]
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    created_at: datetime
    expired_at: datetime | None


def add(
    conn: Connection,
    *,
    matchers: Sequence[Mapping[str, Any]],
    starts_at: datetime,
    ends_at: datetime,
    author: str,
    comment: str,
    now: datetime,
) -> int:
    """Store a silence and return its id; `ends_at` must lie after `starts_at`."""
    if ends_at <= starts_at:
        raise StorageError(f"ends_at {ends_at.isoformat()} must lie after starts_at {starts_at.isoformat()}")
    values = {
        "matchers": [dict(matcher) for matcher in matchers],
        "starts_at": starts_at,
        "ends_at": ends_at,
        "author": author,
        "comment": comment,
        "created_at": now,
    }
    return new_id(conn, insert(silences), values)


def get(conn: Connection, silence_id: int) -> SilenceRow:
    """One silence; NotFound if there is none with that id."""
    found = one(conn, select(silences).where(silences.c.id == silence_id), SilenceRow)
    if found is None:
        raise NotFound(f"there is no silence with id {silence_id}")
    return found


def list_silences(conn: Connection, *, limit: int = 100) -> list[SilenceRow]:
    """All silences, ended ones too, newest first."""
    return many(conn, select(silences).order_by(silences.c.id.desc()).limit(limit), SilenceRow)


def active(conn: Connection, *, now: datetime) -> list[SilenceRow]:
    """The silences in force at `now` (starts_at ≤ now < ends_at, not expired), oldest first."""
    query = (
        select(silences)
        .where(silences.c.starts_at <= now, silences.c.ends_at > now, silences.c.expired_at.is_(None))
        .order_by(silences.c.id)
    )
    return many(conn, query, SilenceRow)


def expire(conn: Connection, silence_id: int, *, now: datetime) -> bool:
    """End a silence by hand; False if it has ended already. NotFound if there is none with that id."""
    get(conn, silence_id)
    live = (silences.c.id == silence_id, silences.c.expired_at.is_(None), silences.c.ends_at > now)
    return conn.execute(update(silences).where(*live).values(expired_at=now)).rowcount == 1
