"""Tokens by digest alone, an audit trail, the last run of each job, and daemons by lease."""

import hashlib
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from storage import operations
from storage.errors import ConstraintViolated, NotFound, StorageError
from storage.operations import AuditEntry, JobRun, Writer
from tests.storage.conftest import START, after

DIGEST = hashlib.sha256(b"a token").hexdigest()


def test_a_token_is_its_digest_until_it_is_revoked(conn: Connection) -> None:
    token_id = operations.add_token(
        conn, name="sidecar", digest=DIGEST, scopes=["read", "ingest:credit"], now=START
    )
    (token,) = operations.active_tokens(conn)
    assert (token.id, token.digest, token.scopes) == (token_id, DIGEST, ["ingest:credit", "read"])
    assert operations.revoke_token(conn, token_id, now=after(5))
    assert not operations.revoke_token(conn, token_id, now=after(6))
    assert operations.active_tokens(conn) == []
    assert [row.revoked_at for row in operations.list_tokens(conn)] == [after(5)]
    with pytest.raises(NotFound):
        operations.revoke_token(conn, 4711, now=START)
    with pytest.raises(ConstraintViolated):
        operations.add_token(conn, name="again", digest=DIGEST, scopes=[], now=START)


@pytest.mark.parametrize("digest", ["a token", DIGEST.upper(), DIGEST[:-1], ""])
def test_a_token_itself_is_refused(conn: Connection, digest: str) -> None:
    with pytest.raises(StorageError, match="64 lower-case hex digits, never the token itself") as refused:
        operations.add_token(conn, name="x", digest=digest, scopes=[], now=START)
    assert "a token" not in str(refused.value)


def test_the_audit_trail_is_newest_first(conn: Connection) -> None:
    entries = [
        AuditEntry(
            at=after(at), actor="ada", action="baseline.accept", target=f"alert {at}", detail={"rows": at}
        )
        for at in (1, 2, 3)
    ]
    for entry in entries:
        operations.record_audit(conn, entry)
    assert operations.list_audit(conn) == entries[::-1]
    assert operations.list_audit(conn, since=after(2), limit=1) == entries[2:]


def test_the_last_run_of_a_job_replaces_the_one_before(conn: Connection) -> None:
    running = JobRun(job="rollup", started_at=after(10))
    operations.record_job_run(conn, replace(running, finished_at=after(11), ok=True, detail="60 panes"))
    operations.record_job_run(conn, running)
    operations.record_job_run(
        conn, JobRun(job="backup", started_at=START, finished_at=after(2), ok=False, detail="disk full")
    )
    assert operations.list_job_runs(conn) == [
        JobRun(job="backup", started_at=START, finished_at=after(2), ok=False, detail="disk full"),
        running,
    ]


def test_a_daemon_is_alive_while_its_lease_lasts(conn: Connection) -> None:
    first = Writer(id="daemon-1", host="a", pid=10, started_at=START, lease_until=after(30))
    second = replace(first, id="daemon-2", lease_until=after(60))
    for writer in (first, second):
        operations.register_writer(conn, writer)
    assert operations.expired_writers(conn, now=after(29)) == []
    assert operations.expired_writers(conn, now=after(30)) == [first]
    assert operations.renew_writer(conn, "daemon-1", lease_until=after(90))
    assert operations.expired_writers(conn, now=after(60)) == [second]
    assert operations.remove_writer(conn, "daemon-2")
    assert not operations.remove_writer(conn, "daemon-2")
    assert not operations.renew_writer(conn, "daemon-2", lease_until=after(90))
    operations.register_writer(conn, replace(first, pid=11))
    assert operations.list_writers(conn) == [replace(first, pid=11)]
