"""Re-folds: which batches are counted on which baseline, and how much of a span is still kept."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event

from storage import batches, models, refolds, retention
from storage.batches import NewBatch
from storage.models import Serving
from storage.refolds import RefoldRow
from tests.storage.conftest import START, after


def batch(version_id: int, number: int, *, accepted: int = 10) -> NewBatch:
    at = number * 60 * 10**9
    return NewBatch(
        model_id=1,
        version_id=version_id,
        batch_key=f"b{number}",
        body_sha256="s",
        received_at=after(number),
        t_first_ns=at,
        t_last_ns=at + 10**9,
        accepted=accepted,
        rejected=0,
        writer="local",
        codec=1,
        payload=b"x" * 100,
    )


@pytest.fixture
def ids(conn: Connection, version_id: int) -> list[int]:
    """Six batches a minute apart; the first four are counted on baseline 1, the fifth on baseline 2."""
    stored = [r.batch_id for r in batches.append(conn, [batch(version_id, n) for n in range(6)])]
    assert batches.mark_folded(conn, stored[:4], onto=1) == 4
    assert batches.mark_folded(conn, stored[4:5], onto=2) == 1
    return stored


def before(
    conn: Connection, version_id: int, baseline_id: int, *, minute: int = 0, after_id: int = 0
) -> list[int]:
    found = batches.folded_before(
        conn, version_id, baseline_id, start_ns=minute * 60 * 10**9, after_id=after_id, limit=100
    )
    return [b.id for b in found]


def test_batches_are_found_by_the_baseline_they_are_counted_on(
    conn: Connection, version_id: int, ids: list[int]
) -> None:
    assert before(conn, version_id, 1) == []
    assert before(conn, version_id, 2) == ids[:4]
    assert before(conn, version_id, 3) == ids[:5]  # the sixth is folded nowhere yet
    assert before(conn, version_id, 2, minute=2) == ids[2:4]
    assert before(conn, version_id, 2, after_id=ids[2]) == ids[3:4]
    assert before(conn, version_id + 1, 2) == []
    retention.drop_payloads_before(conn, after(2), limit=100)
    assert before(conn, version_id, 2) == ids[2:4]


def test_a_batch_moves_to_a_newer_baseline_once(conn: Connection, version_id: int, ids: list[int]) -> None:
    assert batches.mark_refolded(conn, ids[:2], onto=2) == 2
    assert batches.mark_refolded(conn, ids[:3], onto=2) == 1
    assert batches.mark_refolded(conn, ids, onto=1) == 0  # never back
    assert batches.mark_refolded(conn, ids[5:], onto=2) == 0  # not folded at all
    assert before(conn, version_id, 2) == ids[3:4]


def test_the_share_that_is_kept_counts_rows(conn: Connection, version_id: int, ids: list[int]) -> None:
    assert ids
    batches.append(conn, [batch(version_id, 6, accepted=40)])
    everything = {"start_ns": 0, "end_ns": 2**62}
    assert batches.kept_share(conn, version_id, **everything) == 1.0
    retention.drop_payloads_before(conn, after(3), limit=100)
    assert batches.kept_share(conn, version_id, **everything) == pytest.approx(70 / 100)
    assert batches.kept_share(conn, version_id, start_ns=0, end_ns=60 * 10**9) == 0.0
    assert batches.kept_share(conn, version_id, start_ns=10**15, end_ns=2**62) is None


def test_batches_of_a_span_are_found_along_their_ids(conn: Connection, ids: list[int]) -> None:
    assert [batches.id_before(conn, after(n)) for n in (-9, 0, 3)] == [ids[0] - 1, ids[0] - 1, ids[3] - 1]
    assert batches.id_before(conn, after(99)) == ids[-1]


@pytest.mark.usefixtures("ids")
def test_sqlite_reads_no_more_batches_than_come_after(conn: Connection, version_id: int) -> None:
    """Two indexes would lead to them, and both through all that the version ever had."""
    if conn.dialect.name != "sqlite":
        return  # PostgreSQL plans by how many rows there are, and here there are six
    steps: list[str] = []

    def plan(_conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "folded_on" in statement or "sum(" in statement:
            raw = conn.connection.cursor()
            raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
            steps.extend(row[3] for row in raw.fetchall())

    event.listen(conn, "before_cursor_execute", plan)
    before(conn, version_id, 2, after_id=3)
    batches.kept_share(conn, version_id, start_ns=0, end_ns=1, after_id=3)
    event.remove(conn, "before_cursor_execute", plan)
    assert [step for step in steps if "batches" in step] == [
        "SEARCH batches USING INTEGER PRIMARY KEY (rowid>?)"
    ] * 2


def test_a_refold_is_open_until_it_is_finished(conn: Connection, version_id: int, baseline_id: int) -> None:
    row = RefoldRow(baseline_id=baseline_id, version_id=version_id, started_at=START)
    assert refolds.get(conn, baseline_id) is None
    refolds.put(conn, row)
    assert refolds.unfinished(conn) == [row]
    moved = replace(row, start=60, after_id=3, rows=30, kept_share=0.5, first=60, last=180)
    refolds.put(conn, moved)
    assert refolds.unfinished(conn) == [moved]
    done = replace(moved, finished_at=START + timedelta(seconds=1))
    refolds.put(conn, done)
    assert refolds.unfinished(conn) == []
    assert refolds.get(conn, baseline_id) == done


def test_old_hours_of_traffic_are_forgotten(conn: Connection, version_id: int) -> None:
    models.record_serving(
        conn, [Serving(model_id=1, version_id=version_id, start=3600 * n, rows=1) for n in range(5)]
    )
    assert retention.drop_servings_before(conn, 7200, limit=100) == 2
    assert len(models.list_servings(conn, 1, start=0, end=2**40)) == 3
