"""Edge mode, one step at a time: when cells are asked for, what waits meanwhile, what leaves and what is dropped."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.profile import Baseline, ColumnData, TensorMap, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from driftd_sidecar import Response
from driftd_sidecar._cells import Cells
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._frame import Frame, frame
from driftd_sidecar._notices import Notices
from driftd_sidecar._spool import Spool
from driftd_sidecar._wire import Table
from tests.sidecar.edge_fakes import EdgeBench, EdgeDaemon, numbers
from tests.sidecar.fakes import ok

DAY = 86_400


def simple(seed: int = 1, *, pane_seconds: int = 60, cut_cap: int = 64) -> Baseline:
    """Three float32 columns of one tensor."""
    rng = np.random.default_rng(seed)
    columns = [
        ColumnData(
            name=name, role=ColumnRole.FEATURE, type=ColumnType.NUMERIC, dtype="float32",
            values=rng.normal(size=1000).astype(np.float32),
        )
        for name in ("a", "b", "c")
    ]  # fmt: skip
    tensor = TensorMap(name="x", datatype="FP32", kind="input", columns=("a", "b", "c"))
    return build_baseline(columns, pane_seconds, [tensor], None, "test", cut_cap=cut_cap)


BASELINE, OTHER = simple(), simple(2)


def values_of(*inputs: dict[str, Any]) -> dict[str, Any]:
    x = np.concatenate([each["x"] for each in inputs])
    return {name: x[:, position] for position, name in enumerate("abc")}


def test_counts_leave_a_second_after_their_pane_and_hold_every_row() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    first, second = numbers(5, 1), numbers(7, 2)
    bench.log(first, {})
    bench.run(30.0)
    bench.log(second, {})
    bench.run(30.5)
    assert bench.daemon.posted == []
    assert bench.buffer.stats().pending == 12
    bench.run(1.5)
    (posted,) = bench.daemon.posted
    expected = profile_rows(BASELINE, values_of(first, second))
    profile = posted.profile(BASELINE)
    np.testing.assert_array_equal(profile.counts, expected.counts)
    np.testing.assert_allclose(profile.moments, expected.moments, rtol=1e-12)
    assert profile.rows == 12
    stats = bench.buffer.stats()
    assert (stats.seen, stats.sent, stats.pending, stats.pending_bytes) == (12, 12, 0, 0)


def test_a_body_says_what_it_is_and_what_became_of_the_rows() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE, ("region",)), tags={"region": "eu"})
    bench.log(numbers(5), {})
    bench.buffer.count_error(2, admitted=False)
    bench.buffer.count_failed_inference()
    bench.run(62.0)
    (posted,) = bench.daemon.posted
    start = bench.clock.wall_ns() // 10**9 - 62
    assert posted.url == "http://daemon/predictions"
    assert posted.headers == {
        "Authorization": "Bearer t",
        "Content-Type": "application/vnd.driftd.counts+json",
        "Content-Encoding": "gzip",
        "Idempotency-Key": posted.body["id"],
        "Date": posted.headers["Date"],
    }
    assert list(posted.body) == ["id", "model_version", "fingerprint", "parameters", "panes"]
    assert (posted.body["model_version"], posted.body["fingerprint"]) == ("v7", BASELINE.fingerprint)
    told = posted.body["parameters"]
    assert told == {
        "driftd": 1, "sent_at": told["sent_at"], "seen": 7, "kept": 5, "dropped": 2, "failed_inferences": 1,
    }  # fmt: skip
    whole, segment = posted.body["panes"]
    place = {"start": start, "rows": 5, "rows_seen": 5, "first": start * 10**9, "last": start * 10**9}
    assert {key: whole[key] for key in whole if key != "columns"} == place
    assert {key: segment[key] for key in segment if key != "columns"} == place | {"segment": "region=eu"}
    assert bench.daemon.fetched == [
        {"Authorization": "Bearer t", "Accept": "application/vnd.driftd.cells", "Accept-Encoding": "gzip"}
    ]
    assert bench.daemon.urls == ["http://daemon/versions/v7/cells"]


def test_rows_wait_for_a_daemon_that_was_never_there_and_are_counted_when_it_is() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.daemon.online = False
    given = [numbers(40, seed) for seed in range(30)]
    for each in given:
        bench.log(each, {})
        bench.run(600.0)
    assert bench.buffer.stats().pending == 1200
    asked = len(bench.daemon.fetched)
    assert (
        5 * 600 / 30 < asked < 30 * 600 / 14
    )  # every half minute at the most, less where that is drawn shorter
    bench.daemon.online = True
    bench.run(60.0)
    stats = bench.buffer.stats()
    assert (stats.seen, stats.sent, stats.dropped, stats.pending_bytes) == (1200, 1200, 0, 0)
    panes = [pane for posted in bench.daemon.taken for pane in posted.body["panes"]]
    assert [pane["rows"] for pane in panes] == [40] * 30
    assert len({pane["start"] for pane in panes}) == 30


def test_rows_that_find_no_room_before_there_are_cells_thin_and_then_push_out_the_oldest() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), buffer_bytes=1 << 18, batch_bytes=1 << 14)
    bench.daemon.online = False
    for seed in range(2000):
        bench.log(numbers(50, seed), {})
        if seed % 10 == 0:
            bench.run(1.0)
            assert bench.buffer.stats().pending_bytes <= 1 << 18
    bench.daemon.online = True
    bench.run(120.0)
    stats = bench.buffer.stats()
    bench.check_books()
    assert stats.seen == 100_000
    assert stats.gave_up > 0
    assert stats.sampled_out > 0
    assert bench.daemon.rows == stats.sent == stats.kept
    panes = [pane for posted in bench.daemon.taken for pane in posted.body["panes"]]
    seen = sum(pane["rows_seen"] for pane in panes)
    assert seen > 2 * stats.sent  # what the thinned rows stand for
    told = [posted.body["parameters"] for posted in bench.daemon.taken]
    assert sum(each["dropped"] for each in told) == stats.dropped


def offline_days(bench: EdgeBench, days: int) -> None:
    """A call every ten minutes without a connection."""
    bench.daemon.online = False
    for number in range(days * 144):
        bench.log(numbers(20, number), {})
        bench.hop(600.0)


def test_days_offline_stay_within_the_bytes_and_lose_the_oldest_first() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), buffer_bytes=1 << 18)
    bench.log(numbers(20), {})
    bench.run(61.5)
    offline_days(bench, 3)
    stats = bench.buffer.stats()
    assert stats.pending_bytes <= 1 << 17
    assert (stats.sampled_out, stats.overflowed) == (0, 0)
    assert 0 < stats.gave_up == stats.dropped < 8640
    bench.daemon.online = True
    bench.run(200.0)
    stats = bench.buffer.stats()
    bench.check_books()
    assert (stats.pending, stats.sent + stats.dropped) == (0, stats.seen)
    starts = [pane["start"] for posted in bench.daemon.taken for pane in posted.body["panes"]]
    assert starts == sorted(starts)
    assert starts[2] - starts[1] == 600 + 600 * stats.gave_up // 20  # a gap behind the one that was tried
    assert starts[2:] == list(range(starts[2], starts[-1] + 1, 600))
    assert bench.daemon.rows == stats.sent


def test_with_a_spool_days_offline_lose_nothing_and_outlive_the_process(tmp_path: Path) -> None:
    daemon = EdgeDaemon(BASELINE)
    store = CellStore(tmp_path, "v7")
    bench = EdgeBench(
        daemon, buffer_bytes=1 << 20, spool=Spool(tmp_path, 1 << 24, Notices()), cell_store=store
    )
    bench.log(numbers(20), {})
    bench.run(61.5)
    offline_days(bench, 3)
    stats = bench.buffer.stats()
    assert (stats.dropped, stats.spooled) == (0, 3 * 144 * 20)
    bench.shipper.reset_after_fork()  # the process is gone, and its lock with it
    del bench

    later = EdgeBench(daemon, spool=Spool(tmp_path, 1 << 24, Notices()), cell_store=store)
    later.log(numbers(20), {})
    later.run(90.0)  # still offline: counted on the cells that were remembered
    assert later.buffer.stats().spooled == 20
    daemon.online = True
    later.run(900.0)
    stats = later.buffer.stats()
    assert (stats.sent, stats.recovered, stats.dropped) == (20, 3 * 144 * 20, 0)
    assert daemon.rows == 20 + 3 * 144 * 20 + 20


def test_a_baseline_that_was_replaced_costs_what_was_counted_on_the_old_one_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.log(numbers(10), {})
    bench.run(30.0)
    bench.daemon.baseline = OTHER
    bench.daemon.online = False
    bench.run(32.0)  # tried, and not received
    for rows in (1, 2):
        bench.log(numbers(rows), {})
        bench.run(60.0)  # written, and not tried
    bench.log(numbers(3), {})
    bench.hop(40.0)
    bench.shipper._collect(bench.clock.monotonic(), everything=False)
    bench.daemon.online = True
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        bench.run(30.0)
    assert "counted on a baseline that was replaced" in caplog.text
    assert (bench.buffer.stats().gave_up, len(bench.daemon.posted)) == (16, 1)
    bench.log(numbers(4), {})
    bench.run(70.0)
    (posted,) = bench.daemon.taken
    assert (posted.rows, posted.body["fingerprint"]) == (4, OTHER.fingerprint)
    assert posted.body["parameters"] | {"sent_at": ""} == {
        "driftd": 1, "sent_at": "", "seen": 20, "kept": 4, "dropped": 16,
    }  # fmt: skip
    bench.check_books()


def test_a_refusal_that_names_the_cells_we_have_asks_for_no_others() -> None:
    daemon = EdgeDaemon(BASELINE)
    bench = EdgeBench(daemon)
    daemon.answer = lambda _: Response(
        status=409, body=b'{"fingerprint": "' + BASELINE.fingerprint.encode() + b'"}'
    )
    bench.log(numbers(5), {})
    bench.run(62.0)
    daemon.answer = daemon.take
    bench.log(numbers(5), {})
    bench.run(62.0)
    assert len(daemon.fetched) == 1
    assert (bench.buffer.stats().gave_up, daemon.rows) == (5, 5)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"fingerprint": 7}', b'{"status": 409}'])
def test_a_refusal_that_names_no_baseline_lets_the_cells_be_asked_for_again(body: bytes) -> None:
    daemon = EdgeDaemon(BASELINE)
    bench = EdgeBench(daemon)
    daemon.answer = lambda _: Response(status=409, body=body)
    bench.log(numbers(5), {})
    bench.run(62.0)
    assert len(daemon.fetched) == 2
    assert bench.buffer.stats().gave_up == 5


def test_other_refusals_cost_their_batch_and_leave_the_cells_alone() -> None:
    daemon = EdgeDaemon(BASELINE)
    bench = EdgeBench(daemon)
    daemon.answer = lambda _: Response(status=422)
    bench.log(numbers(5), {})
    bench.run(62.0)
    assert len(daemon.fetched) == 1
    assert bench.buffer.stats().gave_up == 5


def test_a_batch_is_the_same_to_the_byte_however_often_it_is_sent() -> None:
    daemon = EdgeDaemon(BASELINE)
    bench = EdgeBench(daemon)
    answers: list[Response | Exception] = [OSError(), Response(status=503), TimeoutError()]
    daemon.answer = lambda posted: answers.pop(0) if answers else daemon.take(posted)
    bench.log(numbers(5), {})
    bench.run(70.0)
    assert len(daemon.posted) == 4
    assert len({posted.raw for posted in daemon.posted}) == 1
    assert len({posted.headers["Idempotency-Key"] for posted in daemon.posted}) == 1
    assert daemon.rows == 5


def test_long_panes_leave_in_parts_once_an_hour() -> None:
    bench = EdgeBench(EdgeDaemon(simple(pane_seconds=DAY)))
    for number in range(5):
        assert (bench.daemon.posted == []) == (number < 4)
        bench.log(numbers(10, number), {})
        bench.shipper.step()
        bench.hop(1500.0)
    parts = [pane for posted in bench.daemon.taken for pane in posted.body["panes"]]
    assert len({pane["start"] for pane in parts}) == 1
    assert all(sum(rows for _, rows in pane["hours"]) == pane["rows"] for pane in parts)
    assert 0 < bench.daemon.rows < 50
    bench.hop(2.0 * DAY)
    assert bench.daemon.rows == 50


def test_rows_that_cannot_be_counted_cost_no_others() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.log(numbers(5), {})
    bench.log({"y": np.zeros(3)}, {})  # of no column
    bench.log({"x": np.zeros((2, 7), np.float32)}, {})  # too wide
    bench.log(numbers(4), {}, request_id=["a", "b\x00", "c", b"\xff"])
    bench.log(numbers(6), {}, time_ns="yesterday")
    bench.run(62.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.gave_up, stats.errors) == (7, 3 + 2 + 2, 6)
    bench.check_books()


def test_counts_that_find_no_room_beside_new_rows_cost_those() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), buffer_bytes=1 << 16)
    bench.shipper.step()
    for seed in range(200):
        bench.log(numbers(500, seed), {})
    bench.shipper.step()
    stats = bench.buffer.stats()
    assert stats.overflowed > 0
    bench.run(62.0)
    bench.check_books()
    assert bench.daemon.rows == bench.buffer.stats().kept > 0


def test_a_batch_of_counts_that_cannot_be_written_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    with monkeypatch.context() as patched:
        patched.setattr("driftd_sidecar._outbox.encode_counts", lambda *_: 1 / 0)
        bench.log(numbers(5), {})
        bench.run(62.0)
    bench.log(numbers(4), {})
    bench.run(62.0)
    stats = bench.buffer.stats()
    assert (stats.gave_up, stats.sent, stats.pending, stats.pending_bytes) == (5, 4, 0, 0)


def test_counts_that_may_have_been_taken_are_asked_after_even_when_the_baseline_is_another() -> None:
    daemon = EdgeDaemon(BASELINE)
    bench = EdgeBench(daemon)
    bench.shipper.step()
    daemon.answer = lambda posted: (daemon.take(posted), OSError("the answer was lost"))[1]
    bench.log(numbers(5), {})
    bench.run(62.0)
    bench.log(numbers(3), {})
    bench.run(62.0)
    (first,) = daemon.taken[:1]
    daemon.baseline = OTHER
    bench.hop(3600.0)  # the cells are asked for anew
    stats = bench.buffer.stats()
    assert (stats.gave_up, stats.pending) == (3, 5)
    daemon.answer = lambda posted: ok(5) if posted.raw == first.raw else Response(status=409)
    bench.run(40.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.gave_up, stats.pending) == (5, 3, 0)


def test_a_bug_in_counting_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.log(numbers(5), {})
    bench.shipper.step()
    assert bench.shipper._edge is not None
    assert bench.shipper._edge._counter is not None
    monkeypatch.setattr(bench.shipper._edge._counter, "count", lambda *_: 1 / 0)
    bench.run(62.0)
    stats = bench.buffer.stats()
    assert (stats.errors, stats.pending, stats.pending_bytes) == (5, 0, 0)


def test_rows_that_are_counted_together_do_not_fail_together(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.daemon.online = False
    for rows in (5, 4, 3):
        bench.log(numbers(rows, rows), {})
        bench.run(62.0)

    def fragile(table: Table, cells: Cells) -> Frame:
        if table.rows in (4, 12):
            raise MemoryError
        return frame(table, cells)

    monkeypatch.setattr("driftd_sidecar._edge.frame", fragile)
    bench.daemon.online = True
    bench.run(62.0)
    stats = bench.buffer.stats()
    assert (stats.errors, stats.sent, stats.pending, stats.pending_bytes) == (4, 8, 0, 0)
    profiles = [posted.profile(BASELINE, number) for posted in bench.daemon.taken for number in range(2)]
    for rows, profile in zip((5, 3), profiles, strict=True):
        expected = profile_rows(BASELINE, values_of(numbers(rows, rows)))
        np.testing.assert_array_equal(profile.counts, expected.counts)


def test_rows_of_unlike_tensors_or_of_another_rate_are_counted_apart_and_add_up() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), buffer_bytes=1 << 16, batch_bytes=1 << 13)
    bench.daemon.online = False
    given = [numbers(20, seed) for seed in range(40)]
    for number, each in enumerate(given):
        bench.log(
            each if number % 3 else {"x": each["x"].astype(np.float64)}, {}, time_ns=bench.clock.wall_ns()
        )
        bench.shipper.step()
    bench.daemon.online = True
    bench.run(62.0)
    bench.check_books()
    stats = bench.buffer.stats()
    assert stats.sampled_out > 0
    assert bench.daemon.rows == stats.kept == stats.sent
    assert (
        sum(pane["rows_seen"] for posted in bench.daemon.taken for pane in posted.body["panes"]) > stats.kept
    )


def test_large_panes_go_in_batches_of_their_own() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE, ("region",)), batch_bytes=8192)
    start = bench.clock.wall_ns()
    for number in range(6):
        bench.log(numbers(50, number), {}, time_ns=start - number * 60 * 10**9, tags={"region": "eu"})
    bench.run(62.0)
    assert bench.daemon.rows == 300
    assert 1 < len(bench.daemon.taken) < 6
    for posted in bench.daemon.taken:
        panes = posted.body["panes"]
        assert {pane["start"] for pane in panes if "segment" in pane} == {
            pane["start"] for pane in panes if "segment" not in pane
        }


def test_panes_of_many_slots_are_few_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftd_sidecar._edge._BATCH_SLOTS", 2 * BASELINE.layout.length + 1)
    bench = EdgeBench(EdgeDaemon(BASELINE))
    start = bench.clock.wall_ns()
    for number in range(5):
        bench.log(numbers(2, number), {}, time_ns=start - number * 60 * 10**9)
    bench.run(62.0)
    assert [len(posted.body["panes"]) for posted in bench.daemon.taken] == [2, 2, 1]


def test_closing_without_cells_drops_and_counts_what_waits() -> None:
    bench = EdgeBench(EdgeDaemon(None))
    bench.log(numbers(5), {})
    bench.run(5.0)
    assert bench.buffer.stats().pending == 5
    bench.shipper._abandon()
    stats = bench.buffer.stats()
    assert (stats.gave_up, stats.pending, stats.pending_bytes) == (5, 0, 0)


def test_closing_leaves_open_panes_to_the_spool(tmp_path: Path) -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), spool=Spool(tmp_path, 1 << 20, Notices()))
    bench.log(numbers(5), {})
    bench.run(5.0)
    bench.shipper._abandon()
    stats = bench.buffer.stats()
    assert (stats.gave_up, stats.spooled) == (0, 5)


def test_a_forked_child_counts_its_own_rows_only() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.log(numbers(5), {})
    bench.run(5.0)
    bench.shipper._collect(bench.clock.monotonic(), everything=False)
    bench.shipper.reset_after_fork()
    bench.log(numbers(3), {})
    bench.run(62.0)
    assert bench.daemon.rows == 3
    assert bench.buffer.stats().seen == 3


def test_a_version_without_a_baseline_waits_for_one() -> None:
    bench = EdgeBench(EdgeDaemon(None))
    bench.log(numbers(5), {})
    bench.run(100.0)
    bench.daemon.baseline = BASELINE
    bench.run(100.0)
    assert bench.daemon.rows == 5


def test_a_baseline_that_is_taken_away_ends_the_counting_until_there_is_another() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE))
    bench.run(1.0)
    bench.daemon.baseline = None
    bench.hop(3601.0)
    bench.log(numbers(5), {})
    bench.run(120.0)
    assert (bench.daemon.rows, bench.buffer.stats().pending) == (0, 5)
    bench.daemon.baseline = OTHER
    bench.run(120.0)
    assert bench.daemon.rows == 5


def test_tags_that_make_segments_from_now_on_lose_no_row() -> None:
    bench = EdgeBench(EdgeDaemon(BASELINE), tags={"region": "eu"})
    bench.run(1.0)
    bench.hop(3581.0)
    bench.log(numbers(5), {})
    bench.shipper.step()
    bench.daemon.segment_keys = ("region",)
    bench.daemon.document = lambda headers: bench.daemon.cells({})
    bench.hop(20.0)
    bench.log(numbers(5), {})
    bench.run(62.0)
    assert bench.daemon.rows == 10
    assert bench.buffer.stats().dropped == 0
    assert [pane.get("segment") for pane in bench.daemon.taken[-1].body["panes"]] == [None, "region=eu"]
