"""Instants are UTC and aware, equal JSON is equal text."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, make_url, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import StatementError

from storage.column_types import SortedJson, UtcDateTime

TABLE = Table(
    "t",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime),
    Column("j", SortedJson),
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001  # hypothesis adds the zone


@given(INSTANTS)
def test_an_instant_comes_back_as_the_same_instant_in_utc(instant: datetime) -> None:
    stored = UtcDateTime().process_bind_param(instant, sqlite.dialect())
    back = UtcDateTime().process_result_value(stored, sqlite.dialect())
    assert back == instant
    assert back is not None
    assert back.tzinfo is UTC


def test_stored_text_sorts_as_the_instants_do() -> None:
    engine = create_engine("sqlite://")
    instants = [
        datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime(2025, 12, 31, 23, 0, tzinfo=UTC),
        datetime(2025, 12, 31, 23, 0, 0, 1, tzinfo=UTC),
    ]
    with engine.begin() as conn:
        TABLE.metadata.create_all(conn)
        conn.execute(insert(TABLE), [{"at": instant} for instant in instants])
        by_text = list(conn.execute(select(TABLE.c.at).order_by(TABLE.c.at)).scalars())
        earlier = conn.execute(select(TABLE.c.id).where(TABLE.c.at < instants[2])).scalars().all()
    assert by_text == sorted(instants)
    assert set(earlier) == {1, 2}
    engine.dispose()


def test_postgresql_gets_the_aware_instant() -> None:
    instant = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))
    assert UtcDateTime().process_bind_param(
        instant, make_url("postgresql+psycopg://").get_dialect()()
    ) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_naive_datetime_is_refused() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        TABLE.metadata.create_all(conn)
        with pytest.raises(StatementError, match="naive datetime 2026-01-01T00:00:00"):
            conn.execute(insert(TABLE), {"at": datetime(2026, 1, 1)})  # noqa: DTZ001  # the mistake under test
    engine.dispose()


def test_equal_json_is_equal_text_whatever_the_order_of_keys() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        TABLE.metadata.create_all(conn)
        conn.execute(
            insert(TABLE),
            [{"j": {"b": 1, "ä": [True, None]}}, {"j": {"ä": [True, None], "b": 1}}, {"j": None}],
        )
        texts = list(conn.execute(text("SELECT j FROM t ORDER BY id")).scalars())
        values = list(conn.execute(select(TABLE.c.j).order_by(TABLE.c.id)).scalars())
    assert texts == ['{"b":1,"ä":[true,null]}'] * 2 + [None]
    assert values == [{"b": 1, "ä": [True, None]}] * 2 + [None]
    engine.dispose()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        SortedJson().process_bind_param({"x": value}, sqlite.dialect())
