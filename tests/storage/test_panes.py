"""Panes, blocks, evaluations, evidence and cursors: what fold and evaluation write and read."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from storage import blocks, cursors, evaluations, models, panes, retention
from storage.blocks import BlockRow
from storage.cursors import Cursor, EvidenceRow
from storage.errors import ConstraintViolated, Immutable
from storage.evaluations import EvaluationRow
from storage.panes import PaneRow
from tests.storage.conftest import START, after


def pane(baseline_id: int, start: int, **changes: object) -> PaneRow:
    row = PaneRow(
        version_id=1,
        baseline_id=baseline_id,
        segment="",
        resolution=60,
        start=start,
        writer="daemon-1",
        rows=5,
        rows_seen=10,
        profile=b"counts %d" % start,
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # the tests name real fields


def block(baseline_id: int, start: int, **changes: object) -> BlockRow:
    row = BlockRow(
        version_id=1,
        baseline_id=baseline_id,
        segment="",
        start=start,
        length=60,
        writer="daemon-1",
        rows=5,
        events=b"events",
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # the tests name real fields


def evaluation(baseline_id: int, boundary: int, **changes: object) -> EvaluationRow:
    row = EvaluationRow(
        version_id=1,
        baseline_id=baseline_id,
        segment="",
        boundary=boundary,
        rows=5,
        states=b"\0",
        scores=b"scores",
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # the tests name real fields


def test_a_pane_is_replaced_whole_and_read_by_its_key(conn: Connection, baseline_id: int) -> None:
    panes.upsert(conn, [pane(baseline_id, 0), pane(baseline_id, 60)])
    newer = pane(baseline_id, 60, rows=9, rows_seen=18, profile=b"more")
    panes.upsert(conn, [newer, pane(baseline_id, 120)])
    panes.upsert(conn, [])
    keys = [pane(baseline_id, start).key for start in range(0, 300, 60)]
    assert panes.get(conn, keys) == {
        row.key: row for row in (pane(baseline_id, 0), newer, pane(baseline_id, 120))
    }
    assert panes.get(conn, []) == {}


def test_more_keys_than_fit_one_statement_are_found(conn: Connection, baseline_id: int) -> None:
    rows = [pane(baseline_id, start * 60) for start in range(450)]
    panes.upsert(conn, rows)
    assert panes.get(conn, [row.key for row in rows]) == {row.key: row for row in rows}


def test_a_window_is_half_open_and_ordered_and_of_one_baseline_segment_and_resolution(
    conn: Connection, add_baseline: Callable[[str], int]
) -> None:
    mine, other = add_baseline("a" * 64), add_baseline("b" * 64)
    inside = [pane(mine, 60), pane(mine, 60, writer="daemon-2"), pane(mine, 120)]
    outside = [
        pane(mine, 0),
        pane(mine, 180),
        pane(other, 60),
        pane(mine, 60, segment="region=eu"),
        pane(mine, 60, resolution=3600),
    ]
    panes.upsert(conn, [*reversed(inside), *outside])
    assert panes.window(conn, mine, "", 60, 60, 180) == inside
    assert panes.span(conn, mine, "", 60) == (0, 180)
    assert panes.span(conn, mine, "region=us", 60) is None
    assert [panes.next_start(conn, mine, "", 60, at) for at in (-5, 1, 60, 121, 181)] == [
        0,
        60,
        60,
        180,
        None,
    ]
    assert panes.segments(conn, mine, 60, start=0, end=61) == ["", "region=eu"]
    assert panes.segments(conn, mine, 60, start=61, end=200) == [""]


def test_a_pane_of_an_unknown_baseline_is_refused(conn: Connection, version_id: int) -> None:
    with pytest.raises(ConstraintViolated, match=r"(?i)foreign key constraint"):
        panes.upsert(conn, [pane(4711, 0)])


def test_an_open_block_takes_rows_and_a_closed_one_never_does(conn: Connection, baseline_id: int) -> None:
    blocks.upsert(conn, [block(baseline_id, 0), block(baseline_id, 60)])
    blocks.upsert(conn, [block(baseline_id, 0, rows=7, events=b"more")])
    assert blocks.close(conn, baseline_id, "", upto=119) == 1
    assert blocks.close(conn, baseline_id, "", upto=119) == 0
    with pytest.raises(Immutable, match="1 of 2 blocks are closed already"):
        blocks.upsert(conn, [block(baseline_id, 0, rows=8), block(baseline_id, 60, rows=8)])
    kept = block(baseline_id, 0, rows=7, events=b"more", closed=True)
    assert blocks.get(conn, [kept.key]) == {kept.key: kept}
    assert [row.closed for row in blocks.list_blocks(conn, baseline_id, "", start=0, end=120)] == [
        True,
        False,
    ]


def test_spans_with_a_closed_block_are_counted_once_over_baselines_and_writers(
    conn: Connection, baseline_id: int
) -> None:
    closed = [0, 60, 3540, 3600, 10_800]
    blocks.upsert(conn, [block(baseline_id, start, closed=True) for start in closed])
    blocks.upsert(conn, [block(baseline_id, 60, writer="daemon-2", closed=True), block(baseline_id, 7200)])
    blocks.upsert(conn, [block(baseline_id, 14_400, segment="region=eu", closed=True)])

    def counted(seconds: int, end: int = 20_000) -> int:
        return blocks.count_spans(conn, [baseline_id, 4711], start=0, end=end, seconds=seconds)

    assert (counted(60), counted(3600), counted(3600, end=3600)) == (5, 3, 1)
    assert blocks.count_spans(conn, [4711], start=0, end=20_000, seconds=60) == 0


def test_blocks_are_listed_by_span_length_and_state(conn: Connection, baseline_id: int) -> None:
    hour = block(baseline_id, 0, length=3600)
    done, open_, second = (
        block(baseline_id, 0, closed=True),
        block(baseline_id, 60),
        block(baseline_id, 60, writer="daemon-2"),
    )
    blocks.upsert(
        conn,
        [hour, second, open_, done, block(baseline_id, 60, segment="region=eu"), block(baseline_id, 120)],
    )

    def listed(length: int | None = None, closed: bool | None = None) -> list[BlockRow]:
        return blocks.list_blocks(conn, baseline_id, "", start=0, end=120, length=length, closed=closed)

    assert listed() == [done, hour, open_, second]
    assert listed(length=60) == [done, open_, second]
    assert listed(closed=True) == [done]
    assert listed(length=3600, closed=True) == []


def test_a_boundary_is_evaluated_once(conn: Connection, baseline_id: int) -> None:
    evaluations.add(conn, [])
    evaluations.add(conn, [evaluation(baseline_id, 60), evaluation(baseline_id, 60, segment="region=eu")])
    with conn.begin_nested() as savepoint:
        with pytest.raises(ConstraintViolated, match=r"(?i)unique constraint.*evaluations"):
            evaluations.add(conn, [evaluation(baseline_id, 120), evaluation(baseline_id, 60)])
        savepoint.rollback()
    assert evaluations.latest(conn, baseline_id, "") == evaluation(baseline_id, 60)
    assert evaluations.segments(conn, baseline_id, since=60) == ["", "region=eu"]
    assert evaluations.segments(conn, baseline_id, since=61) == []


def test_evaluations_between_are_those_of_the_panes_in_the_span(conn: Connection, baseline_id: int) -> None:
    evaluations.add(conn, [evaluation(baseline_id, boundary) for boundary in (240, 60, 180, 120)])

    def between(start: int, end: int, limit: int | None = None) -> list[int]:
        return [
            row.boundary
            for row in evaluations.between(conn, baseline_id, "", start=start, end=end, limit=limit)
        ]

    assert between(60, 180) == [120, 180]
    assert between(0, 1000, limit=3) == [60, 120, 180]
    assert evaluations.latest(conn, baseline_id, "region=eu") is None
    states = evaluations.states_between(conn, baseline_id, "", start=60, end=180)
    assert states == [(120, b"\0"), (180, b"\0")]


STEPS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**62), 2**62),
        st.none() | st.integers(0, 2**40),
        st.none() | st.integers(-(2**62), 2**62),
        st.none() | st.integers(0, 10**9),
    ),
    max_size=6,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_cursor_never_moves_back(
    conn: Connection, version_id: int, steps: Sequence[tuple[int | None, ...]]
) -> None:
    with conn.begin_nested() as savepoint:
        assert cursors.get(conn, 1) == Cursor(model_id=1)
        latest: list[int | None] = [None] * 4
        for step in steps:
            watermark, evaluated, newest, arrival = step
            cursors.put(
                conn,
                Cursor(
                    model_id=1,
                    watermark_ns=watermark,
                    evaluated_upto=evaluated,
                    newest_event_ns=newest,
                    last_arrival_at=None if arrival is None else after(arrival),
                ),
            )
            latest = [
                max((v for v in (old, new) if v is not None), default=None)
                for old, new in zip(latest, step, strict=True)
            ]
        expected = Cursor(
            model_id=1,
            watermark_ns=latest[0],
            evaluated_upto=latest[1],
            newest_event_ns=latest[2],
            last_arrival_at=None if latest[3] is None else after(latest[3]),
        )
        assert cursors.get(conn, 1) == expected
        assert cursors.list_cursors(conn) == ([expected] if steps else [])
        savepoint.rollback()


def test_evidence_is_put_forward_or_reset_but_never_put_back(conn: Connection, baseline_id: int) -> None:
    assert cursors.get_evidence(conn, baseline_id, "") is None
    first = EvidenceRow(
        baseline_id=baseline_id, segment="", version_id=1, upto=60, state=b"one", terms=b"minutes"
    )
    cursors.put_evidence(conn, first)
    cursors.put_evidence(conn, replace(first, state=b"reset"))
    later = replace(first, upto=120, state=b"two")
    cursors.put_evidence(conn, later)
    with pytest.raises(
        Immutable, match=f"evidence of baseline {baseline_id}, segment '', is already past 60"
    ):
        cursors.put_evidence(conn, first)
    assert cursors.get_evidence(conn, baseline_id, "") == later
    elsewhere = replace(first, segment="region=eu")
    cursors.put_evidence(conn, elsewhere)
    assert cursors.get_evidence(conn, baseline_id, "region=eu") == elsewhere


def test_retention_takes_only_what_is_old_a_chunk_at_a_time(conn: Connection, baseline_id: int) -> None:
    panes.upsert(
        conn, [pane(baseline_id, start, resolution=r) for start in range(0, 600, 60) for r in (60, 3600)]
    )
    assert retention.drop_panes_before(conn, 60, 300, limit=100) == 0  # none is part of an hour yet
    keys = [pane(baseline_id, start).key for start in range(0, 600, 60)]
    assert panes.mark_rolled(conn, keys) == 10
    assert panes.mark_rolled(conn, keys[:2]) == 0
    assert retention.drop_panes_before(conn, 60, 300, limit=3) == 3
    assert retention.drop_panes_before(conn, 60, 300, limit=3) == 2
    assert panes.span(conn, baseline_id, "", 60) == (300, 540)
    assert panes.span(conn, baseline_id, "", 3600) == (0, 540)

    blocks.upsert(conn, [block(baseline_id, start, closed=start < 180) for start in range(0, 600, 60)])
    assert retention.drop_blocks_before(conn, 300, limit=100) == 3  # the others are still open
    assert len(blocks.list_blocks(conn, baseline_id, "", start=0, end=600)) == 7

    evaluations.add(conn, [evaluation(baseline_id, boundary) for boundary in range(1800, 9001, 600)])
    assert retention.drop_evaluations_before(conn, 7800, limit=100, keep_hourly=True) == 8
    left = [row.boundary for row in evaluations.between(conn, baseline_id, "", start=0, end=10_000)]
    assert left == [3600, 7200, 7800, 8400, 9000]
    assert retention.drop_evaluations_before(conn, 7200, limit=100) == 1


def test_two_writers_of_one_pane_do_not_overwrite_each_other(conn: Connection, baseline_id: int) -> None:
    panes.upsert(conn, [pane(baseline_id, 0, rows=3), pane(baseline_id, 0, rows=4, writer="daemon-2")])
    assert [row.rows for row in panes.window(conn, baseline_id, "", 60, 0, 60)] == [3, 4]


def test_a_model_keeps_its_name_and_time(conn: Connection) -> None:
    assert models.ensure_model(conn, "Größe «ü»", now=START).name == "Größe «ü»"
