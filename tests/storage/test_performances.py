"""Performance adds up by hour, and each batch enters it once."""

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from storage import batches, performances, retention
from storage.batches import NewBatch
from storage.errors import Overtaken
from storage.performances import PerformanceRow
from tests.storage.conftest import after


def row(version_id: int, hour: int = 0, *, segment: str = "", column: str = "label") -> PerformanceRow:
    return PerformanceRow(
        version_id=version_id,
        segment=segment,
        column=column,
        start=3600 * hour,
        rows=10,
        identified=9,
        labelled=8,
        correct=7,
        error=-0.5,
        absolute_error=1.5,
        squared_error=2.25,
        confident=6,
        confidence=5.5,
    )


def test_what_is_added_adds_up(conn: Connection, version_id: int) -> None:
    performances.add(conn, [row(version_id), row(version_id, 1), row(version_id, segment="region=eu")])
    performances.add(conn, [row(version_id), row(version_id, column="score")])
    performances.add(conn, [])
    twice = replace(
        row(version_id),
        rows=20,
        identified=18,
        labelled=16,
        correct=14,
        error=-1.0,
        absolute_error=3.0,
        squared_error=4.5,
        confident=12,
        confidence=11.0,
    )
    whole = performances.list_rows(conn, [version_id], start=0, end=7200, segment="")
    assert whole == [twice, row(version_id, column="score"), row(version_id, 1)]
    everything = performances.list_rows(conn, [version_id], start=0, end=3600)
    assert everything == [twice, row(version_id, column="score"), row(version_id, segment="region=eu")]
    assert performances.list_rows(conn, [version_id + 1], start=0, end=7200) == []
    assert performances.newest_start(conn, version_id) == 3600
    assert performances.newest_start(conn, version_id + 1) is None


def test_old_hours_are_forgotten(conn: Connection, version_id: int) -> None:
    performances.add(conn, [row(version_id, hour) for hour in range(5)])
    assert retention.drop_performances_before(conn, 7200, limit=1) == 1
    assert retention.drop_performances_before(conn, 7200, limit=9) == 1
    left = performances.list_rows(conn, [version_id], start=0, end=2**40)
    assert [found.start for found in left] == [7200, 10800, 14400]


@pytest.mark.usefixtures("version_id")
def test_a_model_is_moved_on_by_one_of_those_who_try(conn: Connection) -> None:
    assert performances.scored_upto(conn, 1) is None
    performances.move(conn, 1, before=None, after=7)
    with pytest.raises(Overtaken, match="meanwhile"):
        performances.move(conn, 1, before=None, after=9)
    performances.move(conn, 1, before=7, after=9)
    with pytest.raises(Overtaken, match="beyond batch 7 meanwhile"):
        performances.move(conn, 1, before=7, after=12)
    assert performances.scored_upto(conn, 1) == 9


def test_the_batches_to_score_are_those_that_still_have_their_rows(conn: Connection, version_id: int) -> None:
    new = [
        NewBatch(
            model_id=1,
            version_id=version_id,
            batch_key=f"b{n}",
            body_sha256="s",
            received_at=after(n),
            t_first_ns=0,
            t_last_ns=0,
            accepted=1,
            rejected=0,
            writer="local",
            codec=2 if n == 3 else 1,
            payload=b"x",
        )
        for n in range(6)
    ]
    ids = [stored.batch_id for stored in batches.append(conn, new)]
    assert batches.mark_folded(conn, ids[:2]) == 2
    retention.drop_payloads_before(conn, after(1), limit=9)

    def found(after_id: int, upto_id: int, limit: int = 9) -> list[int]:
        kept = batches.retained(conn, 1, after_id=after_id, upto_id=upto_id, codec=1, limit=limit)
        return [batch.id for batch in kept]

    assert found(0, ids[-1]) == [ids[1], ids[2], ids[4], ids[5]]
    assert found(ids[1], ids[4]) == [ids[2], ids[4]]
    assert found(0, ids[-1], limit=1) == [ids[1]]
    heavy = batches.retained(conn, 1, after_id=0, upto_id=ids[-1], codec=1, limit=9, most_bytes=2)
    assert [batch.id for batch in heavy] == [ids[1], ids[2]]
    assert batches.retained(conn, 2, after_id=0, upto_id=ids[-1], codec=1, limit=9) == []
