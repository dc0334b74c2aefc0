"""A batch is stored once whatever the retries, and folded once whatever the crashes."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from storage import batches, models, retention
from storage.batches import NewBatch, StoredBatch
from storage.engine import Database
from storage.errors import ConstraintViolated, NotFound
from storage.tables import payloads
from tests.storage.conftest import START, after

NewBatches = Callable[..., NewBatch]


@pytest.fixture
def new(version_id: int) -> NewBatches:
    def make(key: str, body: bytes = b"rows", at: int = 0, rows: int = 10, **changes: object) -> NewBatch:
        batch = NewBatch(
            model_id=1,
            version_id=version_id,
            batch_key=key,
            body_sha256=hashlib.sha256(body).hexdigest(),
            received_at=after(at),
            t_first_ns=at * 10**9,
            t_last_ns=(at + 5) * 10**9,
            accepted=rows,
            rejected=1,
            writer="daemon-1",
            codec=1,
            payload=body,
        )
        return replace(batch, **changes)  # type: ignore[arg-type]  # the tests name real fields

    return make


def count_payloads(conn: Connection) -> int:
    return int(conn.execute(select(func.count()).select_from(payloads)).scalar_one())


def test_a_retry_is_harmless_and_another_body_under_the_same_key_is_a_conflict(
    conn: Connection, new: NewBatches
) -> None:
    (first,) = batches.append(conn, [new("k", b"body", rows=7)])
    assert (first.status, first.accepted, first.rejected) == ("stored", 7, 1)
    again, conflict = batches.append(conn, [new("k", b"body", rows=8), new("k", b"other")])
    assert (again.batch_id, again.status, again.accepted) == (first.batch_id, "duplicate", 7)
    assert (conflict.batch_id, conflict.status) == (first.batch_id, "conflict")
    assert batches.find(conn, 1, "k", hashlib.sha256(b"body").hexdigest()) == again
    assert batches.find(conn, 1, "unknown", "") is None
    assert count_payloads(conn) == 1
    assert batches.get(conn, first.batch_id).payload == b"body"


def test_the_same_key_of_another_model_is_another_batch(conn: Connection, new: NewBatches) -> None:
    other = models.ensure_model(conn, "other", now=START)
    version = models.ensure_version(conn, other.id, "v1", now=START)
    results = batches.append(conn, [new("k"), new("k", model_id=other.id, version_id=version.id)])
    assert [result.status for result in results] == ["stored", "stored"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    posts=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([b"1", b"2"]), st.booleans()), max_size=12
    )
)
def test_any_mix_of_retries_stores_each_key_once(
    conn: Connection, new: NewBatches, posts: list[tuple[str, bytes, bool]]
) -> None:
    """Against a dictionary; the flag says whether a post starts a call of its own."""
    with conn.begin_nested() as savepoint:
        known: dict[str, bytes] = {}
        expected = []
        for key, body, _ in posts:
            expected.append(
                "stored" if key not in known else "duplicate" if known[key] == body else "conflict"
            )
            known.setdefault(key, body)
        calls: list[list[NewBatch]] = [[]]
        for key, body, alone in posts:
            if alone:
                calls.append([])
            calls[-1].append(new(key, body))
        statuses = [result.status for call in calls for result in batches.append(conn, call)]
        assert statuses == expected
        stored = {batch.batch_key: batch.payload for batch in batches.unfolded(conn, limit=100)}
        assert stored == known
        savepoint.rollback()


def test_a_batch_of_an_unknown_version_is_refused_as_a_storage_error(
    conn: Connection, new: NewBatches
) -> None:
    with pytest.raises(ConstraintViolated, match=r"(?i)foreign key constraint"):
        batches.append(conn, [new("k", version_id=4711)])


def test_a_naive_arrival_is_refused(conn: Connection, new: NewBatches) -> None:
    with pytest.raises(ValueError, match="naive datetime"):
        batches.append(conn, [new("k", received_at=datetime(2026, 1, 1))])  # noqa: DTZ001  # the mistake under test


def test_everything_of_a_batch_comes_back(conn: Connection, new: NewBatches) -> None:
    body = bytes(range(256)) * 1000
    batch = new("k", body, at=3, seen=20, kept=10, dropped=2, sample_rate=0.5)
    (result,) = batches.append(conn, [batch])
    found = batches.get(conn, result.batch_id)
    for name in (
        "model_id",
        "version_id",
        "batch_key",
        "received_at",
        "t_first_ns",
        "t_last_ns",
        "accepted",
        "sample_rate",
        "writer",
        "codec",
        "payload",
    ):
        assert getattr(found, name) == getattr(batch, name)
    totals = batches.totals(conn, since=after(0), until=after(10))
    assert totals == {1: batches.BatchTotals(batches=1, accepted=10, rejected=1, dropped=2, unfolded=1)}
    assert batches.totals(conn, since=after(0), until=after(3)) == {}


def test_a_batch_is_marked_folded_once(conn: Connection, new: NewBatches) -> None:
    ids = [result.batch_id for result in batches.append(conn, [new(f"k{i}") for i in range(1200)])]
    assert batches.mark_folded(conn, ids[:700]) == 700
    assert batches.mark_folded(conn, ids[600:]) == 500
    assert batches.mark_folded(conn, ids) == 0
    assert batches.mark_folded(conn, []) == 0
    assert batches.unfolded(conn, limit=10) == []


def test_a_fold_that_meets_a_folded_batch_is_given_up_whole(database: Database) -> None:
    """The mark and what was counted are one transaction: both happen once, or neither."""

    def prepare(conn: Connection) -> list[int]:
        model = models.ensure_model(conn, "credit", now=START)
        version = models.ensure_version(conn, model.id, "v1", now=START)
        results = batches.append(
            conn,
            [
                NewBatch(
                    model_id=model.id, version_id=version.id, batch_key=f"k{i}", body_sha256="", received_at=START,
                    t_first_ns=0, t_last_ns=0, accepted=1, rejected=0, writer="w", codec=1, payload=b"x",
                )
                for i in range(4)
            ],
        )  # fmt: skip
        return [result.batch_id for result in results]

    def fold(chosen: list[int]) -> Callable[[Connection], None]:
        def run(conn: Connection) -> None:
            models.record_serving(conn, [models.Serving(model_id=1, version_id=1, start=0, rows=len(chosen))])
            if batches.mark_folded(conn, chosen) != len(chosen):
                raise LookupError("folded before")

        return run

    ids = database.write(prepare).result(10)
    outcomes = [database.write(fold(chosen)) for chosen in (ids[:2], ids[1:3], ids[2:])]
    errors = [future.exception(10) for future in outcomes]
    assert [type(error) for error in errors] == [type(None), LookupError, type(None)]
    with database.read() as conn:
        assert [serving.rows for serving in models.list_servings(conn, 1, start=0, end=1)] == [4]
        assert batches.unfolded(conn, limit=10) == []


def test_unfolded_batches_are_bounded_in_bytes_but_never_none(conn: Connection, new: NewBatches) -> None:
    sizes = (40, 40, 40, 500)
    ids = [r.batch_id for r in batches.append(conn, [new(f"b{i}", b"x" * n) for i, n in enumerate(sizes)])]
    assert [b.id for b in batches.unfolded(conn, limit=10, most_bytes=80)] == ids[:2]
    assert [b.id for b in batches.unfolded(conn, limit=10, most_bytes=1)] == ids[:1]
    batches.mark_folded(conn, ids[:3])
    assert [b.id for b in batches.unfolded(conn, limit=10, most_bytes=80)] == ids[3:]


def test_what_the_caller_holds_is_not_read_again(conn: Connection, new: NewBatches) -> None:
    given = [new(key, key.encode()) for key in ("a", "b", "c")]
    ids = [r.batch_id for r in batches.append(conn, given)]
    held = {ids[1]: batches.as_stored(given[1], ids[1])}
    assert held[ids[1]] == batches.get(conn, ids[1])
    asked: list[list[int]] = []

    def taken(wanted: Collection[int]) -> dict[int, StoredBatch]:
        asked.append(list(wanted))
        return held

    found = batches.unfolded(conn, limit=10, held=taken)
    assert [b.payload for b in found] == [b"a", b"b", b"c"]
    assert found[1] is held[ids[1]]
    assert asked == [ids]


def test_unfolded_batches_come_oldest_first_and_only_of_the_versions_asked_for(
    conn: Connection, new: NewBatches
) -> None:
    pending = models.ensure_version(conn, 1, "v2", now=START).id
    ids = [
        r.batch_id
        for r in batches.append(
            conn, [new("a"), new("b", version_id=pending, at=-100), new("c"), new("d", writer="daemon-2")]
        )
    ]
    assert [batch.id for batch in batches.unfolded(conn, limit=10)] == ids
    assert [batch.id for batch in batches.unfolded(conn, limit=1)] == ids[:1]
    assert [batch.id for batch in batches.unfolded(conn, limit=10, version_ids=[1])] == [
        ids[0],
        ids[2],
        ids[3],
    ]
    assert batches.unfolded(conn, limit=10, version_ids=[]) == []
    assert [batch.id for batch in batches.unfolded(conn, limit=10, writer="daemon-2", model_id=1)] == ids[3:]
    assert batches.unfolded_by_version(conn) == {1: (3, 30), pending: (1, 10)}
    assert batches.oldest_unfolded(conn) == {1: -100 * 10**9}
    assert batches.oldest_unfolded(conn, version_ids=[1]) == {1: 0}
    batches.mark_folded(conn, ids)
    assert batches.oldest_unfolded(conn) == {}


def test_a_batch_set_aside_holds_nobody_back(conn: Connection, new: NewBatches) -> None:
    ids = [r.batch_id for r in batches.append(conn, [new("a"), new("b")])]
    batches.set_aside(conn, ids[:1])
    assert [batch.id for batch in batches.unfolded(conn, limit=10)] == ids[1:]
    assert batches.mark_folded(conn, ids) == 1
    assert batches.totals(conn, since=after(0), until=after(10))[1].unfolded == 0


def test_a_span_is_read_page_by_page(conn: Connection, new: NewBatches) -> None:
    batches.append(conn, [new(f"k{at}", at=at) for at in range(0, 100, 10)])
    second = 10**9

    def read(start: int, end: int, after_id: int = 0, limit: int = 100) -> list[int]:
        found = batches.payloads_between(
            conn, 1, start_ns=start * second, end_ns=end * second, after_id=after_id, limit=limit
        )
        return [batch.t_first_ns // second for batch in found]

    assert read(20, 40) == [20, 30]
    assert read(25, 41) == [20, 30, 40]  # each batch spans five seconds, both ends included
    assert read(26, 30) == []
    first = batches.payloads_between(conn, 1, start_ns=0, end_ns=100 * second, limit=4)
    assert len(first) == 4
    assert read(0, 100, after_id=first[-1].id) == [40, 50, 60, 70, 80, 90]


def test_a_dead_writers_batches_pass_to_another(conn: Connection, new: NewBatches) -> None:
    ids = [
        r.batch_id for r in batches.append(conn, [new("a", writer="dead"), new("b", writer="dead"), new("c")])
    ]
    batches.mark_folded(conn, ids[:1])
    assert batches.reassign(conn, from_writer="dead", to_writer="alive") == 1
    assert [batch.id for batch in batches.unfolded(conn, limit=10, writer="alive")] == [ids[1]]


def test_an_id_is_never_given_out_twice(conn: Connection, new: NewBatches) -> None:
    (first,) = batches.append(conn, [new("a")])
    batches.mark_folded(conn, [first.batch_id])
    assert retention.drop_batches_before(conn, after(10), limit=10) == 1
    assert count_payloads(conn) == 0
    (second,) = batches.append(conn, [new("b")])
    assert second.batch_id > first.batch_id


def test_old_payloads_go_and_their_batches_stay_for_late_retries(conn: Connection, new: NewBatches) -> None:
    ids = [
        r.batch_id for r in batches.append(conn, [new(f"k{at}", b"x" * at, at=at) for at in (10, 20, 30, 40)])
    ]
    batches.mark_folded(conn, ids[:2])
    assert retention.payload_use(conn) == retention.PayloadUse(payloads=4, total_bytes=100)
    assert retention.drop_payloads_before(conn, after(35), limit=1) == 1
    assert retention.drop_payloads_before(conn, after(35), limit=9) == 1  # the third is not folded yet
    assert retention.payload_use(conn) == retention.PayloadUse(payloads=2, total_bytes=70)
    with pytest.raises(
        NotFound, match=f"batch {ids[0]} is not stored, or its payload was removed by retention"
    ):
        batches.get(conn, ids[0])
    assert batches.append(conn, [new("k10", b"x" * 10)])[0].status == "duplicate"
    assert retention.give_up_unfolded_before(conn, after(35), limit=9) == 1
    assert [batch.id for batch in batches.unfolded(conn, limit=10)] == ids[3:]


def test_thinning_keeps_a_sample_that_does_not_depend_on_time_or_order(
    conn: Connection, new: NewBatches
) -> None:
    keys = [f"key-{i}" for i in range(400)]
    ids = [
        r.batch_id for r in batches.append(conn, [new(key, b"x" * 100, at=i) for i, key in enumerate(keys)])
    ]
    batches.mark_folded(conn, ids)
    first = retention.thin_payloads(conn, over_bytes=9_950, limit=1000)
    assert (first.removed, first.removed_bytes) == (100, 10_000)
    second = retention.thin_payloads(conn, over_bytes=10_000, limit=60)
    assert (second.removed, second.removed_bytes) == (60, 6_000)
    assert retention.payload_use(conn) == retention.PayloadUse(payloads=240, total_bytes=24_000)
    assert second.kept_share is not None
    share = second.kept_share
    kept = {
        batch.batch_key for batch in batches.payloads_between(conn, 1, start_ns=0, end_ns=10**15, limit=1000)
    }
    assert kept == {key for key in keys if batches.thin_rank(key) / batches.RANK_RANGE < share}
    # Binomial with p = 0.6 over each half: five standard deviations are 49 batches.
    early = sum(1 for key in keys[:200] if key in kept)
    assert abs(early - 120) < 35
    nothing = retention.thin_payloads(conn, over_bytes=0, limit=10)
    assert (nothing.removed, nothing.kept_share) == (0, None)
