"""Who may do what, who did what, which jobs ran, and which daemons write here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from storage.errors import NotFound, StorageError
from storage.rows import many, new_id
from storage.tables import audit, job_runs, tokens, writers
from storage.upsert import upsert

_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A bearer token by the sha256 of its secret (64 hex digits); the secret itself is nowhere."""

    id: int
    name: str
    digest: str
    scopes: Sequence[str]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to what; `detail` is JSON and holds no secret."""

    at: datetime
    actor: str
    action: str
    target: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """The last run of a job; `finished_at` and `ok` are None while it runs, or if the daemon died in it."""

    job: str
    started_at: datetime
    finished_at: datetime | None = None
    ok: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One daemon instance that writes here, alive until `lease_until` unless it renews."""

    id: str
    host: str
    pid: int
    started_at: datetime
    lease_until: datetime


def add_token(conn: Connection, *, name: str, digest: str, scopes: Sequence[str], now: datetime) -> int:
    """Store a token's digest and return its id; a digest that exists raises ConstraintViolated."""
    if len(digest) != _DIGEST_LENGTH or not set(digest) <= set("0123456789abcdef"):
        raise StorageError(
            "digest: pass the sha256 of the token as 64 lower-case hex digits, never the token itself"
        )
    values = {"name": name, "digest": digest, "scopes": sorted(scopes), "created_at": now}
    return new_id(conn, insert(tokens), values)


def active_tokens(conn: Connection) -> list[TokenRow]:
    """The tokens that are not revoked; few, so that the caller compares with each in constant time."""
    query = select(tokens).where(tokens.c.revoked_at.is_(None)).order_by(tokens.c.id)
    return many(conn, query, TokenRow)


def list_tokens(conn: Connection) -> list[TokenRow]:
    """All tokens, revoked ones too, oldest first."""
    return many(conn, select(tokens).order_by(tokens.c.id), TokenRow)


def revoke_token(conn: Connection, token_id: int, *, now: datetime) -> bool:
    """Revoke a token; False if it was revoked before. NotFound if there is none with that id."""
    if conn.execute(select(tokens.c.id).where(tokens.c.id == token_id)).one_or_none() is None:
        raise NotFound(f"there is no token with id {token_id}")
    live = (tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    return conn.execute(update(tokens).where(*live).values(revoked_at=now)).rowcount == 1


def record_audit(conn: Connection, entry: AuditEntry) -> None:
    """Append to the audit trail, in the transaction of what was done."""
    conn.execute(insert(audit), asdict(entry))


def list_audit(conn: Connection, *, since: datetime | None = None, limit: int = 100) -> list[AuditEntry]:
    """The audit trail, newest first."""
    row = audit.c
    query = select(row.at, row.actor, row.action, row.target, row.detail).order_by(row.id.desc()).limit(limit)
    if since is not None:
        query = query.where(row.at >= since)
    return many(conn, query, AuditEntry)


def record_job_run(conn: Connection, run: JobRun) -> None:
    """Write the last run of a job: once when it starts, once when it ends."""
    upsert(conn, job_runs, [asdict(run)], update=("started_at", "finished_at", "ok", "detail"))


def list_job_runs(conn: Connection) -> list[JobRun]:
    """The last run of every job, by name."""
    return many(conn, select(job_runs).order_by(job_runs.c.job), JobRun)


def register_writer(conn: Connection, writer: Writer) -> None:
    """Announce a daemon instance, or renew all of what is known of it."""
    upsert(conn, writers, [asdict(writer)], update=("host", "pid", "started_at", "lease_until"))


def renew_writer(conn: Connection, writer_id: str, *, lease_until: datetime) -> bool:
    """Prolong the lease; False if the writer was removed meanwhile and must register again."""
    statement = update(writers).where(writers.c.id == writer_id).values(lease_until=lease_until)
    return conn.execute(statement).rowcount == 1


def list_writers(conn: Connection) -> list[Writer]:
    """All writers, by id."""
    return many(conn, select(writers).order_by(writers.c.id), Writer)


def expired_writers(conn: Connection, *, now: datetime) -> list[Writer]:
    """The writers whose lease has run out, by id: their unfolded batches may be reassigned."""
    query = select(writers).where(writers.c.lease_until <= now).order_by(writers.c.id)
    return many(conn, query, Writer)


def remove_writer(conn: Connection, writer_id: str) -> bool:
    """Forget a writer, on a clean stop or after its batches were taken over; False if it is not known."""
    return conn.execute(delete(writers).where(writers.c.id == writer_id)).rowcount == 1
