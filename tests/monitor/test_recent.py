"""What is kept for the fold: each batch once, within a bound of bytes."""

from datetime import UTC, datetime

from monitor.recent import Recent
from storage.batches import StoredBatch


def stored(batch_id: int, size: int = 10) -> StoredBatch:
    return StoredBatch(
        id=batch_id,
        model_id=1,
        version_id=1,
        batch_key=f"b{batch_id}",
        received_at=datetime(2026, 3, 1, tzinfo=UTC),
        t_first_ns=0,
        t_last_ns=0,
        accepted=1,
        sample_rate=None,
        writer="local",
        codec=1,
        payload=b"x" * size,
    )


def test_a_batch_is_taken_once() -> None:
    recent = Recent("local")
    for batch_id in (1, 2, 3):
        recent.put(stored(batch_id))
    assert sorted(recent.take([3, 1, 9])) == [1, 3]
    assert sorted(recent.take([1, 2, 3])) == [2]


def test_the_oldest_go_where_there_is_no_room() -> None:
    recent = Recent("local", most_bytes=30)
    for batch_id in range(5):
        recent.put(stored(batch_id))
    assert sorted(recent.take(range(5))) == [2, 3, 4]
    recent.put(stored(7, size=31))
    assert recent.take([7]) == {}


def test_another_daemons_batch_is_not_kept() -> None:
    recent = Recent("other")
    recent.put(stored(1))
    assert recent.take([1]) == {}
