"""One thread writes: groups share a COMMIT, answers come after it, and a failure is its own."""

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from storage import models, writer
from storage.engine import Address, Database
from storage.errors import (
    ConstraintViolated,
    StorageBroken,
    StorageClosed,
    StorageError,
    StorageFull,
)
from tests.storage.conftest import START

WAIT = 10


@pytest.fixture
def database(where: Path | Address) -> Iterator[Database]:
    """A group is as large as it may be, however slow the machine is at the moment."""
    with Database.open(where, clock=lambda: 0.0) as opened:
        yield opened


def add(name: str) -> Callable[[Connection], int]:
    return lambda conn: models.ensure_model(conn, name, now=START).id


def names(database: Database) -> list[str]:
    with database.read() as conn:
        return [model.name for model in models.list_models(conn)]


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Keep the writing thread busy inside the block, so that what is submitted there is queued and forms groups."""
    started, go_on = threading.Event(), threading.Event()

    def wait(conn: Connection) -> None:
        started.set()
        assert go_on.wait(WAIT)

    holding = database.write(wait)
    assert started.wait(WAIT)
    try:
        yield
    finally:
        go_on.set()
    holding.result(WAIT)


@pytest.fixture
def commits(database: Database) -> list[int]:
    """Grows by one with every COMMIT of the writing connection."""
    seen: list[int] = []
    event.listen(database._engine, "commit", lambda conn: seen.append(1))
    return seen


def test_queued_writes_share_one_commit(database: Database, commits: list[int]) -> None:
    with held(database):
        futures = [database.write(add(f"model-{i:02}")) for i in range(writer.GROUP_LIMIT)]
        assert database.pending_writes == writer.GROUP_LIMIT + 1
    assert len({future.result(WAIT) for future in futures}) == writer.GROUP_LIMIT
    assert len(commits) == 2  # that of the holding write, and one for all sixteen
    assert len(names(database)) == writer.GROUP_LIMIT


def test_a_long_queue_is_committed_in_groups(database: Database, commits: list[int]) -> None:
    with held(database):
        futures = [database.write(add(f"model-{i:02}")) for i in range(2 * writer.GROUP_LIMIT + 1)]
    for future in futures:
        future.result(WAIT)
    assert len(commits) == 1 + 3


def test_after_a_crowd_a_group_waits_for_company_and_a_client_alone_never_does(
    database: Database, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMPANY_SECONDS", 600.0)
    monkeypatch.setattr(writer, "GROUP_LIMIT", 3)
    for number in range(3):
        database.write(add(f"alone-{number}"), urgent=True).result(WAIT)
    with held(database):
        crowd = [database.write(add(f"crowd-{number}"), urgent=True) for number in range(2)]
    for future in crowd:
        future.result(WAIT)
    before = len(commits)
    later = [database.write(add(f"later-{number}"), urgent=True) for number in range(3)]
    for future in later:
        future.result(WAIT)
    assert len(commits) == before + 1


def test_close_waits_for_no_company(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMPANY_SECONDS", 600.0)
    database = Database.open(state_dir)
    with held(database):
        crowd = [database.write(add(f"crowd-{number}"), urgent=True) for number in range(2)]
    for future in crowd:
        future.result(WAIT)
    last = database.write(add("last"), urgent=True)
    database.close()
    assert last.result(0) > 0


def test_a_future_is_done_only_after_the_commit(database: Database) -> None:
    seen: dict[str, object] = {}
    first: list[Future[int]] = []

    def look_from_outside(conn: Connection) -> None:
        seen["inside"] = [model.name for model in models.list_models(conn)]
        seen["outside"] = names(database)
        seen["first is done"] = first[0].done()

    with held(database):
        first.append(database.write(add("credit")))
        second = database.write(look_from_outside)
    second.result(WAIT)
    assert seen == {"inside": ["credit"], "outside": [], "first is done": False}
    assert first[0].done()
    assert names(database) == ["credit"]


def test_at_the_moment_a_future_is_done_another_connection_sees_the_row(database: Database) -> None:
    seen: list[list[str]] = []
    with held(database):
        future = database.write(add("credit"))
        future.add_done_callback(lambda done: seen.append(names(database)))
    future.result(WAIT)
    database.close()
    assert seen == [["credit"]]


def test_a_write_that_fails_in_a_group_fails_alone_and_leaves_nothing(
    database: Database, commits: list[int]
) -> None:
    def fail_late(conn: Connection) -> None:
        models.ensure_model(conn, "half", now=START)
        raise LookupError("on purpose")

    def break_a_rule(conn: Connection) -> None:
        models.ensure_model(conn, "dangling", now=START)
        models.ensure_version(conn, 4711, "v1", now=START)

    with held(database):
        before, failing = database.write(add("before")), database.write(fail_late)
        dangling, after = database.write(break_a_rule), database.write(add("after"))
    assert before.result(WAIT) > 0
    assert after.result(WAIT) > 0
    with pytest.raises(LookupError, match="on purpose"):
        failing.result(WAIT)
    with pytest.raises(ConstraintViolated, match=r"(?i)foreign key constraint"):
        dangling.result(WAIT)
    assert names(database) == ["after", "before"]
    assert len(commits) == 2
    assert database.healthy


def test_a_commit_that_fails_fails_the_whole_group(database: Database) -> None:
    def promise_too_much(conn: Connection) -> None:
        # Deferred references are looked at by COMMIT only.
        conn.exec_driver_sql(
            "PRAGMA defer_foreign_keys = ON"
            if conn.dialect.name == "sqlite"
            else "ALTER TABLE model_versions ALTER CONSTRAINT fk_model_versions_model_id DEFERRABLE INITIALLY DEFERRED"
        )
        conn.exec_driver_sql(
            "INSERT INTO model_versions (model_id, version, stage, registered_at)"
            " VALUES (4711, 'v', 's', '2026-03-01')"
        )

    with held(database):
        innocent, guilty = database.write(add("innocent")), database.write(promise_too_much)
    for future in (innocent, guilty):
        with pytest.raises(ConstraintViolated, match=r"(?i)nothing was written: .*foreign key"):
            future.result(WAIT)
    assert names(database) == []
    assert not database.healthy
    assert "foreign key" in str(database.last_error).lower()
    assert database.write(add("next")).result(WAIT) > 0
    assert names(database) == ["next"]
    assert database.healthy
    assert database.last_error is None


def test_urgent_writes_go_first_and_each_class_keeps_its_order(database: Database) -> None:
    order: list[str] = []
    with held(database):
        futures = [
            database.write(lambda conn, name=name: order.append(name), urgent=name.startswith("urgent"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            for name in ("fold", "urgent 1", "evaluate", "urgent 2")
        ]
    for future in futures:
        future.result(WAIT)
    assert order == ["urgent 1", "urgent 2", "fold", "evaluate"]


def test_a_group_that_takes_too_long_is_committed_early_and_the_rest_keeps_its_order(
    where: Path | Address,
) -> None:
    now = [0.0]
    order: list[str] = []

    def slow(name: str) -> Callable[[Connection], None]:
        def work(conn: Connection) -> None:
            order.append(name)
            now[0] += writer.GROUP_SECONDS * 0.6

        return work

    with Database.open(where, clock=lambda: now[0]) as database:
        commits: list[int] = []
        event.listen(database._engine, "commit", lambda conn: commits.append(len(order)))
        with held(database):
            futures = [database.write(slow(name)) for name in "abcde"]
        for future in futures:
            future.result(WAIT)
    assert order == list("abcde")
    assert commits == [0, 2, 4, 5]


def test_a_cancelled_write_is_skipped_also_where_another_of_its_group_raises(database: Database) -> None:
    """The group is run a second time, write by write: nobody wants this one any more then either."""

    def fails(_: Connection) -> None:
        raise ValueError("mine")

    with held(database):
        cancelled = database.write(add("cancelled"), urgent=True)
        failing = database.write(fails, urgent=True)
        kept = database.write(add("kept"), urgent=True)
        assert cancelled.cancel()
    with pytest.raises(ValueError, match="mine"):
        failing.result(WAIT)
    kept.result(WAIT)
    assert names(database) == ["kept"]


def test_a_cancelled_write_is_skipped(database: Database) -> None:
    with held(database):
        kept, cancelled = database.write(add("kept")), database.write(add("cancelled"))
        assert cancelled.cancel()
    kept.result(WAIT)
    assert names(database) == ["kept"]


def test_close_writes_what_is_queued_and_refuses_the_rest(where: Path | Address) -> None:
    database = Database.open(where)
    with held(database):
        futures = [database.write(add(f"model-{i:02}")) for i in range(40)]
        closing = threading.Thread(target=database.close)
        closing.start()
    closing.join(WAIT)
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StorageClosed):
        database.write(add("late"))
    with Database.open_readonly(where) as reader, reader.read() as conn:
        assert len(models.list_models(conn)) == 40


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(database: Database) -> None:
    with pytest.raises(StorageError, match="from inside a write"):
        database.write(lambda conn: database.write(add("inner")).result(WAIT)).result(WAIT)


def test_an_open_reader_never_blocks_the_writer_and_keeps_its_snapshot(database: Database) -> None:
    with database.read() as conn:
        assert models.list_models(conn) == []
        for i in range(20):
            database.write(add(f"model-{i:02}")).result(WAIT)
        assert models.list_models(conn) == []
    assert len(names(database)) == 20


def test_many_threads_write_and_every_answer_is_true(database: Database) -> None:
    answers: dict[str, int] = {}

    def client(number: int) -> None:
        for i in range(25):
            name = f"model-{number}-{i}"
            answers[name] = database.write(add(name), urgent=i % 2 == 0).result(WAIT)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    with database.read() as conn:
        assert {model.name: model.id for model in models.list_models(conn)} == answers
    assert len(answers) == 200


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_writes_until_there_is_room_again(database: Database) -> None:
    def limit(pages: int) -> Callable[[Connection], int]:
        return lambda conn: int(conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar_one())

    def fill(conn: Connection) -> None:
        for i in range(200):
            models.ensure_model(conn, f"{i} " + "x" * 8000, now=START)

    database.write(add("before")).result(WAIT)
    database.write(limit(1)).result(WAIT)  # SQLite makes it the pages there are
    with pytest.raises(StorageFull, match=r"database or disk is full \(SQLITE_FULL\)"):
        database.write(fill).result(WAIT)
    assert not database.healthy
    assert names(database) == ["before"]
    database.write(limit(100_000)).result(WAIT)
    database.write(fill).result(WAIT)
    assert len(names(database)) == 201
    assert database.healthy


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_after_an_io_error_nothing_is_acknowledged_and_a_new_connection_goes_on(database: Database) -> None:
    def much(conn: Connection) -> None:
        for i in range(500):
            models.ensure_model(conn, f"{i} " + "x" * 8000, now=START)

    raw = database.write(lambda conn: conn.connection.driver_connection).result(WAIT)
    assert isinstance(raw, sqlite3.Connection)
    database.write(add("before")).result(WAIT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (database.wal_bytes + 64 * 1024, hard))
    try:
        with held(database):
            innocent, guilty = database.write(add("innocent")), database.write(much)
        for future in (innocent, guilty):
            with pytest.raises((StorageBroken, StorageFull)):
                future.result(WAIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not database.healthy
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        raw.execute("SELECT 1")  # two connections that write would be one too many
    assert names(database) == ["before"]
    database.write(add("after")).result(WAIT)
    assert names(database) == ["after", "before"]
    assert database.healthy


def test_neither_statement_nor_parameters_are_in_an_error(database: Database) -> None:
    name = {"name": "s3cret"}

    def twice(conn: Connection) -> None:
        for _ in range(2):
            conn.execute(text("INSERT INTO models (name, created_at) VALUES (:name, '2026-03-01')"), name)

    with pytest.raises(ConstraintViolated) as refused:
        database.write(twice).result(WAIT)
    assert "s3cret" not in str(refused.value)
    assert "INSERT" not in str(refused.value)
    assert "s3cret" not in str(refused.value.__cause__)


def test_ingest_is_written_together_and_one_by_one_only_where_a_write_of_it_raises(
    database: Database,
) -> None:
    ran: list[str] = []

    def insert(name: str) -> Callable[[Connection], None]:
        def write(conn: Connection) -> None:
            ran.append(name)
            add(name)(conn)
            if name == "bad":
                raise LookupError("on purpose")

        return write

    with held(database):
        urgent = [database.write(insert(name), urgent=True) for name in ("a", "bad", "b")]
        later = database.write(insert("later"))
    with pytest.raises(LookupError, match="on purpose"):
        urgent[1].result(WAIT)
    for future in (urgent[0], urgent[2], later):
        future.result(WAIT)
    assert ran == ["a", "bad", "a", "bad", "b", "later"]
    assert names(database) == ["a", "b", "later"]
    ran.clear()
    with held(database):
        futures = [database.write(insert(name), urgent=True) for name in ("c", "d")]
    for future in futures:
        future.result(WAIT)
    assert ran == ["c", "d"]
