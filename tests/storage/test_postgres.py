"""What only PostgreSQL can do to us: refusals, lost connections, locks, failovers, and daemons that start together."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

from storage import locks, models, postgres, schema
from storage.engine import Address, Database
from storage.errors import (
    DatabaseRefused,
    OutcomeUnknown,
    SchemaTooNew,
    StorageBroken,
    StorageBusy,
    StorageError,
    StorageReadOnly,
)
from storage.locks import Occupied
from storage.serverstore import ServerLink, _Receipt
from tests.postgres import Server, running
from tests.proxy import Proxy
from tests.storage.conftest import START

WAIT = 20
SECRET = "s3cret-pass"


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    """The name of a database in which nothing is."""
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest.fixture
def address(postgres_server: Server, postgres_database: str) -> Address:
    return Address(postgres_server.url(postgres_database))


@pytest.fixture
def database(address: Address) -> Iterator[Database]:
    with Database.open(address) as opened:
        yield opened


@pytest.fixture
def proxy(postgres_server: Server) -> Iterator[Proxy]:
    opened = Proxy(postgres_server.port)
    yield opened
    opened.close()


def add(name: str) -> Callable[[Connection], int]:
    return lambda conn: models.ensure_model(conn, name, now=START).id


def names(database: Database) -> list[str]:
    with database.read() as conn:
        return [model.name for model in models.list_models(conn)]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_the_scheme_opens(
    postgres_server: Server, postgres_database: str, scheme: str
) -> None:
    url = postgres_server.url(postgres_database).replace("postgresql", scheme, 1)
    with Database.open(Address(url), create=False) as database:
        assert database.shared
        assert database.name == f"PostgreSQL database {postgres_database} on 127.0.0.1:{postgres_server.port}"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h/db",
        f"postgresql+asyncpg://u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@h/db?no_such_option=1",
        f"postgresql://u:{SECRET}%@h/db",
        "driftd",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"^storage\.url: ") as refused:
        Database.open(Address(url))
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("tail", ["nowhere", "nowhere?sslmode=require", "x"])
def test_who_cannot_be_reached_is_named_without_the_secret(postgres_server: Server, tail: str) -> None:
    port = 1 if tail == "x" else postgres_server.port
    address = Address(f"postgresql://driftd:{SECRET}@127.0.0.1:{port}/{tail}")
    for opening in (Database.open, Database.open_readonly):
        with pytest.raises(DatabaseRefused, match=rf"on 127\.0\.0\.1:{port}: ") as refused:
            opening(address)
        assert SECRET not in str(refused.value)
        assert "\n" not in str(refused.value)
    assert SECRET not in repr(address)
    assert address.clean(f"a {SECRET} b\nc") == "a *** b c"


def test_without_the_driver_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseRefused, match=r"not installed: pip install 'driftd\[postgres\]'"):
        Address("postgresql://h/db")


def test_an_empty_database_is_made_only_by_a_daemon(postgres_server: Server, empty: str) -> None:
    address = Address(postgres_server.url(empty))
    for refuse in (lambda: Database.open(address, create=False), lambda: Database.open_readonly(address)):
        with pytest.raises(DatabaseRefused, match=r"no tables yet: start `driftd serve` first"):
            refuse()
    Database.open(address).close()
    with Database.open_readonly(address) as reader, reader.read() as conn:
        assert schema.revision(conn) == schema.HEAD


def test_daemons_that_start_together_migrate_once(
    postgres_server: Server, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrades = []
    real = schema.upgrade

    def counted(conn: Connection) -> None:
        upgrades.append(1)
        real(conn)

    monkeypatch.setattr(schema, "upgrade", counted)
    address = Address(postgres_server.url(empty))
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: Database.open(address), range(4)):
            database.close()
    assert len(upgrades) == 1
    assert postgres_server.run("SELECT version_num FROM alembic_version", database=empty) == [(schema.HEAD,)]


@pytest.mark.parametrize(
    ("statements", "kind", "saying"),
    [
        (
            ["UPDATE alembic_version SET version_num = '0999'"],
            SchemaTooNew,
            "schema 0999 was written by a newer",
        ),
        (
            ["DROP TABLE payloads CASCADE", "UPDATE alembic_version SET version_num = 'c0ffee'"],
            DatabaseRefused,
            "another program's tables",
        ),
        (["DROP TABLE alembic_version"], DatabaseRefused, "not those of driftd"),
    ],
    ids=["newer", "other alembic", "other tables"],
)
def test_what_is_not_ours_is_refused_and_left_alone(
    postgres_server: Server,
    postgres_database: str,
    statements: list[str],
    kind: type[StorageError],
    saying: str,
) -> None:
    postgres_server.run(*statements, database=postgres_database)
    address = Address(postgres_server.url(postgres_database))
    for opening in (Database.open, Database.open_readonly):
        with pytest.raises(kind, match=saying) as refused:
            opening(address)
        assert postgres_database in str(refused.value)


def test_a_user_who_may_not_create_is_told_what_is_missing(postgres_server: Server, empty: str) -> None:
    postgres_server.run(
        "DROP ROLE IF EXISTS guest",
        "CREATE ROLE guest LOGIN",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        database=empty,
    )
    url = postgres_server.url(empty).replace("postgres:", "guest:", 1)
    with pytest.raises(DatabaseRefused, match=r"permission denied .*give the user of storage\.url CREATE"):
        Database.open(Address(url))


def test_there_is_no_backup_of_ours(database: Database, address: Address, tmp_path: Path) -> None:
    with Database.open_readonly(address) as reader:
        for copy in (database.backup, reader.backup):
            with pytest.raises(StorageError, match="pg_dump"):
                copy(tmp_path / "copy")


def test_a_reader_cannot_write(database: Database) -> None:
    with database.read() as conn, pytest.raises(StorageReadOnly, match="read-only transaction"):
        models.ensure_model(conn, "credit", now=START)
    assert names(database) == []


def test_an_answer_means_written_whatever_the_database_is_set_to(
    postgres_server: Server, postgres_database: str, address: Address
) -> None:
    postgres_server.run(f"ALTER DATABASE {postgres_database} SET synchronous_commit = off")

    def shown(conn: Connection) -> list[str]:
        return [
            str(conn.exec_driver_sql(f"SHOW {name}").scalar_one())
            for name in ("synchronous_commit", "transaction_isolation", "lock_timeout", "statement_timeout")
        ]

    with Database.open(address) as database:
        assert database.write(shown).result(WAIT) == ["on", "read committed", "5s", "1min"]
        with database.read() as conn:
            assert shown(conn)[1] == "repeatable read"


def test_nothing_stays_set_on_a_connection_that_others_may_get_next(database: Database) -> None:
    """As PgBouncer hands it on after every transaction; and nothing is prepared on the server."""
    for number in range(10):
        database.write(add(f"m{number}")).result(WAIT)
    raw = database.write(lambda conn: conn.connection.driver_connection).result(WAIT)
    assert isinstance(raw, psycopg.Connection)
    assert raw.prepare_threshold is None
    assert raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert raw.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_a_reply_lost_at_commit_is_found_out_and_answered(
    postgres_server: Server, postgres_database: str, proxy: Proxy
) -> None:
    with Database.open(Address(postgres_server.url(postgres_database, port=proxy.port))) as database:
        first = database.write(add("first")).result(WAIT)
        proxy.cut(b"COMMIT\0", "reply")
        second = database.write(add("second")).result(WAIT)
        assert proxy.cuts == 1
        assert database.healthy
        assert (first, second) == (1, 2)
        assert names(database) == ["first", "second"]


def test_a_commit_that_never_arrived_is_reported_as_not_written(
    postgres_server: Server, postgres_database: str, proxy: Proxy
) -> None:
    with Database.open(Address(postgres_server.url(postgres_database, port=proxy.port))) as database:
        database.write(add("first")).result(WAIT)
        proxy.cut(b"COMMIT\0", "request")
        with pytest.raises(StorageBroken, match="nothing was written"):
            database.write(add("second")).result(WAIT)
        assert not database.healthy
        assert names(database) == ["first"]
        database.write(add("second")).result(WAIT)
        assert database.healthy
        assert names(database) == ["first", "second"]


def test_where_nobody_can_say_it_is_not_called_unwritten(address: Address) -> None:
    """Another server, after a failover, knows nothing of the number, or has given it to somebody else."""
    link = ServerLink(address, postgres.write_engine(address))
    receipt = _Receipt(xid="3", server_started=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(OutcomeUnknown, match=r"lost during COMMIT \(the server was started anew\)"):
        link.committed(receipt, psycopg.OperationalError("server closed the connection unexpectedly"))
    assert link.committed(receipt, psycopg.errors.lookup("23503")("a rule was broken")) is False
    link.engine.dispose()


def test_a_connection_ended_by_an_operator_costs_its_own_group_alone(
    postgres_server: Server, database: Database
) -> None:
    def ended(conn: Connection) -> None:
        models.ensure_model(conn, "ended", now=START)
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        postgres_server.run(f"SELECT pg_terminate_backend({pid}, 5000)")
        models.ensure_model(conn, "never", now=START)

    with pytest.raises(StorageBroken):
        database.write(ended).result(WAIT)
    database.write(add("after")).result(WAIT)
    assert names(database) == ["after"]
    assert database.healthy


def test_an_idle_connection_that_died_is_replaced_and_nobody_notices(
    postgres_server: Server, postgres_database: str, database: Database
) -> None:
    database.write(add("before")).result(WAIT)
    assert names(database) == ["before"]
    postgres_server.run(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        f" WHERE datname = '{postgres_database}' AND application_name = 'driftd'"
    )
    assert names(database) == ["before"]
    database.write(add("after")).result(WAIT)
    assert names(database) == ["after", "before"]
    assert database.healthy


def test_a_lock_that_is_held_too_long_fails_the_one_that_wants_it(
    postgres_server: Server, postgres_database: str, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_WRITING", postgres._WRITING.replace("'5s'", "'50ms'"))
    with (
        Database.open(address) as database,
        psycopg.connect(postgres_server.url(postgres_database)) as other,
    ):
        other.execute("LOCK TABLE silences IN EXCLUSIVE MODE")
        waiting = database.write(lambda conn: conn.exec_driver_sql("DELETE FROM silences").rowcount)
        with pytest.raises(StorageBusy, match="lock timeout"):
            waiting.result(WAIT)
        database.write(add("beside")).result(WAIT)
        other.rollback()
        assert (
            database.write(lambda conn: conn.exec_driver_sql("DELETE FROM silences").rowcount).result(WAIT)
            == 0
        )


def test_a_failover_to_a_read_only_server_heals_when_it_takes_writes_again(
    postgres_server: Server, postgres_database: str, address: Address
) -> None:
    with Database.open(address) as database:
        database.write(add("before")).result(WAIT)
        postgres_server.run(f"ALTER DATABASE {postgres_database} SET default_transaction_read_only = on")
        postgres_server.run(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{postgres_database}'"
        )
        with pytest.raises(StorageReadOnly, match="read-only"):
            database.write(add("refused")).result(WAIT)
        assert not database.healthy
        assert names(database) == ["before"]
        postgres_server.run(f"ALTER DATABASE {postgres_database} RESET default_transaction_read_only")
        database.write(add("after")).result(WAIT)
        assert database.healthy
        assert names(database) == ["after", "before"]


def test_locks_of_daemons_end_with_their_transactions(address: Address) -> None:
    engine = postgres.write_engine(address)
    with engine.connect() as one, engine.connect() as two:
        with one.begin(), two.begin():
            locks.folding(one, 7)
            locks.folding(two, 7)
        with one.begin(), two.begin():
            locks.evaluating(one, 7)
            locks.evaluating(two, 8)
            for refused in (locks.folding, locks.evaluating):
                with pytest.raises(Occupied):
                    refused(two, 7)
            assert locks.housekeeping(one)
            assert not locks.housekeeping(two)
        with two.begin():
            locks.evaluating(two, 7)
            assert locks.housekeeping(two)
    engine.dispose()


def test_notifications_are_planned_by_one_at_a_time(address: Address) -> None:
    engine = postgres.write_engine(address)
    with engine.connect() as one, engine.connect() as two:
        with one.begin(), two.begin():
            locks.announcing(one)
            two.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
            with pytest.raises(StorageBusy, match="lock timeout"):
                locks.announcing(two)
        with two.begin():
            locks.announcing(two)
    engine.dispose()


@pytest.fixture(scope="module")
def durable_server() -> Iterator[Server]:
    with running(durable=True) as server:
        yield server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_restarted_under_load_loses_nothing_that_was_answered(
    durable_server: Server, mode: str
) -> None:
    name = durable_server.create()
    answered: dict[str, int] = {}
    refused: list[StorageError] = []
    stop = threading.Event()

    with Database.open(Address(durable_server.url(name))) as database:

        def client(number: int) -> None:
            for count in range(100_000):
                if stop.is_set():
                    return
                key = f"{number}-{count}"
                try:
                    answered[key] = database.write(add(key), urgent=True).result(WAIT)
                except StorageBroken as error:
                    refused.append(error)
                    stop.wait(0.02)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        reached = 50
        while len(answered) < reached:
            assert not stop.wait(0.01)
        durable_server.stop(mode)
        durable_server.start()
        reached = len(answered) + 20
        while len(answered) < reached:
            assert not stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join(WAIT)
        assert database.write(add("last")).result(WAIT) > 0
        assert database.healthy
        with database.read() as conn:
            stored = {model.name: model.id for model in models.list_models(conn)}
    assert {key: stored.get(key) for key in answered} == answered
    assert all(SECRET not in str(error) for error in refused)
    durable_server.drop(name)
