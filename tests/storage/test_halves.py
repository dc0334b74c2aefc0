"""Halves of inferences: one row per event at most, whatever arrives when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, func, select

from storage import halves, models
from storage.halves import NewHalf
from storage.tables import event_halves

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def request_half(conn: Connection) -> NewHalf:
    model = models.ensure_model(conn, "m", now=NOW)
    return NewHalf(
        model_id=model.id,
        event_id="e1",
        half="request",
        body_sha256="aa",
        at_ns=1,
        received_at=NOW,
        data=b"question",
    )


def rows(conn: Connection) -> int:
    return int(conn.execute(select(func.count()).select_from(event_halves)).scalar_one())


def test_the_second_half_finds_the_first_and_writes_nothing(conn: Connection, request_half: NewHalf) -> None:
    assert halves.keep(conn, request_half).status == "waiting"
    answer = replace(request_half, half="response", body_sha256="bb", data=b"answer")
    kept = halves.keep(conn, answer)
    assert kept.status == "partner"
    assert kept.partner is not None
    assert (kept.partner.half, kept.partner.data) == ("request", b"question")
    assert rows(conn) == 1
    halves.take(conn, request_half.model_id, "e1")
    assert rows(conn) == 0


def test_a_half_sent_again_is_a_duplicate_and_another_under_its_id_a_conflict(
    conn: Connection, request_half: NewHalf
) -> None:
    halves.keep(conn, request_half)
    assert halves.keep(conn, request_half).status == "duplicate"
    assert halves.keep(conn, replace(request_half, body_sha256="cc")).status == "conflict"
    assert halves.keep(conn, replace(request_half, event_id="e2")).status == "waiting"


def test_without_room_only_what_completes_another_is_taken(conn: Connection, request_half: NewHalf) -> None:
    assert halves.keep(conn, request_half, room=False).status == "full"
    assert rows(conn) == 0
    halves.keep(conn, request_half)
    answer = replace(request_half, half="response", body_sha256="bb")
    assert halves.keep(conn, answer, room=False).status == "partner"


def test_what_waited_too_long_keeps_its_row_without_its_bytes_for_a_while(
    conn: Connection, request_half: NewHalf
) -> None:
    for number in range(5):
        at = NOW + timedelta(minutes=number)
        half: halves.HalfName = "response" if number == 4 else "request"
        halves.keep(conn, replace(request_half, event_id=str(number), received_at=at, half=half))
    assert halves.waiting_bytes(conn) == 5 * len(b"question")
    later = NOW + timedelta(minutes=5)
    assert halves.lose_before(conn, later, now=later, limit=3) == {"request": 3}
    assert halves.lose_before(conn, later, now=later, limit=3) == {"request": 1, "response": 1}
    assert halves.lose_before(conn, later, now=later, limit=3) == {}
    assert halves.waiting_bytes(conn) == 0
    assert halves.lost_since(conn, NOW) == {request_half.model_id: (4, 1)}
    assert halves.lost_since(conn, later + timedelta(seconds=1)) == {}
    assert halves.keep(conn, replace(request_half, event_id="1", half="response")).status == "late"
    assert halves.drop_lost_before(conn, later, limit=9) == 0
    assert halves.drop_lost_before(conn, later + timedelta(seconds=1), limit=4) == 4
    assert rows(conn) == 1


def test_a_pair_that_cannot_be_used_is_lost_once(conn: Connection, request_half: NewHalf) -> None:
    halves.keep(conn, request_half)
    assert halves.lose(conn, request_half.model_id, "e1", now=NOW)
    assert not halves.lose(conn, request_half.model_id, "e1", now=NOW)
